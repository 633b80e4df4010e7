//! One worker of the module, without nginx: handshakes, sessions, brokers, delivery, limits,
//! publishing, status.
//!
//! ```text
//!            handshake                        message
//!   client ───────────> upgrade              Redis socket
//!      │                  │ subscribed?          │
//!      │                  v                      v
//!      │ frames        session ──publish──> broker (proto::redis::Link)
//!      └─────────────────>│                      │ Event::Message
//!                         │                      v
//!   one write per dirty   │                   worker
//!   client  <─────────────┴── flush <── feeds of the channel (fanout::Registry), framed once
//! ```
//!
//! A [`Hub`] holds all of it. Events from outside call its methods; whatever it needs from outside
//! it asks for through one trait, [`outside::Outside`]. It names neither nginx nor a clock nor a
//! socket.
#![forbid(unsafe_code)]

pub mod answer;
pub mod broker;
mod counters;
pub mod guard;
pub mod http;
pub mod outside;
mod patience;
pub mod session;
pub mod settings;
pub mod upgrade;
mod worker;

pub use counters::{Counters, Refusals};
pub use worker::Hub;
