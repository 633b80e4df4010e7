//! The WebSocket room against the RFC's text, a naive twin and an independent client.

mod client;
mod dialogue;
mod handshake;
mod memory;
mod rules;
mod splits;
mod support;
mod twin;
