//! Fan-out as pure data: which client listens to which channels, and how far each has been sent.
//!
//! A *feed* is a log; a client is a cursor in it. All clients with the same list of channels, the
//! same format and the same slow class share one feed and are sent the same bytes in the same
//! order. A client that keeps up has no cursor of its own: it is at the end of the log.
//!
//! ```text
//! publish(channel) -> each feed of the channel notes the frame in its log's open segment
//! next_dirty, flush -> one write per client that keeps up; who falls short becomes a laggard
//! unsent, sent      -> a laggard's socket is writable again; release makes it current
//! ```
//!
//! Modules, from the caller down:
//! - [`registry`]: channels, feeds, memberships. The only entry to what follows; `types` has its
//!   arguments and results.
//! - `tape`: messages for several feeds, before the feeds take them.
//! - `feed`: the members and laggards of one feed, and the pass over its members.
//! - `cursor`: one laggard, and what the slow policies do to it.
//! - `log`: the byte stream of one feed. `run` appends to it; `excerpts` keeps copies taken out of
//!   it.
//! - `segment`, `held`: the bytes of one feed, and bytes that several feeds hold.
//!
//! [`wheel`], [`queue`] and [`budget`] stand alone. Nothing here knows a clock, a socket or nginx:
//! the caller sends, and reports the result.
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
