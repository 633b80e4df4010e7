//! Events of the links to Redis.

use fanout::{ChannelId, ClientId};
use proto::redis::{Event, PROBE_TOKEN, Role};

use super::Hub;
use super::delivery::Delivery;
use crate::broker::redis;
use crate::outside::{Level, Outside, PeerId};
use crate::session::{Leaving, life};
use crate::upgrade::Refused;

/// What a link said, once its buffer is no longer borrowed.
enum Said {
    Connect,
    Disconnect,
    Up(Option<u64>),
    Down(String),
    Warning(String),
    Confirmed(u32),
    Refused(u32, String),
    Released(u32),
    Restored,
    Answered(u64, Result<i64, String>),
    Probe(bytes::Bytes, bytes::Bytes),
}

impl<O: Outside> Hub<O> {
    /// A link's socket has something to read, or is connected.
    pub fn peer_readable(&mut self, id: PeerId) {
        let now = self.out.now();
        let (broker, role) = redis::of_peer(id);
        let Some(redis) = self.brokers.get_mut(broker) else {
            return;
        };
        let open = redis.wire(role).advance(now);
        self.hear_link(broker, role, now);
        let (mut read, mut may_be_more) = (0, open);
        while may_be_more {
            if role == Role::Subscriber && self.has_heard_enough() {
                let wire = self.brokers[broker].wire(role);
                wire.read_again();
                wire.link.handle_unread(now);
                break;
            }
            may_be_more = self.brokers[broker].wire(role).read(&mut read, now);
            self.hear_link(broker, role, now);
        }
        self.brokers[broker].wire(role).write(now);
        self.hear_link(broker, role, now);
        self.flush();
    }

    /// A link's socket takes more, or is connected.
    pub fn peer_writable(&mut self, id: PeerId) {
        let now = self.out.now();
        let (broker, role) = redis::of_peer(id);
        let Some(redis) = self.brokers.get_mut(broker) else {
            return;
        };
        let wire = redis.wire(role);
        if wire.is_quiet() {
            // epoll tells it with every message that comes.
            return;
        }
        if wire.advance(now) {
            wire.write(now);
        }
        self.hear_link(broker, role, now);
        self.brokers[broker].wire(role).write(now);
    }

    /// `worker_shutdown_timeout`: the link ends and does not come back.
    pub fn peer_told_to_close(&mut self, id: PeerId) {
        let (broker, role) = redis::of_peer(id);
        if let Some(redis) = self.brokers.get_mut(broker) {
            let now = self.out.now();
            redis.wire(role).end("worker_shutdown_timeout", now);
            self.hear_link(broker, role, now);
        }
    }

    /// Does what a link says until it has said all, or so much that clients come first: the rest is
    /// heard in the next round.
    pub(super) fn hear_link(&mut self, broker: usize, role: Role, now: u64) {
        if broker >= self.brokers.len() {
            return;
        }
        loop {
            if role == Role::Subscriber && self.has_heard_enough() {
                self.turn = true;
                return;
            }
            let wire = self.brokers[broker].wire(role);
            let said = match wire.next_event() {
                None => return,
                Some(Event::Message {
                    channel,
                    name,
                    pattern,
                    payload,
                }) => {
                    let mut delivery = Delivery {
                        channel: ChannelId(channel),
                        registry: &mut self.registry,
                        wires: &mut self.wires,
                        counters: &mut self.counters,
                    };
                    delivery.one(name, pattern, payload);
                    delivery.rest(&mut wire.link);
                    if self.wires.dropped().total() > self.counters.dropped() {
                        self.report_dropped();
                    }
                    continue;
                }
                Some(Event::Connect) => Said::Connect,
                Some(Event::Disconnect { .. }) => Said::Disconnect,
                Some(Event::Up { was_down_for }) => Said::Up(was_down_for),
                Some(Event::Down { cause }) => Said::Down(cause.into_owned()),
                Some(Event::Warning { reason }) => Said::Warning(reason),
                Some(Event::Confirmed { channel }) => Said::Confirmed(channel),
                Some(Event::Refused { channel, reason }) => Said::Refused(channel, reason),
                Some(Event::Released { channel }) => Said::Released(channel),
                Some(Event::Restored { .. }) => Said::Restored,
                Some(Event::Published { token, receivers }) => Said::Answered(token, Ok(receivers)),
                Some(Event::NotPublished { token, reason }) => Said::Answered(token, Err(reason)),
                Some(Event::Probe { channel, payload }) => Said::Probe(channel, payload),
            };
            self.obey(broker, role, said, now);
        }
    }

    fn obey(&mut self, broker: usize, role: Role, said: Said, now: u64) {
        match said {
            Said::Connect => self.brokers[broker].wire(role).connect(&mut self.out, now),
            Said::Disconnect => self.brokers[broker].wire(role).disconnect(),
            Said::Up(was_down_for) => self.link_up(broker, role, was_down_for),
            Said::Down(cause) => self.link_down(broker, role, &cause, now),
            Said::Warning(reason) => self.out.log(
                Level::Warn,
                format_args!("{}: {reason}", self.main.brokers[broker]),
            ),
            Said::Confirmed(channel) => self.channel_confirmed(ChannelId(channel)),
            Said::Refused(channel, reason) => {
                self.channel_refused(ChannelId(channel), &reason, now)
            }
            Said::Released(channel) => {
                // A handshake may have asked for the name again before this was heard: then the
                // link knows the new wish by the same id.
                if !self.waiting.wants(ChannelId(channel)) {
                    self.registry.release_channel(ChannelId(channel));
                }
            }
            Said::Restored => self.link_restored(broker, now),
            Said::Answered(PROBE_TOKEN, outcome) => {
                let outcome = outcome
                    .as_ref()
                    .map(|&receivers| receivers)
                    .map_err(String::as_str);
                let link = &mut self.brokers[broker].wire(Role::Subscriber).link;
                link.handle_probe_reply(outcome, now);
                self.turn = true;
            }
            Said::Answered(token, outcome) => self.publish_answered(broker, token, outcome),
            Said::Probe(channel, payload) => {
                let publisher = &mut self.brokers[broker].wire(Role::Publisher).link;
                if publisher
                    .publish(&channel, &payload, PROBE_TOKEN, now)
                    .is_err()
                {
                    let link = &mut self.brokers[broker].wire(Role::Subscriber).link;
                    link.handle_probe_reply(Err("publisher link is away"), now);
                }
                self.turn = true;
            }
        }
    }

    fn link_up(&mut self, broker: usize, role: Role, was_down_for: Option<u64>) {
        self.brokers[broker].wire(role).is_down = false;
        let server = &self.main.brokers[broker];
        match was_down_for {
            None => self.out.log(
                Level::Info,
                format_args!("{server}: {} link is up", name(role)),
            ),
            Some(ms) => self.out.log(
                Level::Notice,
                format_args!("{server}: {} link is back after {ms} ms", name(role)),
            ),
        }
        if role == Role::Publisher {
            self.end_early_posts(broker as u16);
        }
        self.turn = true;
    }

    fn link_down(&mut self, broker: usize, role: Role, cause: &str, now: u64) {
        self.brokers[broker].wire(role).is_down = true;
        let server = &self.main.brokers[broker];
        self.out.log(
            Level::Error,
            format_args!("{server}: {} link is down: {cause}", name(role)),
        );
        if role == Role::Publisher {
            self.end_early_posts(broker as u16);
        }
        if role == Role::Subscriber {
            for number in self.waiting.at_broker(broker as u16) {
                self.refuse(number, Refused::BrokerAway);
            }
            self.link_lost(broker, now);
        }
        self.turn = true;
    }

    /// Redis's ACL forbids a channel: who waits for it gets 403, who has it 1008. A withdrawn ACL may
    /// forbid thousands of them at once: the wheel closes their clients, so many at a time.
    fn channel_refused(&mut self, channel: ChannelId, reason: &str, now: u64) {
        self.report_refused(channel, reason, now);
        for number in self.waiting.waiting_for(channel) {
            self.refuse(number, Refused::Forbidden);
        }
        let clients: Vec<ClientId> = self.registry.listeners_of(channel).collect();
        for id in clients {
            self.lead_out(id, Leaving::Forbidden, now);
        }
        self.unsubscribe_unless_wanted(channel);
    }

    fn publish_answered(&mut self, broker: usize, token: u64, outcome: Result<i64, String>) {
        let redis = &mut self.brokers[broker];
        redis.unanswered = redis.unanswered.saturating_sub(1);
        if let Err(cause) = &outcome {
            self.counters.publish_failed += 1;
            self.report_not_published(cause);
        }
        match (life::client_of(token), outcome) {
            (Some((id, life)), Err(cause)) => self.note_untold(id, life, &cause),
            (Some(_), Ok(_)) => {}
            (None, outcome) => self.post_answered(token, outcome),
        }
        if !self.paused.is_empty(broker) || self.early_posts.len() > 0 {
            self.turn = true;
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Subscriber => "subscriber",
        Role::Publisher => "publisher",
    }
}
