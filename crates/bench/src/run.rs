//! Paired turns: the bare loop and a server get the same load one right after the other, so that
//! other activity on the machine affects both.
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cpu;
use crate::load::{Echo, Fanout, Handshakes, Load, Pace, Turn};
use crate::peers::{ECHO, Lab, Peer, SUBSCRIBE, Server};
use crate::scenario::{Kind, Scenario};
use crate::statistics::Spread;

/// The amount of measuring.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The number of compared pairs of turns, of the bare loop and of a server.
    pub pairs: usize,
    /// The length of a turn.
    pub turn: Duration,
}

impl Effort {
    /// At low message rates turns are longer, and there are fewer.
    fn for_kind(self, kind: &Kind) -> Self {
        let Kind::Fanout {
            pace: Pace::PerSecond(rate),
            ..
        } = kind
        else {
            return self;
        };
        let turn = self.turn.max(Duration::from_secs(10) / *rate);
        let pairs = if turn > self.turn {
            self.pairs.div_ceil(6)
        } else {
            self.pairs
        };
        Self { pairs, turn }
    }
}

/// A row of the report.
pub struct Row {
    /// What was measured.
    pub scenario: Scenario,
    /// `None` if the server cannot do it. An error says why it failed.
    pub cells: Vec<(Peer, Option<Result<Cell, String>>)>,
}

/// The results of one server.
pub struct Cell {
    /// Work per CPU time, relative to the bare loop in the same pair.
    pub ratio: Spread,
    /// CPU time of one delivery, echo or handshake, in nanoseconds: of the server and of the bare
    /// loop.
    pub cost: (Spread, Spread),
    /// All its turns.
    pub turns: Turn,
}

/// Measures one scenario with each of `peers`.
///
/// # Errors
/// The bare loop failed.
pub fn measure(lab: &Lab, scenario: &Scenario, peers: &[Peer], effort: Effort) -> Result<Row> {
    let budget = descriptors()?;
    let effort = effort.for_kind(&scenario.kind);
    let mut bare = Seat::start(lab, Peer::Bare, scenario)?;
    let mut cells = Vec::new();
    for &peer in peers {
        let cell = peer.can(&scenario.kind).then(|| {
            eprintln!("{}: {}", scenario.name, peer.title());
            compare(lab, scenario, &mut bare, peer, effort, budget)
                .map_err(|error| format!("{error:#}"))
        });
        if let Some(Err(error)) = &cell {
            eprintln!("  failed: {error}");
        }
        cells.push((peer, cell));
    }
    Ok(Row {
        scenario: scenario.clone(),
        cells,
    })
}

fn compare(
    lab: &Lab,
    scenario: &Scenario,
    bare: &mut Seat,
    peer: Peer,
    effort: Effort,
    budget: usize,
) -> Result<Cell> {
    let mut seat = Seat::start(lab, peer, scenario)?;
    let both_fit = 2 * bare.kind.descriptors() < budget;
    let (mut ratios, mut costs, mut bare_costs) = (Vec::new(), Vec::new(), Vec::new());
    let mut turns: Option<Turn> = None;
    for _ in 0..effort.pairs {
        // Always alternating: two turns of one server in a row would find warmer caches.
        let theirs = bare.turn(effort.turn)?;
        bare.rest(both_fit)?;
        let own = seat.turn(effort.turn)?;
        seat.rest(both_fit)?;
        ratios.push(theirs.cost / own.cost);
        costs.push(own.cost);
        bare_costs.push(theirs.cost);
        turns = Some(match turns {
            Some(turns) => turns.and(&own.turn)?,
            None => own.turn,
        });
    }
    let none = "no pairs";
    let ratio = Spread::of(ratios).context(none)?;
    eprintln!("  {:.3} ({:.3}–{:.3})", ratio.median, ratio.low, ratio.high);
    Ok(Cell {
        ratio,
        cost: (
            Spread::of(costs).context(none)?,
            Spread::of(bare_costs).context(none)?,
        ),
        turns: turns.context(none)?,
    })
}

/// A server with its load.
struct Seat {
    peer: Peer,
    kind: Kind,
    // Dropped first: clients leave before their server ends.
    load: Option<Box<dyn Load>>,
    server: Server,
}

/// The cost of a turn.
struct Taken {
    /// The server's CPU time per delivery, echo or handshake, in nanoseconds.
    cost: f64,
    turn: Turn,
}

impl Seat {
    fn start(lab: &Lab, peer: Peer, scenario: &Scenario) -> Result<Self> {
        let server = peer.start(lab, scenario.against)?;
        Ok(Self {
            peer,
            kind: scenario.kind,
            load: None,
            server,
        })
    }

    fn turn(&mut self, length: Duration) -> Result<Taken> {
        self.try_turn(length).with_context(|| self.peer.title())
    }

    fn try_turn(&mut self, length: Duration) -> Result<Taken> {
        let load = match &mut self.load {
            Some(load) => load,
            none => {
                let load = none.insert(open(&self.server, self.kind)?);
                load.turn(length / 4)?;
                load
            }
        };
        load.tend()?;
        let before = settle(&self.server)?;
        let turn = load.turn(length)?;
        let used = settle(&self.server)? - before;
        let cost = used.as_nanos() as f64 / turn.work as f64;
        Ok(Taken { cost, turn })
    }

    /// Stays connected during the other's turn, or disconnects to free the descriptors for it.
    fn rest(&mut self, connected: bool) -> Result<()> {
        if !connected {
            self.load = None;
            settle(&self.server)?;
        }
        Ok(())
    }
}

fn open(server: &Server, kind: Kind) -> Result<Box<dyn Load>> {
    let address = server.address;
    Ok(match kind {
        Kind::Fanout {
            subscribers,
            size,
            pace,
        } => Box::new(Fanout::open(
            address,
            SUBSCRIBE,
            &server.via,
            subscribers,
            size,
            pace,
        )?),
        Kind::Echo { connections, size } => Box::new(Echo::open(address, ECHO, connections, size)?),
        Kind::Handshakes { at_once } => Box::new(Handshakes::open(address, SUBSCRIBE, at_once)?),
    })
}

/// Waits until the server is idle, for at most two seconds. Returns its CPU time.
fn settle(server: &Server) -> Result<Duration> {
    let mut last = cpu::used(server.pid)?;
    for _ in 0..700 {
        sleep(Duration::from_millis(3));
        let now = cpu::used(server.pid)?;
        if now - last < Duration::from_micros(100) {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Raises this process's descriptor limit to the maximum. Returns the limit.
fn descriptors() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(limit.maximum.map_or(usize::MAX, |most| most as usize))
}
