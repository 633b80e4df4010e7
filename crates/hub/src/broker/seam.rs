//! The seam between a hub and what brings its messages.
//!
//! A hub sees names, messages and tokens; sockets, connecting, probing and the number of servers are
//! the broker's. What a broker has to tell comes as values from [`Brokers::next_event`], except
//! messages: those go straight to a [`Sink`], which may lie in the broker's buffers.

use std::sync::Arc;

use fanout::{ChannelId, NameKind};
use proto::redis::Server;

use crate::outside::{Outside, PeerId};

/// What [`Brokers::subscribe`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// The name is confirmed: its messages come.
    Already,
    /// It is asked for: [`Event::Confirmed`] or [`Event::Refused`] follows, or [`Event::Lost`].
    Asked,
    /// The broker is away. The name is asked for when it is back, unless it is unsubscribed.
    Away,
}

/// Why a message was not taken for publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPublished {
    /// The broker is away.
    Away,
    /// Its queue is full.
    QueueFull,
}

/// What became of a message that was taken for publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The broker has it, and delivered it to so many subscribers.
    To(i64),
    /// The broker has refused it.
    Refused(String),
    /// The broker is not allowed to take it from us.
    Forbidden(String),
    /// The broker was lost before it answered: the message may have been published, or not.
    Lost(String),
}

/// What a broker tells. Each is about one broker, by its number among `Main::brokers`.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A name is confirmed: from here on its messages come.
    Confirmed(ChannelId),
    /// A name is refused, in these words. The hub gives it up by `unsubscribe`.
    Refused(ChannelId, String),
    /// A name that was unsubscribed is forgotten: its id may name another one now.
    Released(ChannelId),
    /// Nothing comes any more, or never did: who waits for a confirmation need not wait.
    Lost {
        /// Which.
        broker: u16,
        /// Of these, messages may be missed from here on. Those that are confirmed only later miss
        /// nothing.
        missed: Vec<ChannelId>,
    },
    /// All that was lost is confirmed again, or refused.
    Restored {
        /// Which.
        broker: u16,
    },
    /// An answer to [`Brokers::publish`].
    Published {
        /// Which.
        broker: u16,
        /// The hub's own.
        token: u64,
        /// What became of it.
        outcome: Published,
    },
    /// What is published may be taken again, or can't be at all: see [`Brokers::is_starting`].
    Publishing {
        /// Which.
        broker: u16,
    },
}

/// Where messages go, as they come.
pub trait Sink {
    /// More may come. If not, the broker waits until it is asked again.
    fn has_room(&mut self) -> bool;

    /// A message, with the pattern that matched.
    fn message(&mut self, channel: ChannelId, name: &[u8], pattern: Option<&[u8]>, payload: &[u8]);

    /// The messages behind it, as far as they are of the same channel and there already.
    fn run(&mut self, channel: ChannelId, run: &mut impl Run);
}

/// Messages of one channel, one behind the other.
pub trait Run {
    /// Hands name and payload of each over.
    fn each(&mut self, hear: impl FnMut(&[u8], &[u8]));
}

/// What the status tells of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Its address, without credentials.
    pub server: String,
    /// Messages come.
    pub subscriber: bool,
    /// Messages can be published.
    pub publisher: bool,
    /// Publishes whose answer is awaited.
    pub unanswered: usize,
}

/// All brokers of a worker, by number. `now` is [`Outside::now`].
pub trait Brokers<O: Outside>: Sized {
    /// Those of the configuration, not connected yet.
    ///
    /// # Errors
    /// The system has no random numbers.
    fn new(servers: &[Arc<Server>], out: &O) -> std::io::Result<Self>;

    /// Somebody wants a name, which the hub knows as `channel`: the same id each time, until the name
    /// is [released](Event::Released).
    fn subscribe(
        &mut self,
        broker: u16,
        channel: ChannelId,
        kind: NameKind,
        name: &[u8],
        now: u64,
    ) -> Subscribed;

    /// Nobody wants a name any more.
    fn unsubscribe(&mut self, broker: u16, kind: NameKind, name: &[u8], now: u64);

    /// Publishes. The answer bears `token`; several messages of one round of the event loop may go out
    /// together, with [`Brokers::turn`].
    ///
    /// # Errors
    /// It was not taken, and no answer follows.
    fn publish(
        &mut self,
        broker: u16,
        channel: &[u8],
        payload: &[u8],
        token: u64,
        now: u64,
    ) -> Result<(), NotPublished>;

    /// Whether a message of so many bytes, its channel's name among them, would be taken, or would be
    /// refused at once. False: there will be room.
    fn is_ready_for(&self, broker: u16, bytes: usize) -> bool;

    /// Clients should not be read for more to publish: much is under way, there is no room for a
    /// message of so many bytes, or the broker has not begun. One that is away takes none, and says so.
    fn is_congested(&mut self, broker: u16, bytes: usize) -> bool;

    /// It has not been able to publish yet, and not failed either.
    fn is_starting(&self, broker: u16) -> bool;

    /// A peer has something to read, or is connected.
    fn peer_readable(&mut self, peer: PeerId, now: u64);

    /// A peer takes more, or is connected.
    fn peer_writable(&mut self, peer: PeerId, now: u64);

    /// A peer is to be closed for good: the process ends.
    fn peer_told_to_close(&mut self, peer: PeerId, now: u64);

    /// Time has passed. `is_late`: the process was held up, so what sockets have is to be heard before
    /// anybody is judged by what is missing.
    fn tick(&mut self, is_late: bool, now: u64);

    /// The next round of the event loop: what was collected goes out.
    fn turn(&mut self, now: u64);

    /// What has happened; called after each of the others until it says `None`. Messages go to `sink`
    /// meanwhile.
    fn next_event(&mut self, out: &mut O, sink: &mut impl Sink, now: u64) -> Option<Event>;

    /// Something is left for [`Brokers::turn`]. Said once.
    fn take_turn(&mut self) -> bool;

    /// When to call [`Brokers::tick`].
    fn deadline(&self) -> Option<u64>;

    /// The same, if it may have changed since this was last asked.
    fn moved_deadline(&mut self) -> Option<u64>;

    /// Somebody waits for an answer: a process that quits has to wait.
    fn owes(&self) -> bool;

    /// Bytes held, for the memory account.
    fn held_bytes(&self) -> usize;

    /// What the status tells, in the order of the configuration.
    fn status(&self) -> Vec<BrokerStatus>;

    /// Closes all peers: the process ends.
    fn close(&mut self);
}
