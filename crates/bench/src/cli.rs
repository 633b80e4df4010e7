//! The command line: the arguments that `scripts/bench` passes on, and the subcommands of the
//! measured processes.
use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lexopt::prelude::*;

use crate::fairness::{self, Rate, Scale};
use crate::peers::{Lab, Peer, hub};
use crate::process::Process;
use crate::reference::{self, InPlace, Libc, Writes};
use crate::run::{self, Effort};
use crate::scenario::{self, Scenario};
use crate::{cpu, memory, net, report};

/// What a run must do.
struct Wish {
    directory: PathBuf,
    module: PathBuf,
    before: Option<PathBuf>,
    out: Option<PathBuf>,
    scenarios: Vec<Scenario>,
    /// How many idle clients to measure the memory of. 0: memory is not measured.
    idle: usize,
    /// The scale of latency and fairness. `None`: they are not measured.
    scale: Option<Scale>,
    peers: Vec<Peer>,
    effort: Effort,
}

/// Runs the command line.
///
/// # Errors
/// The arguments are invalid, or a measurement failed.
pub fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", how, address, redis, channel] => {
            reference::serve::<Libc>(address.parse()?, redis.parse()?, channel, writes(how)?)
        }
        ["serve-in-place", how, address, redis, channel] => {
            reference::serve::<InPlace>(address.parse()?, redis.parse()?, channel, writes(how)?)
        }
        ["hub", name, address, redis, channel] => {
            hub::serve(name, address.parse()?, redis.parse()?, channel)
        }
        _ => measure(wish()?),
    }
}

fn writes(how: &str) -> Result<Writes> {
    match how {
        "per-delivery" => Ok(Writes::PerDelivery),
        "per-wake-up" => Ok(Writes::PerWakeUp),
        _ => bail!("no way to write: {how}"),
    }
}

fn wish() -> Result<Wish> {
    let mut arguments = lexopt::Parser::from_env();
    let (mut directory, mut module, mut before) = (None, None, None);
    let (mut scenarios, mut peers) = (Vec::new(), Vec::new());
    let (mut out, mut memory, mut latency) = (None, false, false);
    let (mut pairs, mut turn, mut quick) = (None, None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("directory") => directory = Some(PathBuf::from(arguments.value()?)),
            Long("module") => module = Some(PathBuf::from(arguments.value()?)),
            Long("before") => before = Some(PathBuf::from(arguments.value()?)),
            Long("out") => out = Some(PathBuf::from(arguments.value()?)),
            Long("memory") => memory = true,
            Long("latency") => latency = true,
            Long("scenario") => scenarios.push(scenario_named(&arguments.value()?.string()?)?),
            Long("peer") => peers.push(peer_named(&arguments.value()?.string()?)?),
            Long("pairs") => pairs = Some(arguments.value()?.parse()?),
            Long("turn") => turn = Some(arguments.value()?.parse()?),
            Long("quick") => quick = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if scenarios.is_empty() && !memory && !latency {
        scenarios = scenario::ALL.to_vec();
        memory = true;
        latency = true;
    }
    if quick {
        scenarios = scenarios.into_iter().map(Scenario::small).collect();
    }
    if peers.is_empty() {
        let is_there =
            |peer: &Peer| before.is_some() || !matches!(peer, Peer::Before | Peer::BeforeUring);
        peers = Peer::ALL.iter().copied().filter(is_there).collect();
    }
    let effort = effort(pairs, turn, quick)?;
    Ok(Wish {
        directory: directory.context("--directory is missing")?,
        module: module.context("--module is missing")?,
        before,
        out,
        scenarios,
        idle: usize::from(memory) * if quick { 400 } else { 8000 },
        scale: latency.then_some(if quick { Scale::QUICK } else { Scale::FULL }),
        peers,
        effort,
    })
}

fn effort(pairs: Option<usize>, turn: Option<u64>, quick: bool) -> Result<Effort> {
    let pairs = pairs.unwrap_or(if quick { 1 } else { 31 });
    let turn = turn.unwrap_or(100);
    ensure!(
        pairs > 0 && turn > 0,
        "--pairs and --turn want a number above 0"
    );
    Ok(Effort {
        pairs,
        turn: Duration::from_millis(turn),
    })
}

fn scenario_named(name: &str) -> Result<Scenario> {
    let found = scenario::ALL.iter().find(|scenario| scenario.name == name);
    found.cloned().with_context(|| {
        let names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
        format!("no scenario {name}: there are {}", names.join(", "))
    })
}

fn peer_named(name: &str) -> Result<Peer> {
    let found = Peer::ALL.iter().find(|peer| peer.name() == name);
    found.copied().with_context(|| {
        let names: Vec<_> = Peer::ALL.iter().map(|peer| peer.name()).collect();
        format!("no peer {name}: there are {}", names.join(", "))
    })
}

fn measure(wish: Wish) -> Result<()> {
    cpu::pin(cpu::LOAD)?;
    let redis = net::free_address()?;
    let process = start_redis(&wish.directory, redis.port())?;
    let lab = Lab {
        redis,
        redis_pid: process.pid(),
        module: wish.module,
        before: wish.before,
        program: env::current_exe()?,
        directory: wish.directory,
    };
    make_certificate(&lab)?;
    let mut rows = Vec::new();
    for scenario in &wish.scenarios {
        rows.push(run::measure(&lab, scenario, &wish.peers, wish.effort)?);
    }
    let mut found = Found {
        rows,
        ..Found::default()
    };
    if wish.idle > 0 {
        found.memory = memory::measure(&lab, &wish.peers, wish.idle);
    }
    if let Some(scale) = wish.scale {
        found.waits = fairness::waiting(&lab, &wish.peers, scale);
        found.rates = fairness::publishing(&lab, scale);
    }
    show(&found, wish.out.as_deref())?;
    let failed = found.failed();
    ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}

/// The results of a run.
#[derive(Default)]
struct Found {
    rows: Vec<run::Row>,
    memory: Vec<memory::Row>,
    waits: Vec<fairness::Row>,
    rates: Vec<(&'static str, Result<Rate, String>)>,
}

impl Found {
    /// How many measurements failed.
    fn failed(&self) -> usize {
        let cells = |row: &run::Row| row.cells.iter().filter(|(_, cell)| failed(cell)).count();
        let weights = |row: &memory::Row| row.cells.iter().filter(|(_, cell)| failed(cell)).count();
        let waits = |row: &fairness::Row| row.cells.iter().filter(|(_, cell)| failed(cell)).count();
        self.rows.iter().map(cells).sum::<usize>()
            + self.memory.iter().map(weights).sum::<usize>()
            + self.waits.iter().map(waits).sum::<usize>()
            + self.rates.iter().filter(|(_, rate)| rate.is_err()).count()
    }
}

fn failed<T>(cell: &Option<Result<T, String>>) -> bool {
    matches!(cell, Some(Err(_)))
}

/// Prints the tables, and writes them and the plot to `out`.
fn show(found: &Found, out: Option<&Path>) -> Result<()> {
    let Found {
        rows,
        memory,
        waits,
        rates,
    } = found;
    let mut text = String::new();
    if !rows.is_empty() {
        text += "Work per CPU time of the server, as a ratio to the bare loop's; median and middle \
                 half of the pairs:\n\n";
        text += &report::ratios(rows);
        text += "\nCPU time of one delivery, echo or handshake, and of the bare loop's:\n\n";
        text += &report::costs(rows);
        text += "\nWhat clients waited, median and 99th percentile, at full load:\n\n";
        text += &report::latencies(rows);
        text += "\nUntil the last subscriber had a message, median and 99th percentile:\n\n";
        text += &report::last(rows);
    }
    if !memory.is_empty() {
        text += "\nMemory of the server for each idle subscriber:\n\n";
        text += &report::memory(memory);
    }
    if !waits.is_empty() {
        text += "\nMedian, 99th percentile and longest wait; in brackets the part of the time in which \
                 the worker was ready and others had its core:\n\n";
        text += &report::waits(waits);
        text += "\nCPU time of the worker between such a question and its answer, likewise:\n\n";
        text += &report::used(waits);
        text += "\nMessages that clients publish, and CPU time for each:\n\n";
        text += &report::rates(rates);
    }
    println!("{text}");
    if let Some(out) = out {
        fs::create_dir_all(out)?;
        fs::write(out.join("benchmark.md"), &text)?;
        fs::write(out.join("benchmark.svg"), report::plot(rows))?;
    }
    Ok(())
}

fn make_certificate(lab: &Lab) -> Result<()> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "30", "-subj", "/CN=localhost", "-out"])
        .arg(lab.certificate())
        .arg("-keyout")
        .arg(lab.key())
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "openssl made no certificate");
    Ok(())
}

fn start_redis(directory: &Path, port: u16) -> Result<Process> {
    let here = directory.to_str().context("a path that is no UTF-8")?;
    let port = port.to_string();
    let mut redis = Process::start(
        Path::new("redis-server"),
        &[
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            here,
            "--save",
            "",
            "--protected-mode",
            "no",
        ],
        directory.join("redis.log"),
    )?;
    redis.until(|| TcpStream::connect(format!("127.0.0.1:{port}")).is_ok())?;
    Ok(redis)
}
