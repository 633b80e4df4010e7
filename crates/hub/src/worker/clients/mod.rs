//! Events of one client: how it begins, what it sends, what it is sent, how it ends.

mod close;
mod pause;
mod read;
mod turns;
mod watch;
mod write;

pub(super) use pause::Paused;
pub(super) use turns::Turns;
pub(super) use write::ROUND_BUDGET;
