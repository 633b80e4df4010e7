//! The only module with FFI and `unsafe`: turns nginx's C into safe methods, once.
//!
//! ```text
//!   nginx's C ──events, requests─> this module ──trait Host──────────> the hub, one worker
//!             ──nginx.conf────────>            ──trait Configuration─> what the directives say
//!                                              ──trait Module────────> which of both
//! ```
//!
//! Rules of this module:
//! - It knows connections, requests, timers, directives, variables, but not what they are used for:
//!   it names no service, no channel, no broker. Of the hub it names only what both sides must
//!   know: `outside` (sockets, levels), `answer` (plain HTTP, effects), `guard` (how a panic is
//!   caught).
//! - It is generic over what it calls: each callback is an `extern "C"` function of a
//!   [`Host`](host::Host) or a [`Module`](module::Module), compiled for the one there is, so no
//!   call goes through a table. Only `exported` names that one, because nginx finds a module by
//!   symbols of concrete types. No file imports `exported`.
//! - There are two traits, because a host lives in a worker process and is lent to events; a module
//!   also has what nginx needs while it reads nginx.conf, before there is a worker.
//! - A [`Request`] is not generic, though its end is reported to a host: other modules keep many
//!   requests, and nginx hands them out where no host is involved. Its few methods that need the
//!   host (`gone`) take it as a type parameter.
//! - Every callback that is an event goes through `event::enter`. It lends the worker's one host to
//!   a safe method, catches panics, and performs the [`Effect`](hub::answer::Effect)s that the
//!   method asked for (`effects`) only *after that borrow has ended*: nothing frees itself inside
//!   its own callback, and nginx may call back into the module from any effect.
//! - A handle ([`Request`], [`peer::Peer`], a client's [`Io`]) is a pointer that nginx owns. It is
//!   valid from where it was handed out until the callback that reports its end.

pub mod args;
mod bindings;
mod callbacks;
pub mod client;
pub mod client_slot;
pub mod complex;
pub mod configuration;
pub mod content;
pub mod directive;
pub mod effects;
mod event;
mod exported;
mod gone;
mod guard;
pub mod host;
mod index;
pub mod io;
mod listening;
pub mod log;
pub mod module;
pub mod peer;
mod pool;
pub mod process;
mod request;
pub mod ring;
pub mod slot;
pub mod ssl;
pub mod timer;
pub mod variable;

pub use client::Clients;
pub use io::Io;
pub use request::Request;
