//! The server's side of RFC 6455, without a socket.
//!
//! ```text
//!  request ──> handshake ──> 101          (origin, deflate: what the answer depends on)
//!  bytes ────> connection ──> Event       frame ─> mask + utf8 ─> assembler ─> deflate
//!  Event ────> frame, close ──> bytes     (what goes out is never masked)
//! ```
//!
//! [`connection::Connection`] owns a client's incomplete message and frame. Everything else here is
//! a pure function or a value. Nothing here knows the time: timeouts are the caller's.

pub mod assembler;
pub mod close;
mod close_code;
pub mod connection;
pub mod deflate;
mod event;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod mask;
mod message;
pub mod misbehaved;
pub mod origin;
pub mod utf8;

mod list;
