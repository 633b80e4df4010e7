//! Fan-out as pure data: who listens to what, and how far each has been sent.
//!
//! A *feed* is a log, a client is a cursor in it. All clients with the same list of channels, the
//! same format and the same slow class share one feed and are sent the same bytes in the
//! same order. A client that keeps up has no cursor: it is the end of the log.
//!
//! ```text
//! publish(channel) -> each feed of the channel notes the frame in its log's open segment
//! next_dirty, flush -> one write per client that keeps up; who falls short becomes a laggard
//! unsent, sent      -> a laggard's socket is writable again; release makes it current
//! ```
//!
//! Rooms: [`registry`] (channels, feeds, memberships; the only door, by the words of `types`) -> `tape`
//! (messages for several feeds, before these have them), `feed` (members and laggards of one feed,
//! the pass over its members) -> `cursor` (one laggard and what policies do to it) -> `log` (a
//! feed's byte stream; `run`: how it grows, `excerpts`: what was copied out of it) -> `segment`,
//! `held` (bytes of one feed, and those that several hold). [`wheel`], [`queue`] and [`budget`] stand
//! alone.
//! Nothing here knows a clock, a socket or nginx: the caller sends, and tells what became of it.
#![forbid(unsafe_code)]

pub mod budget;
mod channels;
mod cursor;
mod excerpts;
mod feed;
mod held;
mod log;
mod membership;
pub mod queue;
pub mod registry;
mod run;
mod segment;
mod tape;
mod types;
pub mod wheel;

pub use budget::{Budget, Category};
pub use held::{GATHER, Pieces};
pub use queue::Queue;
pub use registry::{Furthest, Listeners, Registry};
pub use types::{
    Batch, ChannelId, ClientId, FeedId, FlushResult, FormatId, NameKind, Published, Short, Skip,
    SlowClass, SlowPolicy, ToFrame, WriteOutcome,
};
pub use wheel::Wheel;
