//! The WebSocket module, checked against the text of the RFCs, a naive twin and an independent
//! client.

mod client;
mod compressed;
mod deflate;
mod dialogue;
mod handshake;
mod inflated;
mod memory;
mod negotiation;
mod rules;
mod splits;
mod support;
mod twin;
mod way_out;
