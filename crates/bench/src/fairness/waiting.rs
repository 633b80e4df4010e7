//! How long clients wait for a server that is busy.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::Scale;
use crate::cpu;
use crate::load::{Fanout, Load as _, Pace, meanwhile};
use crate::peers::{Lab, Peer, SUBSCRIBE, Server};
use crate::reference::Writes;

/// The work of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    /// 1,000 subscribers get 100 messages a second. The subscribers themselves wait.
    Steady,
    /// 1,000 subscribers get nothing.
    Idle,
    /// 1,000 subscribers get 1 MiB each, once a second.
    Large,
    /// 10,000 subscribers get 10 messages a second.
    Many,
}

const ALL: [Situation; 4] = [
    Situation::Steady,
    Situation::Idle,
    Situation::Large,
    Situation::Many,
];

const MIB: usize = 1 << 20;

/// The result, or why it failed.
type Found = Result<Waited, String>;

/// How long clients waited.
#[derive(Clone)]
pub struct Waited {
    /// In nanoseconds.
    pub times: Histogram<u64>,
    /// The worker's CPU time within these waits, in nanoseconds. Not known for deliveries.
    pub used: Option<Histogram<u64>>,
    /// The share of time in which the worker was ready to run but others had its core. `None` if
    /// the kernel does not report it.
    pub kept_off: Option<f64>,
}

/// Waits, and the worker's CPU time within them.
type Times = (Histogram<u64>, Option<Histogram<u64>>);

/// A row of the report.
pub struct Row {
    /// Who waits, and for what.
    pub title: &'static str,
    /// `None` for a server that is not measured.
    pub cells: Vec<(Peer, Option<Found>)>,
}

impl Situation {
    /// The titles of its two histograms.
    fn titles(self) -> [&'static str; 2] {
        match self {
            Self::Steady => [
                "a message to one of 1,000, 100 a second",
                "the same to the last of them",
            ],
            Self::Idle => ["GET, no messages", "handshake, no messages"],
            Self::Large => [
                "GET, 1 MiB to 1,000 once a second",
                "handshake, 1 MiB to 1,000 once a second",
            ],
            Self::Many => [
                "GET, 10,000 get 10 messages a second",
                "handshake, 10,000 get 10 messages a second",
            ],
        }
    }

    fn asked_of(self, peer: Peer) -> bool {
        match self {
            Self::Steady => peer.is_module() || matches!(peer, Peer::Nchan | Peer::Lua),
            Self::Idle | Self::Many => peer.is_module() || peer == Peer::Nchan,
            Self::Large => peer.is_module(),
        }
    }

    fn measure(self, server: &Server, scale: Scale) -> Result<[Waited; 2]> {
        let (clients, rate) = match self {
            Self::Steady => (1000, 100),
            Self::Idle | Self::Large => (1000, 1),
            Self::Many => (10_000, 10),
        };
        let clients = clients / scale.divisor;
        let pace = Pace::PerSecond(rate);
        let (address, via) = (server.address, &server.via);
        let mut load = Fanout::open(address, SUBSCRIBE, via, clients, 128, pace)?;
        let (begin, before) = (Instant::now(), cpu::kept_off(server.pid));
        let times = self.wait(server, &mut load, scale)?;
        let kept_off = before
            .zip(cpu::kept_off(server.pid))
            .map(|(before, after)| (after - before).div_duration_f64(begin.elapsed()));
        Ok(times.map(|(times, used)| Waited {
            times,
            used,
            kept_off,
        }))
    }

    fn wait(self, server: &Server, load: &mut Fanout, scale: Scale) -> Result<[Times; 2]> {
        if self == Self::Steady {
            let turn = load.turn(2 * scale.length)?;
            return Ok([(turn.latency, None), (turn.last, None)]);
        }
        let ((), waits) = meanwhile(server, || match self {
            Self::Idle => {
                sleep(scale.length);
                Ok(())
            }
            Self::Large => {
                load.resize(MIB);
                // A turn of one second has one message.
                (0..scale.large).try_for_each(|_| load.turn(Duration::from_secs(1)).map(drop))
            }
            Self::Steady | Self::Many => load.turn(scale.length).map(drop),
        })?;
        Ok([waits.gets, waits.handshakes].map(|asked| (asked.waited, Some(asked.used))))
    }
}

/// Measures the applicable `peers`, with a new server for each situation.
pub fn measure(lab: &Lab, peers: &[Peer], scale: Scale) -> Vec<Row> {
    let asked = |peer: &&Peer| ALL.iter().any(|situation| situation.asked_of(**peer));
    let peers: Vec<Peer> = peers.iter().filter(asked).copied().collect();
    let mut rows = Vec::new();
    for situation in ALL {
        let mut pair = situation.titles().map(|title| Row {
            title,
            cells: Vec::new(),
        });
        for &peer in &peers {
            let found = situation
                .asked_of(peer)
                .then(|| of(lab, peer, situation, scale));
            for (nth, row) in pair.iter_mut().enumerate() {
                let cell = found.as_ref().map(|found| match found {
                    Ok(both) => Ok(both[nth].clone()),
                    Err(error) => Err(error.clone()),
                });
                row.cells.push((peer, cell));
            }
        }
        rows.extend(pair);
    }
    rows
}

fn of(lab: &Lab, peer: Peer, situation: Situation, scale: Scale) -> Result<[Waited; 2], String> {
    eprintln!("waiting, {situation:?}: {}", peer.title());
    let found = peer
        .start(lab, Writes::PerDelivery)
        .and_then(|server| situation.measure(&server, scale))
        .map_err(|error| format!("{error:#}"));
    if let Err(error) = &found {
        eprintln!("  failed: {error}");
    }
    found
}
