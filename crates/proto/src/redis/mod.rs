//! Redis pub/sub without I/O: received bytes go in, events and bytes to send come out.
//!
//! A worker keeps two links to each configured server, a subscriber and a publisher ([`Role`]),
//! however many clients it has. The caller owns sockets, TLS and timers. Time is an argument, in
//! milliseconds of any clock that never goes back.
//!
//! ```text
//!   url ──> Server ──> link ──────────────> bytes to send, the next deadline
//!                       │ resp: replies and pushes, sliced in place
//!                       │ subscriptions: wanted, asked, confirmed, leaving
//!                       │ probe: is what we publish delivered to us?
//!                       │ backoff: when to try again
//!   bytes received ──>  └─────────────────> events: confirmed, message, published, ...
//! ```

pub mod backoff;
mod command;
pub mod link;
mod probe;
mod read_buffer;
pub mod resp;
pub mod subscriptions;
pub mod url;
mod write_buffer;

pub use link::{Event, LINK_LOST, Link, NotPublished, PROBE_TOKEN, Role};
pub use probe::PROBE_PREFIX;
pub use subscriptions::{Subscribed, SubscriptionKind};
pub use url::{Address, Server, UrlError};
