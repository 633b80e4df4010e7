//! From a request to a client: check, wait until subscribed, accept.

mod argument;
mod check;
pub mod refused;
mod waiting;

pub use argument::{argument, is_fit};
pub use check::{Admission, channel, check, log_refused};
pub use refused::Refused;
pub use waiting::{ChannelIds, WaitingRoom};
