//! The WebSocket room against the RFCs' text, a naive twin and an independent client.

mod client;
mod deflate;
mod dialogue;
mod handshake;
mod memory;
mod negotiation;
mod rules;
mod splits;
mod support;
mod twin;
