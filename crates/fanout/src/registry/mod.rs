//! The only entry to fan-out: channels, feeds, and the membership of every client.

mod audience;
mod feeds;
mod memory;
mod publish;
mod shortage;
mod state;

pub use publish::Listeners;
pub use shortage::Furthest;
pub use state::Registry;
