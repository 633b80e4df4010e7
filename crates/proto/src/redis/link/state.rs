//! The state of one link: input from its caller and its socket, and its next deadline.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::super::backoff::Backoff;
use super::super::command;
use super::super::probe::Probe;
use super::super::read_buffer::ReadBuffer;
use super::super::resp::{self, LINE_END, error_code};
use super::super::subscriptions::{Subscribed, SubscriptionKind, Subscriptions};
use super::super::url::Server;
use super::super::write_buffer::WriteBuffer;
use super::event::{Event, NotPublished, PROBE_TOKEN, Role, told};

/// The connection, TLS included, must be established within this time, in milliseconds.
pub const CONNECT_MS: u64 = 5_000;
/// A server that owes a reply may be silent for this long, in milliseconds.
pub const REPLY_MS: u64 = 10_000;
/// A server that owes the answer to a PING may be silent for this long, in milliseconds.
pub const PONG_MS: u64 = 5_000;
/// How often a link proves that it works, in milliseconds.
pub const PROOF_MS: u64 = 10_000;
/// The most bytes of unsent publishes.
pub const MAX_UNSENT: usize = 16 << 20;
/// The most unanswered publishes.
pub const MAX_UNANSWERED: usize = 65_536;

/// One link. The [module](super) documents how to drive it.
// No `Debug`: unsent bytes may contain the password.
pub struct Link {
    pub(super) role: Role,
    pub(super) server: Arc<Server>,
    pub(super) phase: Phase,
    /// The latest time that the caller passed.
    pub(super) now: u64,
    pub(super) backoff: Backoff,
    pub(super) incoming: ReadBuffer,
    pub(super) outgoing: WriteBuffer,
    /// The replies that the server owes, in the order of the commands.
    pub(super) owed: VecDeque<Owed>,
    /// Since when the server has been silent while it owed a reply.
    pub(super) silent_since: u64,
    pub(super) heard_at: u64,
    /// When to prove next that the link works.
    pub(super) proof_at: u64,
    pub(super) events: VecDeque<Event<'static>>,
    pub(super) subscriptions: Subscriptions,
    pub(super) probe: Probe,
    pub(super) is_probe_warned: bool,
    pub(super) unanswered_publishes: usize,
    pub(super) down_since: Option<u64>,
    pub(super) gap_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting { until: u64 },
    Connecting { until: u64 },
    Greeting,
    Up { since: u64 },
}

/// One reply that is due, or all replies to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
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

/// The result of reading the next reply.
pub(super) enum Step {
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
    /// each link of all machines. It names the probe's channel.
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

    /// The socket could not be connected, failed, or was closed by the server. `cause` says why.
    pub fn handle_disconnected(&mut self, now: u64, cause: &str) {
        self.now = now;
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.lose(cause, false);
        }
    }

    /// The time of [`deadline`](Self::deadline) has come.
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

    /// The space to receive into. Call `handle_read` afterwards.
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

    /// The caller does not read now, whatever the server may have sent. So the link's silence until
    /// now proves nothing.
    pub fn handle_unread(&mut self, now: u64) {
        self.now = now;
        self.silent_since = now;
        self.probe.handle_unread(now);
    }

    /// The next thing to do or to know. `None`: nothing until something happens.
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

    /// Passes on further messages of `channel`, name and payload, as long as they come next. It
    /// does the same as [`next_event`](Self::next_event), which must be called again afterwards,
    /// but is cheaper when one read brings many messages of one channel.
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

    /// Whether received bytes are held beyond the last event.
    #[inline]
    pub fn holds_more(&self) -> bool {
        self.incoming.held().is_some()
    }

    /// The next message of a channel, if it is complete and nothing must be reported before it.
    #[inline]
    pub(super) fn next_delivery(&mut self) -> Option<(u32, Range<usize>, Range<usize>)> {
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

    /// Whether no event must be reported before the held bytes.
    #[inline]
    pub(super) fn may_deliver(&self) -> bool {
        self.events.is_empty() && self.is_up()
    }

    pub(super) fn next_other_event(&mut self) -> Option<Event<'_>> {
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

    /// The bytes to send now.
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

    /// When [`handle_timeout`](Self::handle_timeout) must be called, by the same clock.
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

    /// Whether the link is connected, logged in and usable.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// The caller's ids of names that were confirmed before the link was lost and are not yet
    /// confirmed again: their messages are missed.
    pub fn missed(&self) -> impl Iterator<Item = u32> {
        self.subscriptions.missed()
    }

    /// Whether someone waits for the answer to a publish or a subscription. Probes don't count.
    pub fn owes(&self) -> bool {
        self.unanswered_publishes > 0 || (self.is_up() && self.subscriptions.owes())
    }

    /// Heap for unsent, unanswered and partly received data, in bytes.
    pub fn memory(&self) -> usize {
        self.outgoing.memory()
            + self.incoming.oversize()
            + self.owed.capacity() * size_of::<Owed>()
            + self.events.capacity() * size_of::<Event<'static>>()
    }

    /// Subscribes to `name`, known to the caller as `channel` until [`Event::Released`]. Further
    /// calls for the same name are harmless; the first `unsubscribe` ends them all.
    pub fn subscribe(
        &mut self,
        kind: SubscriptionKind,
        name: &[u8],
        channel: u32,
        now: u64,
    ) -> Subscribed {
        debug_assert_eq!(self.role, Role::Subscriber);
        self.now = now;
        self.subscriptions.subscribe(kind, name, channel)
    }

    /// Nobody wants `name` any more. It is unsubscribed after
    /// [`LINGER_MS`](super::super::subscriptions::LINGER_MS) unless it is subscribed again meanwhile.
    pub fn unsubscribe(&mut self, kind: SubscriptionKind, name: &[u8], now: u64) {
        self.now = now;
        let outcome = self.subscriptions.unsubscribe(kind, name, now);
        self.events.extend(outcome.map(|outcome| told(outcome, "")));
        self.note_restored();
    }

    /// Publishes; [`Event::Published`] or [`Event::NotPublished`] with `token` follows, in the
    /// order of the calls.
    ///
    /// # Errors
    /// The message was not accepted, and no event follows.
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

    /// Whether the queue accepts one more message of so many bytes, its channel's name included.
    pub fn has_room(&self, bytes: usize) -> bool {
        let unsent = self.outgoing.unsent().len();
        let is_too_much = unsent > 0 && unsent.saturating_add(bytes) > MAX_UNSENT;
        !is_too_much && self.owed.len() < MAX_UNANSWERED
    }

    /// The outcome of the publish requested by [`Event::Probe`]: its number of receivers, or the
    /// reason of `NotPublished` (any text if the publisher link did not accept it).
    pub fn handle_probe_reply(&mut self, outcome: Result<i64, &str>, now: u64) {
        self.now = now;
        if !self.is_up() {
            return;
        }
        match outcome {
            // The count proves nothing: a cluster's node counts only its own connections.
            Ok(_) => {
                if let Some(round) = self.probe.handle_published(now) {
                    self.ask(Owed::Fence { round }, &[b"PING"]);
                }
            }
            Err(reason) if error_code(reason.as_bytes()) == b"NOPERM" => self.forbid_probe(reason),
            Err(_) => self.probe.handle_not_published(),
        }
    }

    pub(super) fn authenticate(&mut self, with_user: bool) {
        let server = Arc::clone(&self.server);
        let password = server.password.as_deref().unwrap_or_default().as_bytes();
        let command: &[&[u8]] = match &server.username {
            Some(user) if with_user => &[b"AUTH", user.as_bytes(), password],
            _ => &[b"AUTH", password],
        };
        self.ask(Owed::Auth { with_user }, command);
    }

    /// The greeting without AUTH. The PING learns whether the server is willing to serve: it may be
    /// loading, or want a password. It must come before a command whose error is ignored, because a
    /// server that turns connections away says so without being asked.
    pub(super) fn greet(&mut self) {
        if self.server.db != 0 {
            let db = self.server.db.to_string();
            self.ask(Owed::Select, &[b"SELECT", db.as_bytes()]);
        }
        self.ask(Owed::Greeting, &[b"PING"]);
        self.ask(Owed::ClientName, &[b"CLIENT", b"SETNAME", b"ngx_websocket"]);
    }

    pub(super) fn ask(&mut self, owed: Owed, arguments: &[&[u8]]) {
        command::append(self.outgoing.end(), arguments);
        self.owe(owed);
    }

    pub(super) fn owe(&mut self, owed: Owed) {
        if self.owed.is_empty() {
            self.silent_since = self.now;
        }
        self.owed.push_back(owed);
    }

    /// When a server that owes a reply has been silent for too long.
    pub(super) fn silence_ends(&self) -> Option<u64> {
        let patience = match self.owed.front()? {
            Owed::Pong | Owed::Fence { .. } => PONG_MS,
            _ => REPLY_MS,
        };
        Some(self.silent_since + patience)
    }

    pub(super) fn watch(&mut self) {
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

    pub(super) fn prove(&mut self) {
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
}

#[inline]
pub(super) fn shift(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}
