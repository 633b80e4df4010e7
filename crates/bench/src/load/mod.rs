//! The loads on the servers: deliveries, echoes, handshakes, idle clients. Each load checks the
//! output and fails on a lost, misordered or altered message.
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

/// The result of one or several turns of a load.
pub struct Turn {
    /// The number of deliveries, echoes or handshakes.
    pub work: u64,
    /// From publishing, sending or connecting until receiving, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From publishing until the last subscriber has received. Deliveries only.
    pub last: Histogram<u64>,
}

impl Turn {
    /// Adds up both.
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

/// A load on one server. It stays connected between its turns.
pub trait Load {
    /// Works for about `length`, and ends with nothing in flight.
    ///
    /// # Errors
    /// The server lost, reordered or altered something, closed a connection, or stalled.
    fn turn(&mut self, length: Duration) -> Result<Turn>;

    /// Answers what the server has sent between turns, such as Pings.
    ///
    /// # Errors
    /// The server closed a connection.
    fn tend(&mut self) -> Result<()>;
}

/// A server that sends nothing for this long counts as stalled.
const STALLED: Duration = Duration::from_secs(5);

/// A histogram from 100 ns to 100 s, within 1 %.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 100_000_000_000, 2).unwrap_or_else(|_| unreachable!())
}

/// The payload of message `sequence`: its number in hexadecimal, then letters that shift with it.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    let mut payload = format!("{sequence:016x}").into_bytes();
    payload.extend((0..len - payload.len()).map(|i| b'a' + ((sequence as usize + i) % 26) as u8));
    payload
}

/// The number in a payload.
fn sequence(payload: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(payload.get(..16)?).ok()?, 16).ok()
}
