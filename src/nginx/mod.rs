//! The only home of FFI and `unsafe`: nginx's C, turned into safe methods once.
//!
//! Rules of this room:
//! - It knows no WebSocket and no Redis. It knows sockets, requests, timers, directives.
//! - Every C callback passes through [`event::enter`], which lends the worker's one [`Worker`] to a
//!   safe method, catches panics, and only *after that borrow has ended* does what the method asked
//!   for by [`Effect`]s: nothing frees itself inside its own callback, and nginx may call back into
//!   the module from whatever an effect does.
//! - A handle ([`Request`], [`peer::Peer`], a client's [`Io`]) is a pointer that nginx owns. It is valid
//!   from where it was handed out until the callback that tells of its end.
//!
//! [`Worker`]: crate::worker::Worker

mod bindings;
pub mod client;
pub mod content;
pub mod directive;
pub mod event;
pub mod guard;
mod listening;
pub mod log;
pub mod module;
pub mod peer;
pub mod pool;
pub mod process;
pub mod request;
pub mod ring;
pub mod ssl;
pub mod timer;
pub mod variable;

pub use client::{Clients, Io};
pub use request::Request;
