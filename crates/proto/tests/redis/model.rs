//! Random operations on a link whose server handles commands in order, with any delay between them.
//!
//! Promise 1 is checked after every step: a name that the link has reported as confirmed (or
//! "already"), and that is still wanted, is subscribed on the server at that moment, and each of
//! its messages arrives once. When everything is quiet, the server has exactly the names that are
//! wanted.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proto::redis::{Role, Subscribed, SubscriptionKind};

use super::pair::{Pair, Told};

const NAMES: u32 = 6;

#[derive(Clone, Debug)]
enum Operation {
    Subscribe(u32),
    Unsubscribe(u32),
    /// The link's output reaches the server.
    Send,
    /// The server handles one command.
    TakeOne,
    /// This many bytes of the replies reach the link.
    Deliver(usize),
    /// Somebody publishes to a name.
    Publish(u32),
    Wait(u64),
    Cut,
    /// The ACL changes for a name.
    Forbid(u32, bool),
    /// Everything in transit arrives.
    Settle,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let name = 0..NAMES;
    let operation = prop_oneof![
        8 => name.clone().prop_map(Operation::Subscribe),
        8 => name.clone().prop_map(Operation::Unsubscribe),
        6 => Just(Operation::Send),
        8 => Just(Operation::TakeOne),
        8 => (1_usize..120).prop_map(Operation::Deliver),
        4 => name.clone().prop_map(Operation::Publish),
        4 => prop_oneof![Just(500), Just(2_000)].prop_map(Operation::Wait),
        1 => Just(Operation::Cut),
        1 => (name, any::<bool>()).prop_map(|(name, on)| Operation::Forbid(name, on)),
        2 => Just(Operation::Settle),
    ];
    prop::collection::vec(operation, 1..120)
}

/// Odd numbers are patterns, so that both kinds mix.
fn kind(name: u32) -> SubscriptionKind {
    if name % 2 == 1 {
        SubscriptionKind::Pattern
    } else {
        SubscriptionKind::Channel
    }
}

fn spelled(name: u32) -> String {
    format!("name{name}")
}

struct World {
    pair: Pair,
    wanted: BTreeSet<u32>,
    /// Wanted, and reported as confirmed.
    confirmed: BTreeSet<u32>,
    /// Names whose ids the link holds.
    held: BTreeSet<u32>,
    /// Messages that must arrive, per name, in order.
    due: BTreeMap<u32, Vec<String>>,
    published: u32,
}

impl World {
    fn new() -> Self {
        Self {
            pair: Pair::new(Role::Subscriber, "redis://h"),
            wanted: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            held: BTreeSet::new(),
            due: BTreeMap::new(),
            published: 0,
        }
    }

    fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Subscribe(name) => self.subscribe(name),
            Operation::Unsubscribe(name) => self.unsubscribe(name),
            Operation::Send => {
                self.pair.is_connected.then(|| self.pair.send());
            }
            Operation::TakeOne => {
                self.pair.server.take_command();
            }
            Operation::Deliver(count) => {
                self.pair.is_connected.then(|| self.pair.deliver(count));
            }
            Operation::Publish(name) => self.publish(name),
            Operation::Wait(ms) => self.pair.wait_in_silence(ms),
            Operation::Cut if self.pair.is_connected => self.pair.cut("reset"),
            Operation::Cut => {}
            Operation::Forbid(name, true) => {
                self.pair
                    .server
                    .forbidden
                    .insert(spelled(name).into_bytes());
            }
            Operation::Forbid(name, false) => {
                self.pair.server.forbidden.remove(spelled(name).as_bytes());
            }
            Operation::Settle => self.pair.run(),
        }
        if self.pair.wants_socket {
            self.pair.connect();
        }
        self.listen();
        self.check_promise();
    }

    fn subscribe(&mut self, name: u32) {
        self.wanted.insert(name);
        self.held.insert(name);
        let subscribed = self.pair.want(kind(name), &spelled(name), name);
        assert_eq!(subscribed == Subscribed::Away, !self.pair.link.is_up());
        if subscribed == Subscribed::Already {
            self.confirmed.insert(name);
        } else {
            assert!(
                !self.confirmed.contains(&name),
                "{name} was confirmed, now {subscribed:?}"
            );
        }
    }

    fn unsubscribe(&mut self, name: u32) {
        self.wanted.remove(&name);
        self.confirmed.remove(&name);
        self.due.remove(&name);
        self.pair
            .link
            .unsubscribe(kind(name), spelled(name).as_bytes(), self.pair.now);
        self.pair.drain();
    }

    fn publish(&mut self, name: u32) {
        self.published += 1;
        let payload = self.published.to_string();
        self.pair
            .server
            .publish(spelled(name).as_bytes(), payload.as_bytes());
        if self.confirmed.contains(&name) {
            self.due.entry(name).or_default().push(payload);
        }
    }

    fn listen(&mut self) {
        for told in self.pair.told() {
            match told {
                Told::Confirmed(name) => {
                    assert!(self.wanted.contains(&name), "{name} is not wanted");
                    assert!(self.confirmed.insert(name), "{name} is confirmed twice");
                }
                Told::Released(name) => {
                    assert!(
                        !self.wanted.contains(&name),
                        "{name} is wanted and released"
                    );
                    assert!(self.held.remove(&name), "{name} is released twice");
                }
                Told::Refused(name) => assert!(!self.confirmed.contains(&name)),
                Told::Down(_) => {
                    self.confirmed.clear();
                    self.due.clear();
                }
                Told::Message(name, .., payload) | Told::Pmessage(name, .., payload) => {
                    self.hear(name, &payload);
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, name: u32, payload: &str) {
        assert!(
            self.held.contains(&name),
            "a message for {name}, which is released"
        );
        let Some(due) = self.due.get_mut(&name).filter(|due| !due.is_empty()) else {
            return;
        };
        // A message published before the confirmation may still come first.
        if payload.parse::<u32>().unwrap() >= due[0].parse::<u32>().unwrap() {
            assert_eq!(due.remove(0), payload, "{name} missed a message");
        }
    }

    fn has(&self, name: u32) -> bool {
        let set = match kind(name) {
            SubscriptionKind::Channel => &self.pair.server.channels,
            SubscriptionKind::Pattern => &self.pair.server.patterns,
        };
        set.contains(spelled(name).as_bytes())
    }

    fn check_promise(&self) {
        if self.pair.is_connected {
            for name in &self.confirmed {
                assert!(
                    self.has(*name),
                    "{name} is confirmed and the server does not have it"
                );
            }
        }
    }

    /// Everything arrives, and enough time passes for all lingering names to be released.
    fn check_quiet(&mut self) {
        self.pair.server.forbidden.clear();
        for _ in 0..3 {
            self.pair.wait(10_000);
            self.listen();
        }
        assert!(self.pair.link.is_up());
        assert!(!self.pair.link.owes());
        for name in self.wanted.clone() {
            self.subscribe(name);
        }
        self.pair.run();
        self.listen();
        assert_eq!(self.confirmed, self.wanted);
        assert_eq!(self.held, self.wanted);
        for name in 0..NAMES {
            assert_eq!(
                self.has(name),
                self.wanted.contains(&name),
                "{name} at the server"
            );
        }
        assert!(
            self.due.values().all(Vec::is_empty),
            "messages are missing: {:?}",
            self.due
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn confirmed_means_subscribed_whatever_is_under_way(operations in operations()) {
        let mut world = World::new();
        for operation in &operations {
            world.perform(operation);
        }
        world.check_quiet();
    }
}
