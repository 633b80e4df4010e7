//! The life of one connection to Redis, and of the next one when it is lost.
//!
//! ```text
//!              deadline          handle_connected      greeting answered
//!   Waiting ─────────────> Connecting ────────> Greeting ───────────────> Up
//!      ^     Event::Connect    │                   │            Event::Up │
//!      └───────────────────────┴───────────────────┴──────────────────────┘
//!        handle_disconnected, or a fault found here (Event::Disconnect)
//! ```
//!
//! # How to drive it
//! After every call that takes `&mut self` - what happened (`handle_*`) and commands alike - drain
//! [`next_event`](Link::next_event), send [`output`](Link::output), and set a timer to
//! [`deadline`](Link::deadline). Several calls may share one such round: what they ask for then
//! goes out in common commands. A new link wants its first `handle_timeout` at once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::backoff::Backoff;
use super::command;
use super::probe::{PROBE_PREFIX, Probe};
use super::read_buffer::ReadBuffer;
use super::resp::{self, Change, LINE_END, Message, Parsed, Reply, Value, Verb};
use super::subscriptions::{Kind, Outcome, Subscribed, Subscriptions};
use super::url::Server;
use super::write_buffer::WriteBuffer;

/// The token with which the caller publishes what [`Event::Probe`] asks for.
pub const PROBE_TOKEN: u64 = u64::MAX;
/// How the reason of [`Event::NotPublished`] begins where the link was lost.
pub const LINK_LOST: &str = "link lost";
/// A connection must be there within this time, TLS included, in milliseconds.
pub const CONNECT_MS: u64 = 5_000;
/// A server that owes a reply may be silent for this long, in milliseconds.
pub const REPLY_MS: u64 = 10_000;
/// A server that owes the answer to a PING may be silent for this long, in milliseconds.
pub const PONG_MS: u64 = 5_000;
/// How often a link proves that it works, in milliseconds.
pub const PROOF_MS: u64 = 10_000;
/// Unsent publishes may take this many bytes.
pub const MAX_UNSENT: usize = 16 << 20;
/// So many publishes may be unanswered.
pub const MAX_UNANSWERED: usize = 65_536;

/// What a link is for: in RESP2 a connection that subscribes can do little else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It subscribes, and messages come in.
    Subscriber,
    /// It publishes.
    Publisher,
}

/// Why a message was not taken for publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// The link is down.
    Away,
    /// [`MAX_UNSENT`] or [`MAX_UNANSWERED`] is reached.
    QueueFull,
}

/// What the caller must do or may want to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Open a socket now; then `handle_connected` or `handle_disconnected`.
    Connect,
    /// Close the socket; the link has scheduled the next one already.
    Disconnect {
        /// What is wrong with this connection.
        cause: Cow<'a, str>,
    },
    /// The link is usable: one log line.
    Up {
        /// Milliseconds since it was found down; `None` at the start.
        was_down_for: Option<u64>,
    },
    /// The link was lost, or the first attempt failed: one log line. Later attempts are silent.
    Down {
        /// Why.
        cause: Cow<'a, str>,
    },
    /// Something an operator should mend, though the link goes on: one log line.
    Warning {
        /// What.
        reason: String,
    },
    /// The server has confirmed a subscription; again after each reconnect.
    Confirmed {
        /// The caller's id of the name.
        channel: u32,
    },
    /// The server refuses a name. It is asked for again if it is subscribed again, and after a
    /// reconnect; the caller gives it up by `unsubscribe`.
    Refused {
        /// The caller's id of the name.
        channel: u32,
        /// The server's words.
        reason: String,
    },
    /// The link has forgotten a name that was unsubscribed: its id may name another one now.
    /// Each name ends so, once.
    Released {
        /// The caller's id of the name.
        channel: u32,
    },
    /// All that was confirmed before the link was lost is confirmed (or refused) again.
    Restored {
        /// Messages of this time, in milliseconds, may have been missed.
        gap_ms: u64,
    },
    /// A message. Names that are being unsubscribed still have some.
    Message {
        /// The caller's id of the channel, or of the pattern that matched.
        channel: u32,
        /// The channel it was published to.
        name: &'a [u8],
        /// The pattern that matched.
        pattern: Option<&'a [u8]>,
        /// What was published.
        payload: &'a [u8],
    },
    /// The server has taken a message.
    Published {
        /// The caller's.
        token: u64,
        /// How many connections (not clients) it was delivered to.
        receivers: i64,
    },
    /// The server has refused a message, or the link was lost before it said anything: then the
    /// message may have been published, or not.
    NotPublished {
        /// The caller's.
        token: u64,
        /// The server's words, or how the link was lost.
        reason: String,
    },
    /// Publish this by the publisher link to the same server, with [`PROBE_TOKEN`], and report
    /// the outcome by `handle_probe_reply`.
    Probe {
        /// The channel.
        channel: Bytes,
        /// The payload.
        payload: Bytes,
    },
}

/// One link. See the [module](self) for how to drive it.
// No `Debug`: what is unsent may hold the password.
pub struct Link {
    role: Role,
    server: Arc<Server>,
    phase: Phase,
    /// The latest time heard of.
    now: u64,
    backoff: Backoff,
    incoming: ReadBuffer,
    outgoing: WriteBuffer,
    /// What the server owes, in the order it was asked.
    owed: VecDeque<Owed>,
    /// Since when the server has been silent although it owed something.
    silent_since: u64,
    heard_at: u64,
    /// When to prove next that the link works.
    proof_at: u64,
    events: VecDeque<Event<'static>>,
    subscriptions: Subscriptions,
    probe: Probe,
    is_probe_warned: bool,
    unanswered_publishes: usize,
    down_since: Option<u64>,
    gap_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: u64 },
    Connecting { until: u64 },
    Greeting,
    Up { since: u64 },
}

/// One reply that is due, or all those of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Auth { with_user: bool },
    Select,
    Greeting,
    ClientName,
    ProbeSubscription,
    Pong,
    Fence { round: u64 },
    Batch,
    Publish { token: u64 },
}

/// What looking at the next reply led to.
enum Step {
    Nothing,
    Handled,
    Deliver {
        channel: u32,
        name: Range<usize>,
        pattern: Option<Range<usize>>,
        payload: Range<usize>,
    },
}

impl Link {
    /// A link that is not yet connected and wants to be. `seed` is 128 random bits, different for
    /// each link of all machines: it names the probe's channel.
    pub fn new(role: Role, server: Arc<Server>, seed: u128) -> Self {
        Self {
            role,
            server,
            phase: Phase::Waiting { until: 0 },
            now: 0,
            backoff: Backoff::new(seed as u64 ^ (seed >> 64) as u64),
            incoming: ReadBuffer::new(),
            outgoing: WriteBuffer::default(),
            owed: VecDeque::new(),
            silent_since: 0,
            heard_at: 0,
            proof_at: 0,
            events: VecDeque::new(),
            subscriptions: Subscriptions::default(),
            probe: Probe::new(seed),
            is_probe_warned: false,
            unanswered_publishes: 0,
            down_since: None,
            gap_since: None,
        }
    }

    /// The socket is connected (and TLS established): logs in.
    pub fn handle_connected(&mut self, now: u64) {
        self.now = now;
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.phase = Phase::Greeting;
        self.heard_at = now;
        match self.server.password {
            Some(_) => self.authenticate(self.server.username.is_some()),
            None => self.greet(),
        }
    }

    /// The socket could not be connected, failed, or was closed by the server, for `cause`.
    pub fn handle_disconnected(&mut self, now: u64, cause: &str) {
        self.now = now;
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.lose(cause, false);
        }
    }

    /// The time that [`deadline`](Self::deadline) told has come.
    pub fn handle_timeout(&mut self, now: u64) {
        self.now = now;
        match self.phase {
            Phase::Waiting { until } if now >= until => {
                self.phase = Phase::Connecting {
                    until: now + CONNECT_MS,
                };
                self.events.push_back(Event::Connect);
            }
            Phase::Connecting { until } if now >= until => self.lose("connect timed out", true),
            Phase::Waiting { .. } | Phase::Connecting { .. } => {}
            Phase::Greeting | Phase::Up { .. } => self.watch(),
        }
    }

    /// Room to receive into; then `handle_read`.
    pub fn read_buf(&mut self) -> &mut [u8] {
        self.incoming.room()
    }

    /// `count` bytes were received into [`read_buf`](Self::read_buf).
    pub fn handle_read(&mut self, count: usize, now: u64) {
        self.now = now;
        self.heard_at = now;
        self.silent_since = now;
        self.incoming.filled(count);
    }

    /// The caller reads nothing now, whatever the server may have sent: that the link hears nothing
    /// until now proves nothing.
    pub fn handle_unread(&mut self, now: u64) {
        self.now = now;
        self.silent_since = now;
        self.probe.handle_unread(now);
    }

    /// What to do or know next; `None`: nothing more until something happens.
    #[inline]
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        match self.next_delivery() {
            Some((channel, name, payload)) => Some(Event::Message {
                channel,
                name: self.incoming.slice(name),
                pattern: None,
                payload: self.incoming.slice(payload),
            }),
            None => self.next_other_event(),
        }
    }

    /// Hands over the further messages of `channel`, name and payload, as far as they come next: as
    /// [`next_event`](Self::next_event), which is to be asked again then, but cheaper for the many
    /// messages of one channel that one read often brings.
    #[inline]
    pub fn each_of(&mut self, channel: u32, mut hear: impl FnMut(&[u8], &[u8])) {
        if !self.may_deliver() {
            return;
        }
        let Some((_, held)) = self.incoming.held() else {
            return;
        };
        let Some((head, name)) = self.subscriptions.head_of(channel) else {
            return;
        };
        let mut used = 0;
        for payload in resp::plain_messages(held, head, &mut used) {
            hear(name, payload);
        }
        if used > 0 {
            self.incoming.consume(used);
        }
    }

    /// More has been received than what the last event told of.
    #[inline]
    pub fn holds_more(&self) -> bool {
        self.incoming.held().is_some()
    }

    /// The message of a channel, if one stands whole before anything else.
    #[inline]
    fn next_delivery(&mut self) -> Option<(u32, Range<usize>, Range<usize>)> {
        if !self.may_deliver() {
            return None;
        }
        let (begin, held) = self.incoming.held()?;
        let (channel, name) = match self.subscriptions.as_before(held) {
            Some(found) => found,
            None => {
                let name = resp::plain_channel(held)?;
                let channel = self.subscriptions.find_for(held, name.clone())?;
                (channel, name)
            }
        };
        let payload = resp::plain_bulk(held, name.end + LINE_END)?;
        self.incoming.consume(payload.end + LINE_END);
        Some((channel, shift(name, begin), shift(payload, begin)))
    }

    /// Nothing is to be said before what is held.
    #[inline]
    fn may_deliver(&self) -> bool {
        self.events.is_empty() && self.is_up()
    }

    fn next_other_event(&mut self) -> Option<Event<'_>> {
        let (channel, name, pattern, payload) = loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.next_reply() {
                Step::Nothing => return None,
                Step::Handled => {}
                Step::Deliver {
                    channel,
                    name,
                    pattern,
                    payload,
                } => {
                    break (channel, name, pattern, payload);
                }
            }
        };
        Some(Event::Message {
            channel,
            name: self.incoming.slice(name),
            pattern: pattern.map(|pattern| self.incoming.slice(pattern)),
            payload: self.incoming.slice(payload),
        })
    }

    /// What to send now.
    pub fn output(&mut self) -> &[u8] {
        if self.is_up() {
            while self.subscriptions.next_batch(self.outgoing.end()) {
                self.owe(Owed::Batch);
            }
        }
        self.outgoing.unsent()
    }

    /// The socket took the first `count` bytes of the output.
    pub fn handle_written(&mut self, count: usize, now: u64) {
        self.now = now;
        if self.outgoing.written(count) {
            self.silent_since = now;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, by the same clock.
    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { until } | Phase::Connecting { until } => Some(until),
            Phase::Greeting => self.silence_ends(),
            Phase::Up { .. } => [
                self.silence_ends(),
                self.probe.deadline(),
                self.subscriptions.deadline(),
                Some(self.proof_at),
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    /// The link is connected, logged in and usable.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// The caller's ids of the names that were confirmed before the link was lost, and are not yet
    /// again: their messages are missed.
    pub fn missed(&self) -> impl Iterator<Item = u32> {
        self.subscriptions.missed()
    }

    /// Somebody waits for an answer: to a publish or a subscription. Probes don't count.
    pub fn owes(&self) -> bool {
        self.unanswered_publishes > 0 || (self.is_up() && self.subscriptions.owes())
    }

    /// Heap for what is unsent, unanswered, or received in part, in bytes.
    pub fn memory(&self) -> usize {
        self.outgoing.memory()
            + self.incoming.oversize()
            + self.owed.capacity() * size_of::<Owed>()
            + self.events.capacity() * size_of::<Event<'static>>()
    }

    /// Wants `name`, known to the caller as `channel` until [`Event::Released`]. Further calls
    /// for the same name are harmless; the first `unsubscribe` ends them all.
    pub fn subscribe(&mut self, kind: Kind, name: &[u8], channel: u32, now: u64) -> Subscribed {
        debug_assert_eq!(self.role, Role::Subscriber);
        self.now = now;
        self.subscriptions.subscribe(kind, name, channel)
    }

    /// Nobody wants `name` any more: it leaves after
    /// [`LINGER_MS`](super::subscriptions::LINGER_MS), unless it is subscribed again meanwhile.
    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8], now: u64) {
        self.now = now;
        let outcome = self.subscriptions.unsubscribe(kind, name, now);
        self.events.extend(outcome.map(|outcome| told(outcome, "")));
        self.note_restored();
    }

    /// Publishes; [`Event::Published`] or [`Event::NotPublished`] with `token` follows, in the
    /// order of the calls.
    ///
    /// # Errors
    /// The message was not taken, and no event follows.
    pub fn publish(
        &mut self,
        channel: &[u8],
        payload: &[u8],
        token: u64,
        now: u64,
    ) -> Result<(), NotPublished> {
        debug_assert_eq!(self.role, Role::Publisher);
        self.now = now;
        if !self.is_up() || self.role != Role::Publisher {
            return Err(NotPublished::Away);
        }
        if !self.has_room(channel.len() + payload.len()) {
            return Err(NotPublished::QueueFull);
        }
        command::append(self.outgoing.end(), &[b"PUBLISH", channel, payload]);
        self.owe(Owed::Publish { token });
        self.unanswered_publishes += usize::from(token != PROBE_TOKEN);
        Ok(())
    }

    /// The queue takes one more message of so many bytes, its channel's name included.
    pub fn has_room(&self, bytes: usize) -> bool {
        let unsent = self.outgoing.unsent().len();
        let is_too_much = unsent > 0 && unsent.saturating_add(bytes) > MAX_UNSENT;
        !is_too_much && self.owed.len() < MAX_UNANSWERED
    }

    /// What became of the publish that [`Event::Probe`] asked for: its receivers, or the reason
    /// of `NotPublished` (any text when the publisher link did not take it).
    pub fn handle_probe_reply(&mut self, outcome: Result<i64, &str>, now: u64) {
        self.now = now;
        if !self.is_up() {
            return;
        }
        match outcome {
            // The count is no proof: a cluster's node counts its own connections only.
            Ok(_) => {
                if let Some(round) = self.probe.handle_published(now) {
                    self.ask(Owed::Fence { round }, &[b"PING"]);
                }
            }
            Err(reason) if error_code(reason.as_bytes()) == b"NOPERM" => self.forbid_probe(reason),
            Err(_) => self.probe.handle_not_published(),
        }
    }

    fn authenticate(&mut self, with_user: bool) {
        let server = Arc::clone(&self.server);
        let password = server.password.as_deref().unwrap_or_default().as_bytes();
        let command: &[&[u8]] = match &server.username {
            Some(user) if with_user => &[b"AUTH", user.as_bytes(), password],
            _ => &[b"AUTH", password],
        };
        self.ask(Owed::Auth { with_user }, command);
    }

    /// All of the greeting but AUTH. The PING learns whether the server is willing to serve (it
    /// may be loading, or want a password), and goes before a command whose error is ignored: a
    /// server that turns connections away says so without being asked.
    fn greet(&mut self) {
        if self.server.db != 0 {
            let db = self.server.db.to_string();
            self.ask(Owed::Select, &[b"SELECT", db.as_bytes()]);
        }
        self.ask(Owed::Greeting, &[b"PING"]);
        self.ask(Owed::ClientName, &[b"CLIENT", b"SETNAME", b"ngx_websocket"]);
    }

    fn ask(&mut self, owed: Owed, arguments: &[&[u8]]) {
        command::append(self.outgoing.end(), arguments);
        self.owe(owed);
    }

    fn owe(&mut self, owed: Owed) {
        if self.owed.is_empty() {
            self.silent_since = self.now;
        }
        self.owed.push_back(owed);
    }

    /// When a server that owes something has been silent for too long.
    fn silence_ends(&self) -> Option<u64> {
        let patience = match self.owed.front()? {
            Owed::Pong | Owed::Fence { .. } => PONG_MS,
            _ => REPLY_MS,
        };
        Some(self.silent_since + patience)
    }

    fn watch(&mut self) {
        if self.silence_ends().is_some_and(|at| self.now >= at) {
            return self.lose("no reply in time", true);
        }
        if !self.is_up() {
            return;
        }
        if self.probe.deadline().is_some_and(|at| self.now >= at) {
            return self.lose("what is published is not delivered", true);
        }
        self.subscriptions.handle_timeout(self.now);
        if self.now >= self.proof_at {
            self.prove();
        }
    }

    fn prove(&mut self) {
        self.incoming.shrink();
        self.proof_at = self.now + PROOF_MS;
        match self.role {
            Role::Subscriber => {
                self.ask(Owed::Pong, &[b"PING"]);
                if let Some(payload) = self.probe.next_round() {
                    let channel = self.probe.channel().clone();
                    self.events.push_back(Event::Probe { channel, payload });
                }
            }
            Role::Publisher if self.now < self.heard_at + PROOF_MS => {
                self.proof_at = self.heard_at + PROOF_MS;
            }
            Role::Publisher => self.ask(Owed::Pong, &[b"PING"]),
        }
    }

    fn next_reply(&mut self) -> Step {
        if !matches!(self.phase, Phase::Greeting | Phase::Up { .. }) {
            return Step::Nothing;
        }
        let Some((begin, held)) = self.incoming.held() else {
            return Step::Nothing;
        };
        match resp::parse(held) {
            Ok(Parsed::Partial { need }) => {
                self.incoming.await_more(need);
                Step::Nothing
            }
            Ok(Parsed::Whole { reply, len }) => {
                self.incoming.consume(len);
                self.handle_reply(reply, begin)
            }
            Err(malformed) => {
                self.lose(&malformed.to_string(), true);
                Step::Handled
            }
        }
    }

    /// `begin` is the reply's place in the read buffer.
    fn handle_reply(&mut self, reply: Reply, begin: usize) -> Step {
        match reply {
            Reply::Message(message) => return self.handle_message(message, begin),
            Reply::Change(change) => self.handle_change(change, begin),
            Reply::Value(Value::Error(text)) => {
                let text = printable(self.incoming.slice(shift(text, begin)));
                self.handle_error(&text);
            }
            Reply::Value(value) => self.handle_value(&value),
        }
        Step::Handled
    }

    fn handle_message(&mut self, message: Message, begin: usize) -> Step {
        let name = shift(message.channel, begin);
        let payload = shift(message.payload, begin);
        let pattern = message.pattern.map(|pattern| shift(pattern, begin));
        let found = match &pattern {
            None => self
                .subscriptions
                .find(Kind::Channel, self.incoming.slice(name.clone())),
            Some(_) if self.incoming.slice(name.clone()).starts_with(PROBE_PREFIX) => None,
            Some(pattern) => self
                .subscriptions
                .find(Kind::Pattern, self.incoming.slice(pattern.clone())),
        };
        if let Some(channel) = found {
            return Step::Deliver {
                channel,
                name,
                pattern,
                payload,
            };
        }
        if pattern.is_none() && self.incoming.slice(name) == self.probe.channel() {
            self.probe.handle_heard(self.incoming.slice(payload));
        }
        Step::Handled
    }

    fn handle_change(&mut self, change: Change, begin: usize) {
        let name = change.name.map(|name| shift(name, begin)).unwrap_or(0..0);
        let name = self.incoming.slice(name);
        match self.owed.front() {
            Some(Owed::ProbeSubscription)
                if change.verb == Verb::Subscribe && name == self.probe.channel() =>
            {
                self.owed.pop_front();
                self.probe.handle_confirmed();
            }
            Some(Owed::Batch) => {
                let events = &mut self.events;
                let mut tell = |outcome| events.push_back(told(outcome, ""));
                match self
                    .subscriptions
                    .handle_change(change.verb, name, &mut tell)
                {
                    Ok(false) => {}
                    Ok(true) => drop(self.owed.pop_front()),
                    Err(_) => self.lose("unexpected reply", true),
                }
                self.note_restored();
            }
            _ => self.lose("unexpected reply", true),
        }
    }

    fn handle_value(&mut self, value: &Value) {
        let owed = self.owed.pop_front();
        match (owed, value) {
            (Some(Owed::Auth { .. }), Value::Status(_)) => self.greet(),
            (Some(Owed::Select), Value::Status(_)) => {}
            // A PING is answered by a status, or by ["pong", ""] where something is subscribed.
            (Some(Owed::Greeting | Owed::Pong), Value::Status(_) | Value::Array(_)) => {}
            (Some(Owed::Fence { round }), Value::Status(_) | Value::Array(_)) => {
                self.probe.handle_fence(round);
            }
            (Some(Owed::ClientName), _) => self.come_up(),
            (Some(Owed::Publish { token }), Value::Integer(receivers)) => {
                self.answer(token, Ok(*receivers));
            }
            (None | Some(_), _) => {
                // The publish at the front must not be lost without a word.
                owed.into_iter().for_each(|owed| self.owed.push_front(owed));
                self.lose("unexpected reply", true);
            }
        }
    }

    fn handle_error(&mut self, text: &str) {
        let code = error_code(text.as_bytes());
        match self.owed.pop_front() {
            // Before Redis 6 there were no users: AUTH took the password alone.
            Some(Owed::Auth { with_user: true }) if is_arity_error(text) => {
                self.authenticate(false);
            }
            // A server that knows no AUTH may repeat its arguments, and the log would have them.
            Some(Owed::Auth { .. }) => self.lose(&self.without_password(text), true),
            Some(Owed::ClientName) => self.come_up(),
            // An ACL may forbid PING, and a master that cannot save answers it with MISCONF:
            // both serve pub/sub.
            Some(Owed::Greeting) if matches!(code, b"NOPERM" | b"MISCONF") => {}
            Some(Owed::Pong) if !is_servers_state(code) => {}
            Some(Owed::Fence { round }) if !is_servers_state(code) => {
                self.probe.handle_fence(round);
            }
            Some(Owed::ProbeSubscription) if code == b"NOPERM" => self.forbid_probe(text),
            Some(Owed::Batch) if code == b"NOPERM" => self.handle_refused_batch(text),
            Some(Owed::Publish { token }) => {
                self.answer(token, Err(text));
                if is_servers_state(code) {
                    self.lose(text, true);
                }
            }
            _ => self.lose(text, true),
        }
    }

    fn without_password(&self, text: &str) -> String {
        match self.server.password.as_deref() {
            Some(password) if !password.is_empty() => text.replace(password, "***"),
            _ => text.to_owned(),
        }
    }

    fn handle_refused_batch(&mut self, reason: &str) {
        let events = &mut self.events;
        let mut tell = |outcome| events.push_back(told(outcome, reason));
        match self
            .subscriptions
            .handle_refused(self.outgoing.end(), &mut tell)
        {
            Ok(sent) => (0..sent).for_each(|_| self.owe(Owed::Batch)),
            Err(_) => self.lose("unexpected reply", true),
        }
        self.note_restored();
    }

    fn forbid_probe(&mut self, reason: &str) {
        self.probe.handle_forbidden();
        if !std::mem::replace(&mut self.is_probe_warned, true) {
            let prefix = String::from_utf8_lossy(PROBE_PREFIX);
            let reason = format!(
                "delivery cannot be probed, allow channels \"{prefix}*\" in the ACL: {reason}"
            );
            self.events.push_back(Event::Warning { reason });
        }
    }

    fn answer(&mut self, token: u64, outcome: Result<i64, &str>) {
        self.unanswered_publishes -= usize::from(token != PROBE_TOKEN);
        self.events.push_back(match outcome {
            Ok(receivers) => Event::Published { token, receivers },
            Err(reason) => Event::NotPublished {
                token,
                reason: reason.to_owned(),
            },
        });
    }

    fn come_up(&mut self) {
        let now = self.now;
        self.phase = Phase::Up { since: now };
        self.proof_at = now + PROOF_MS;
        let was_down_for = self
            .down_since
            .take()
            .map(|since| now.saturating_sub(since));
        self.events.push_back(Event::Up { was_down_for });
        if self.role == Role::Subscriber {
            let channel = self.probe.channel().clone();
            self.ask(Owed::ProbeSubscription, &[b"SUBSCRIBE", &channel]);
            self.subscriptions.handle_up();
            if !self.subscriptions.misses_any() {
                self.gap_since = None;
            }
        }
    }

    fn note_restored(&mut self) {
        if self.subscriptions.take_restored()
            && let Some(since) = self.gap_since.take()
        {
            self.events.push_back(Event::Restored {
                gap_ms: self.now.saturating_sub(since),
            });
        }
    }

    /// Gives the connection up, and plans the next one.
    fn lose(&mut self, cause: &str, must_close: bool) {
        let lasted = match self.phase {
            Phase::Up { since } => Some(self.now.saturating_sub(since)),
            Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Greeting => None,
        };
        let away = self
            .down_since
            .map_or(0, |since| self.now.saturating_sub(since));
        self.phase = Phase::Waiting {
            until: self.now + self.backoff.next_delay(lasted, away),
        };
        if self.down_since.is_none() {
            self.down_since = Some(self.now);
            self.events.push_back(Event::Down {
                cause: Cow::Owned(cause.to_owned()),
            });
        }
        if must_close {
            self.events.push_back(Event::Disconnect {
                cause: Cow::Owned(cause.to_owned()),
            });
        }
        for owed in std::mem::take(&mut self.owed) {
            if let Owed::Publish { token } = owed {
                self.answer(token, Err(&format!("{LINK_LOST}: {cause}")));
            }
        }
        let events = &mut self.events;
        self.subscriptions
            .handle_lost(&mut |outcome| events.push_back(told(outcome, "")));
        if self.subscriptions.misses_any() {
            self.gap_since.get_or_insert(self.heard_at);
        }
        self.probe.handle_lost();
        self.incoming.clear();
        self.outgoing.clear();
    }
}

fn told(outcome: Outcome, reason: &str) -> Event<'static> {
    match outcome {
        Outcome::Confirmed { channel } => Event::Confirmed { channel },
        Outcome::Refused { channel } => Event::Refused {
            channel,
            reason: reason.to_owned(),
        },
        Outcome::Released { channel } => Event::Released { channel },
    }
}

#[inline]
fn shift(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// The server's words for a log: one line, of a bounded length.
fn printable(text: &[u8]) -> String {
    const LONGEST: usize = 256;
    let text = String::from_utf8_lossy(text);
    text.chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The first word of an error, which tells its kind.
fn error_code(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// Errors that speak of the server or the login, not of the command: another connection may be
/// better off, at another server perhaps.
fn is_servers_state(code: &[u8]) -> bool {
    matches!(
        code,
        b"NOAUTH" | b"LOADING" | b"MASTERDOWN" | b"READONLY" | b"CLUSTERDOWN"
    )
}

fn is_arity_error(text: &str) -> bool {
    text.to_ascii_lowercase()
        .contains("wrong number of arguments")
}
