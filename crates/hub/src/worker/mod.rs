//! The hub itself, and what it does: each file is one kind of event or one kind of state.
//!
//! The state that is not one client's lies in files of its own (`drain`, `queues`, `throttle`,
//! `untold`, `encoders`); `hub` puts it together; the others are what happens to it.

mod account;
mod clients;
mod delivery;
mod drain;
mod encoders;
mod flush;
mod handshake;
mod hub;
mod leave;
mod limits;
mod links;
mod posts;
mod queues;
mod throttle;
mod untold;

pub use hub::Hub;
