//! The only home of FFI and `unsafe`: nginx's C, turned into safe methods once.
//!
//! ```text
//!   nginx's C ──events, requests──> this room ──trait Host──────────> the hub, one worker
//!             ──nginx.conf────────>           ──trait Configuration─> what the directives say
//!                                             ──trait Module────────> which of both
//! ```
//!
//! Rules of this room:
//! - It knows connections, requests, timers, directives, variables. What they are for it does not know:
//!   no service, no channel, no broker is named here. Of the hub it names what both sides must know:
//!   `outside` (sockets, levels), `answer` (plain HTTP, effects), `guard` (how a panic is caught).
//! - It is generic over who is called: each callback of nginx's is an `extern "C"` function of a
//!   [`Host`](host::Host) or a [`Module`](module::Module), compiled for the one there is, so no call
//!   goes through a table. Only `exported` says which one that is, as nginx finds a module by symbols of
//!   concrete types; nobody imports that file.
//! - Two traits, not one: a host lives in a worker process and is lent to events; a module also has
//!   what nginx asks for while it reads nginx.conf, before there is a worker.
//! - A [`Request`] is not generic, though its end is told to a host: other rooms keep many, and nginx
//!   hands them out where no host is meant. Its few methods that need the host (`gone`) are told which.
//! - Every callback that is an event passes through `event::enter`, which lends the worker's one host
//!   to a safe method, catches panics, and only *after that borrow has ended* does what the method
//!   asked for by [`Effect`](hub::answer::Effect)s (`effects`): nothing frees itself inside its own
//!   callback, and nginx may call back into the module from whatever an effect does.
//! - A handle ([`Request`], [`peer::Peer`], a client's [`Io`]) is a pointer that nginx owns. It is valid
//!   from where it was handed out until the callback that tells of its end.

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
