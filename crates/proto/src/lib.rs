//! Sans-I/O protocol cores: bytes in, events and bytes out; time is an argument.
//!
//! ```text
//!  client ──> websocket ──> the caller ──> redis ──> Redis
//!  client <── envelope  <── the caller <── redis <── Redis
//! ```
//!
//! The rooms don't know each other: [`websocket`] is one client's connection, [`redis`] one link to
//! Redis, [`envelope`] how a message of Redis becomes the bytes of a frame.
#![forbid(unsafe_code)]

pub mod envelope;
pub mod redis;
pub mod websocket;

/// The example of README.md, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
