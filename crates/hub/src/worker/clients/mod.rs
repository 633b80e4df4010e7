//! Events of one client: how it begins, what it sends, what it is sent, how it ends.

mod close;
mod pause;
mod read;
mod turns;
mod watch;
mod write;
