//! Sans-I/O protocol cores: bytes in, events and bytes out; time is an argument.
//!
//! ```text
//!  client ──> websocket ──> the caller ──> redis ──> Redis
//!  client <── framing   <── the caller <── redis <── Redis
//! ```
//!
//! [`websocket`] is one client's connection, [`redis`] one link to Redis; they don't know each other.
//! [`payload`] is what a client is told of a message, [`framing`] what carries it.
#![forbid(unsafe_code)]

pub mod framing;
pub mod payload;
pub mod redis;
pub mod websocket;

/// The example of README.md, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
