//! The hot path of the pure crates without nginx and without the kernel, for `scripts/instructions`
//! to count: `instructions SCENARIO ROUNDS`, where a round is one wake-up.
#![forbid(unsafe_code)]

mod delivery;
mod echo;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().context("which scenario?")?;
    let rounds = arguments.next().context("how many rounds?")?;
    let rounds = rounds.parse().context("rounds are a number")?;
    match scenario.as_str() {
        "many-clients" => delivery::run(1_000, 1, rounds),
        "many-messages" => delivery::run(1, 64, rounds),
        "many-of-both" => delivery::run(100, 64, rounds),
        "echo" => echo::run(rounds),
        other => bail!("unknown scenario {other}"),
    }
    Ok(())
}
