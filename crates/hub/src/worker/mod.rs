//! The hub itself. Each file is one kind of event or one kind of state.
//!
//! State that is not one client's has files of its own (`drain`, `queues`, `throttle`, `untold`,
//! `encoders`). `hub` puts it together; the other files handle events.

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
