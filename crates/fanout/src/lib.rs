//! Fan-out as pure data: who listens to what, and how far each has been sent.
//!
//! A *feed* is a log, a client is a cursor in it. All clients with the same list of channels, the
//! same wire variant and the same slow class share one feed and are sent the same bytes in the
//! same order. A client that keeps up has no cursor: it is the end of the log.
//!
//! ```text
//! publish(channel) -> each feed of the channel notes the frame in its log's open segment
//! next_dirty, flush -> one write per client that keeps up; who falls short becomes a laggard
//! unsent, sent      -> a laggard's socket is writable again; release makes it current
//! ```
//!
//! Rooms: [`registry`] (channels, feeds, seats; the only door) -> `feed` (members and laggards of
//! one feed, the pass over its members) -> `cursor` (one laggard and what policies do to it) ->
//! `log` (segments and frame ends). [`wheel`] and [`budget`] stand alone. Nothing here knows a
//! clock, a socket or nginx: the caller sends, and tells what became of it.
#![forbid(unsafe_code)]

pub mod budget;
mod channels;
mod cursor;
mod feed;
mod log;
pub mod registry;
pub mod wheel;

pub use budget::{Budget, Category};
pub use registry::{
    Batch, ChannelId, ClientId, FeedId, FlushResult, Kind, Listeners, Published, Registry, Sent,
    Short, SlowClass, SlowPolicy, ToFrame, Variant,
};
pub use wheel::Wheel;
