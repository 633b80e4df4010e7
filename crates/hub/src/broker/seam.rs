//! The seam between a hub and what brings its messages.
//!
//! A hub sees names, messages and tokens. Sockets, connecting, probing and the number of servers
//! are the broker's business. A broker reports events as values from [`Brokers::next_event`].
//! Messages are the exception: they go straight to a [`Sink`], because they may still be in the
//! broker's buffers.

use std::sync::Arc;

use fanout::{ChannelId, NameKind};
use proto::redis::Server;

use crate::outside::{Outside, PeerId};

/// The result of [`Brokers::subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// The name is already confirmed: its messages arrive.
    Already,
    /// The broker was asked for it: [`Event::Confirmed`], [`Event::Refused`] or [`Event::Lost`]
    /// follows.
    Asked,
    /// The broker is away. It asks for the name when it is back, unless the name is unsubscribed
    /// before.
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

/// What happened to a message that was taken for publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The broker has it, and delivered it to this many subscribers.
    To(i64),
    /// The broker refused it.
    Refused(String),
    /// The broker forbids us to publish it.
    Forbidden(String),
    /// The broker was lost before it answered: the message may or may not have been published.
    Lost(String),
}

/// An event of one broker, given by its number in `Main::brokers`.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A name is confirmed: its messages arrive from now on.
    Confirmed(ChannelId),
    /// A name is refused, for this reason. The hub gives it up with `unsubscribe`.
    Refused(ChannelId, String),
    /// A name that was unsubscribed is forgotten. Its id may now be reused.
    Released(ChannelId),
    /// No messages arrive any more, or none ever did. Those who wait for a confirmation need not
    /// wait.
    Lost {
        /// The broker.
        broker: u16,
        /// Names whose messages may be missed from now on. A name that is confirmed only later
        /// misses nothing.
        missed: Vec<ChannelId>,
    },
    /// All lost names are confirmed again, or refused.
    Restored {
        /// The broker.
        broker: u16,
    },
    /// The answer to [`Brokers::publish`].
    Published {
        /// The broker.
        broker: u16,
        /// The token that the hub gave.
        token: u64,
        /// What happened to the message.
        outcome: Published,
    },
    /// Publishing is possible again, or known to be impossible: see [`Brokers::is_starting`].
    Publishing {
        /// The broker.
        broker: u16,
    },
}

/// Receives messages as they arrive.
pub trait Sink {
    /// Whether more may come. If not, the broker waits until it is asked again.
    fn has_room(&mut self) -> bool;

    /// One message, with the pattern that matched.
    fn message(&mut self, channel: ChannelId, name: &[u8], pattern: Option<&[u8]>, payload: &[u8]);

    /// The messages that follow it, as far as they are already there and of the same channel.
    fn run(&mut self, channel: ChannelId, run: &mut impl Run);
}

/// Consecutive messages of one channel.
pub trait Run {
    /// Passes the name and payload of each message to `hear`.
    fn each(&mut self, hear: impl FnMut(&[u8], &[u8]));
}

/// A broker's part of the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Its address, without credentials.
    pub server: String,
    /// Messages arrive.
    pub subscriber: bool,
    /// Messages can be published.
    pub publisher: bool,
    /// Publishes that await an answer.
    pub unanswered: usize,
}

/// All brokers of a worker, by number. `now` is [`Outside::now`].
pub trait Brokers<O: Outside>: Sized {
    /// The brokers of the configuration, not connected yet.
    ///
    /// # Errors
    /// The system has no random numbers.
    fn new(servers: &[Arc<Server>], out: &O) -> std::io::Result<Self>;

    /// Asks for a name, which the hub knows as `channel`. The id stays the same until the name is
    /// [released](Event::Released).
    fn subscribe(
        &mut self,
        broker: u16,
        channel: ChannelId,
        kind: NameKind,
        name: &[u8],
        now: u64,
    ) -> Subscribed;

    /// Gives up a name that nobody wants any more.
    fn unsubscribe(&mut self, broker: u16, kind: NameKind, name: &[u8], now: u64);

    /// Publishes. The answer carries `token`. Several messages of one round of the event loop may
    /// go out together, with [`Brokers::turn`].
    ///
    /// # Errors
    /// The message was not taken, and no answer follows.
    fn publish(
        &mut self,
        broker: u16,
        channel: &[u8],
        payload: &[u8],
        token: u64,
        now: u64,
    ) -> Result<(), NotPublished>;

    /// Whether a message of this many bytes, its channel's name included, would be taken, or
    /// refused at once. False: there will be room later.
    fn is_ready_for(&self, broker: u16, bytes: usize) -> bool;

    /// Whether clients should not be read for more to publish: much is under way, a message of this
    /// many bytes does not fit, or the broker has not started. A broker that is away is not
    /// congested: it refuses at once.
    fn is_congested(&mut self, broker: u16, bytes: usize) -> bool;

    /// Whether the broker has neither been able to publish yet nor failed.
    fn is_starting(&self, broker: u16) -> bool;

    /// A peer has something to read, or has connected.
    fn peer_readable(&mut self, peer: PeerId, now: u64);

    /// A peer can be written to, or has connected.
    fn peer_writable(&mut self, peer: PeerId, now: u64);

    /// A peer must be closed for good: the process is ending.
    fn peer_told_to_close(&mut self, peer: PeerId, now: u64);

    /// Time has passed. `is_late`: the process was held up, so pending input is processed before
    /// any timeout applies.
    fn tick(&mut self, is_late: bool, now: u64);

    /// The next round of the event loop: sends what was collected.
    fn turn(&mut self, now: u64);

    /// The next event. Called after each of the other methods until it returns `None`. Messages go
    /// to `sink` on the way.
    fn next_event(&mut self, out: &mut O, sink: &mut impl Sink, now: u64) -> Option<Event>;

    /// Whether work is left for [`Brokers::turn`]. Resets the flag.
    fn take_turn(&mut self) -> bool;

    /// When to call [`Brokers::tick`].
    fn deadline(&self) -> Option<u64>;

    /// The same, if it may have changed since the last call.
    fn moved_deadline(&mut self) -> Option<u64>;

    /// Whether an answer is awaited: a process that quits has to wait for it.
    fn owes(&self) -> bool;

    /// Bytes held, for the memory account.
    fn held_bytes(&self) -> usize;

    /// The status of each broker, in the order of the configuration.
    fn status(&self) -> Vec<BrokerStatus>;

    /// Closes all peers, because the process ends.
    fn close(&mut self);
}
