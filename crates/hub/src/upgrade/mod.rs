//! From a request to a client: check, wait until subscribed, accept.

mod argument;
mod check;
mod waiting;

pub use argument::{argument, is_fit};
pub use check::{Refused, Wish, channel, check, log_refused};
pub use waiting::{Channels, WaitingRoom};
