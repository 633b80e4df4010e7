//! A link and its server with a wire between them, in virtual time.

use std::sync::Arc;

use bytes::Bytes;
use proto::redis::{Event, Link, Role, Subscribed, SubscriptionKind, url};

use super::server::FakeRedis;

/// What the link has reported, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Disconnect(String),
    Up(Option<u64>),
    Down(String),
    Warning(String),
    Confirmed(u32),
    Refused(u32),
    Released(u32),
    Restored(u64),
    Message(u32, String, String),
    Pmessage(u32, String, String, String),
    Published(u64, i64),
    NotPublished(u64, String),
    Probe(String, String),
}

pub struct Pair {
    pub link: Link,
    pub server: FakeRedis,
    pub now: u64,
    pub is_connected: bool,
    /// The link has asked for a socket.
    pub wants_socket: bool,
    /// Probes are published and answered, as a publisher link would do.
    pub carries_probes: bool,
    /// After a message, `each_of` is asked for those that follow it.
    pub hears_runs: bool,
    told: Vec<Told>,
}

impl Pair {
    /// A link at its first attempt to connect.
    pub fn new(role: Role, at: &str) -> Self {
        let server = Arc::new(url::parse(at).unwrap());
        let mut pair = Self {
            link: Link::new(role, server, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            server: FakeRedis::default(),
            now: 1_000_000,
            is_connected: false,
            wants_socket: false,
            carries_probes: true,
            hears_runs: true,
            told: Vec::new(),
        };
        pair.link.handle_timeout(pair.now);
        pair.drain();
        assert!(pair.wants_socket, "a new link wants a socket at once");
        pair
    }

    /// A subscriber that is up.
    pub fn subscriber() -> Self {
        let mut pair = Self::new(Role::Subscriber, "redis://h");
        pair.connect();
        pair.run();
        pair.expect(&[Told::Up(None)]);
        pair
    }

    /// A publisher that is up.
    pub fn publisher() -> Self {
        let mut pair = Self::new(Role::Publisher, "redis://h");
        pair.connect();
        pair.run();
        pair.expect(&[Told::Up(None)]);
        pair
    }

    pub fn connect(&mut self) {
        assert!(std::mem::take(&mut self.wants_socket));
        self.is_connected = true;
        let kept = std::mem::take(&mut self.server);
        self.server.forbidden = kept.forbidden;
        self.server.errors = kept.errors;
        self.server.receivers = kept.receivers;
        self.link.handle_connected(self.now);
        self.drain();
    }

    /// The connection breaks.
    pub fn cut(&mut self, cause: &str) {
        self.is_connected = false;
        self.link.handle_disconnected(self.now, cause);
        self.drain();
    }

    /// Lets both sides talk until neither has anything to say.
    pub fn run(&mut self) {
        while self.is_connected && (self.send() + self.serve() + self.deliver(usize::MAX)) > 0 {}
    }

    /// The link's output reaches the server, which does not handle it yet.
    pub fn send(&mut self) -> usize {
        let output = self.link.output().to_vec();
        self.server.receive(&output);
        self.link.handle_written(output.len(), self.now);
        self.drain();
        output.len()
    }

    /// The server handles all commands that have reached it.
    pub fn serve(&mut self) -> usize {
        let mut count = 0;
        while self.server.take_command() {
            count += 1;
        }
        count
    }

    /// At most `count` bytes of the replies reach the link.
    pub fn deliver(&mut self, count: usize) -> usize {
        let room = self.link.read_buf();
        let count = count.min(room.len()).min(self.server.replies.len());
        room[..count].copy_from_slice(&self.server.replies[..count]);
        self.server.replies.drain(..count);
        if count > 0 {
            self.link.handle_read(count, self.now);
            self.drain();
        }
        count
    }

    /// Time passes, both sides talk, deadlines are kept. If the link asks for a socket, it gets
    /// one.
    pub fn wait(&mut self, ms: u64) {
        self.pass(ms, true);
    }

    /// Time passes and deadlines are kept, but nothing moves on the wire.
    pub fn wait_in_silence(&mut self, ms: u64) {
        self.pass(ms, false);
    }

    fn pass(&mut self, ms: u64, is_wired: bool) {
        let end = self.now + ms;
        loop {
            if is_wired {
                if self.wants_socket {
                    self.connect();
                }
                self.run();
            }
            match self.link.deadline().filter(|at| *at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.link.handle_timeout(self.now);
                    self.drain();
                    let next = self.link.deadline();
                    assert!(next.is_none_or(|next| next > self.now), "a busy loop");
                }
                None => break,
            }
        }
        self.now = end;
    }

    pub fn subscribe(&mut self, name: &str, channel: u32) -> Subscribed {
        self.want(SubscriptionKind::Channel, name, channel)
    }

    pub fn want(&mut self, kind: SubscriptionKind, name: &str, channel: u32) -> Subscribed {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let subscribed = self.link.subscribe(kind, &name, channel, self.now);
        self.drain();
        subscribed
    }

    pub fn unsubscribe(&mut self, name: &str) {
        self.link
            .unsubscribe(SubscriptionKind::Channel, name.as_bytes(), self.now);
        self.drain();
    }

    /// Everything reported since the last call.
    pub fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    #[track_caller]
    pub fn expect(&mut self, expected: &[Told]) {
        assert_eq!(self.told(), expected);
    }

    pub fn drain(&mut self) {
        while let Some(event) = self.link.next_event() {
            let told = match event {
                Event::Connect => {
                    self.wants_socket = true;
                    continue;
                }
                Event::Probe { channel, payload } if self.carries_probes => {
                    self.server.publish(&channel, &payload);
                    self.link.handle_probe_reply(Ok(1), self.now);
                    continue;
                }
                event => keep(event),
            };
            if let Told::Disconnect(_) = told {
                self.is_connected = false;
            }
            let heard = match told {
                Told::Message(channel, ..) if self.hears_runs => Some(channel),
                _ => None,
            };
            self.told.push(told);
            if let Some(channel) = heard {
                let told = &mut self.told;
                self.link.each_of(channel, |name, payload| {
                    told.push(Told::Message(channel, text(name), text(payload)));
                });
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn keep(event: Event<'_>) -> Told {
    match event {
        Event::Connect => unreachable!("kept by the pair"),
        Event::Disconnect { cause } => Told::Disconnect(cause.into_owned()),
        Event::Up { was_down_for } => Told::Up(was_down_for),
        Event::Down { cause } => Told::Down(cause.into_owned()),
        Event::Warning { reason } => Told::Warning(reason),
        Event::Confirmed { channel } => Told::Confirmed(channel),
        Event::Refused { channel, .. } => Told::Refused(channel),
        Event::Released { channel } => Told::Released(channel),
        Event::Restored { gap_ms } => Told::Restored(gap_ms),
        Event::Message {
            channel,
            name,
            pattern: None,
            payload,
        } => Told::Message(channel, text(name), text(payload)),
        Event::Message {
            channel,
            name,
            pattern: Some(pattern),
            payload,
        } => Told::Pmessage(channel, text(pattern), text(name), text(payload)),
        Event::Published { token, receivers } => Told::Published(token, receivers),
        Event::NotPublished { token, reason } => Told::NotPublished(token, reason),
        Event::Probe { channel, payload } => Told::Probe(text(&channel), text(&payload)),
    }
}
