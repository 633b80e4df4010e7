//! What shares a worker with a fan-out: the wait for a message, for plain HTTP, for a handshake; and
//! the way of messages from clients to Redis.
mod publishing;
mod waiting;

pub use publishing::{Rate, Share, measure as publishing};
pub use waiting::{Row, measure as waiting};

use std::time::Duration;

/// How long and with how many.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Of what is measured continuously.
    pub length: Duration,
    /// Clients are so many times fewer.
    pub divisor: usize,
    /// Messages of 1 MiB, one a second.
    pub large: usize,
}

impl Scale {
    /// What is published.
    pub const FULL: Self = Self {
        length: Duration::from_secs(5),
        divisor: 1,
        large: 5,
    };
    /// Whether it works.
    pub const QUICK: Self = Self {
        length: Duration::from_millis(500),
        divisor: 10,
        large: 1,
    };
}
