//! The life of one connection to Redis, and of its successor when it is lost.
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
//! After every call that takes `&mut self`, both `handle_*` (what happened) and commands, drain
//! [`next_event`](Link::next_event), send [`output`](Link::output), and set a timer to
//! [`deadline`](Link::deadline). Several calls may share one such round; their requests then go out
//! in common commands. A new link needs its first `handle_timeout` at once.

mod event;
mod replies;
mod state;

pub use event::{Event, LINK_LOST, NotPublished, PROBE_TOKEN, Role};
pub use state::{CONNECT_MS, Link, MAX_UNANSWERED, MAX_UNSENT, PONG_MS, PROOF_MS, REPLY_MS};
