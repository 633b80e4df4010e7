//! Work that shares a worker with a fan-out: the wait for a message, for plain HTTP and for a
//! handshake. Also how messages get from clients to Redis.
mod publishing;
mod waiting;

pub use publishing::{Rate, Share, measure as publishing};
pub use waiting::{Row, measure as waiting};

use std::time::Duration;

/// How long to measure, and with how many clients.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The duration of continuous measurements.
    pub length: Duration,
    /// The number of clients is divided by this.
    pub divisor: usize,
    /// The number of messages of 1 MiB, one a second.
    pub large: usize,
}

impl Scale {
    /// The scale of published results.
    pub const FULL: Self = Self {
        length: Duration::from_secs(5),
        divisor: 1,
        large: 5,
    };
    /// The scale for checking that it works.
    pub const QUICK: Self = Self {
        length: Duration::from_millis(500),
        divisor: 10,
        large: 1,
    };
}
