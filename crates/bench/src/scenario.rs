//! The table of what is measured.
use crate::load::Pace;
use crate::reference::Writes;

/// One row.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name for `--scenario`.
    pub name: &'static str,
    /// The title for the report.
    pub title: &'static str,
    /// The bare loop it is compared with.
    pub against: Writes,
    /// The load.
    pub kind: Kind,
}

/// The loads.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Deliveries to the subscribers of one channel.
    Fanout {
        subscribers: usize,
        size: usize,
        pace: Pace,
    },
    /// Messages that are echoed, one in flight per connection.
    Echo { connections: usize, size: usize },
    /// Connect, upgrade, leave: a given number at a time, to a channel that has a subscriber.
    Handshakes { at_once: usize },
}

use Kind::{Echo, Fanout, Handshakes};
use Pace::{InFlight, PerSecond};
use Writes::{PerDelivery, PerWakeUp};

/// All scenarios.
#[rustfmt::skip]
pub const ALL: &[Scenario] = &[
    row("fan-1000", "1,000 subscribers, one message in flight", PerDelivery,
        Fanout { subscribers: 1000, size: 128, pace: InFlight(1) }),
    row("fan-10000", "10,000 subscribers, 10 messages/s", PerDelivery,
        Fanout { subscribers: 10_000, size: 128, pace: PerSecond(10) }),
    row("rate-1000", "1,000 subscribers, 100 messages/s", PerDelivery,
        Fanout { subscribers: 1000, size: 128, pace: PerSecond(100) }),
    row("fan-4k", "1,000 subscribers, 4 KiB, one message in flight", PerDelivery,
        Fanout { subscribers: 1000, size: 4096, pace: InFlight(1) }),
    row("burst-1000", "1,000 subscribers, 64 in flight", PerWakeUp,
        Fanout { subscribers: 1000, size: 128, pace: InFlight(64) }),
    row("burst-10", "10 subscribers, 64 in flight", PerWakeUp,
        Fanout { subscribers: 10, size: 128, pace: InFlight(64) }),
    row("burst-1", "1 subscriber, 128 in flight", PerWakeUp,
        Fanout { subscribers: 1, size: 128, pace: InFlight(128) }),
    row("echo-128", "echo 128 B, 64 connections", PerDelivery,
        Echo { connections: 64, size: 128 }),
    row("echo-16k", "echo 16 KiB, 64 connections", PerDelivery,
        Echo { connections: 64, size: 16 * 1024 }),
    row("handshakes", "handshakes, subscribing to a known channel", PerDelivery,
        Handshakes { at_once: 64 }),
];

const fn row(name: &'static str, title: &'static str, against: Writes, kind: Kind) -> Scenario {
    Scenario {
        name,
        title,
        against,
        kind,
    }
}

impl Scenario {
    /// The same with a tenth of the clients, to check that it works.
    pub fn small(mut self) -> Self {
        match &mut self.kind {
            Fanout { subscribers, .. } => *subscribers = (*subscribers).div_ceil(10),
            Echo { connections, .. } => *connections = 8,
            Handshakes { at_once } => *at_once = 8,
        }
        self
    }
}

impl Kind {
    /// How many descriptors the generator needs.
    pub fn descriptors(&self) -> usize {
        match *self {
            Fanout { subscribers, .. } => subscribers + 2,
            Echo { connections, .. } => connections + 1,
            Handshakes { at_once } => at_once + 2,
        }
    }
}
