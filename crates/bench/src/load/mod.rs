//! What the servers are given: deliveries, echoes, handshakes, idle clients. Each checks what comes
//! back, and fails on a loss, a disorder or a wrong byte.
mod crowd;
mod echo;
mod fanout;
mod handshakes;
mod meanwhile;
mod publisher;
mod publishers;

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

pub use crowd::open;
pub use echo::Echo;
pub use fanout::{Fanout, Pace};
pub use handshakes::Handshakes;
pub use meanwhile::meanwhile;
pub use publisher::{Publisher, Via};
pub use publishers::{Publishers, Road};

/// What a turn of a load did, or several.
pub struct Turn {
    /// Deliveries, echoes or handshakes.
    pub work: u64,
    /// From the publishing, sending or connecting to the receiving, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From the publishing until the last subscriber had received; of deliveries only.
    pub last: Histogram<u64>,
}

impl Turn {
    /// Both together.
    ///
    /// # Errors
    /// None: the histograms have the same bounds.
    pub fn and(mut self, other: &Self) -> Result<Self> {
        self.work += other.work;
        self.latency.add(&other.latency)?;
        self.last.add(&other.last)?;
        Ok(self)
    }
}

/// A load on one server, which stays connected between its turns.
pub trait Load {
    /// Works for about so long, and ends with nothing under way.
    ///
    /// # Errors
    /// The server lost, mixed up or spoilt something, closed a connection, or stalled.
    fn turn(&mut self, length: Duration) -> Result<Turn>;

    /// Answers what the server has asked between turns, such as pings.
    ///
    /// # Errors
    /// The server closed a connection.
    fn tend(&mut self) -> Result<()>;
}

/// How long nothing may come before a server counts as stalled.
const STALLED: Duration = Duration::from_secs(5);

/// 100 ns to 100 s, within 1 %.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 100_000_000_000, 2).unwrap_or_else(|_| unreachable!())
}

/// The payload of message `sequence`: its number in hexadecimal, then letters that move with it.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let mut payload = format!("{sequence:016x}").into_bytes();
    payload.extend((0..len - payload.len()).map(|i| b'a' + ((sequence as usize + i) % 26) as u8));
    payload
}

/// The number within a payload.
fn sequence(payload: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(payload.get(..16)?).ok()?, 16).ok()
}
