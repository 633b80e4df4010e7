//! `ngx_http_websocket_module`: WebSocket in nginx's event loop, bridged to Redis pub/sub.
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
//! Rooms, and who may call whom:
//! - [`worker`] owns everything of one nginx worker, and alone routes between the rooms;
//! - [`upgrade`], [`session`], [`broker`] and [`http`] are fields of it: they take arguments,
//!   return values, and hold no pointer to each other. They use the pure crates `proto` and
//!   `fanout`, and [`nginx`];
//! - [`nginx`] is the only home of FFI and `unsafe`. Its trampolines alone call [`worker`];
//! - [`conf`] holds what nginx.conf says, [`variables`] what nginx.conf may ask.
//!
//! `arrows` tests that it stays so.
#![deny(unsafe_code)]
// also refuses no_mangle and unsafe impl
// Unit tests don't link nginx, so nothing leads from `nginx_modules` to the code there.
#![cfg_attr(test, allow(dead_code))]

#[cfg(test)]
mod arrows;
mod broker;
mod conf;
#[cfg(test)]
mod documented;
mod http;
#[allow(unsafe_code)] // the one room for FFI
mod nginx;
mod session;
mod upgrade;
mod variables;
mod worker;
