//! Sans-I/O protocol cores: bytes in, events and bytes out; time is an argument.
#![forbid(unsafe_code)]

pub mod envelope;
pub mod redis;
pub mod websocket;
