//! How many client messages reach Redis's subscriber, and what limits them.
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Scale;
use crate::cpu;
use crate::load::{Publishers, Road};
use crate::peers::{Lab, Peer};
use crate::reference::Writes;

/// The result of one way to publish.
pub struct Rate {
    /// Messages per second that the subscriber got.
    pub per_second: f64,
    /// The CPU time of nginx's worker.
    pub worker: Option<Share>,
    /// The CPU time of Redis.
    pub redis: Share,
}

/// A process's share of CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// As a part of the elapsed time.
    pub of_time: f64,
    /// Nanoseconds per message.
    pub per_message: f64,
}

impl Share {
    fn of(used: Duration, passed: Duration, messages: u64) -> Self {
        Self {
            of_time: used.as_secs_f64() / passed.as_secs_f64(),
            per_message: used.as_nanos() as f64 / messages as f64,
        }
    }
}

/// Measures each way to publish. Returns its title with the result, or why it failed.
pub fn measure(lab: &Lab, scale: Scale) -> Vec<(&'static str, Result<Rate, String>)> {
    let ways = [
        ("64 WebSocket clients, pipelined", Road::Websocket, 64),
        ("64 posters, one post at a time each", Road::Post, 64),
        (
            "64 clients of Redis itself, pipelined `PUBLISH`",
            Road::Redis,
            64,
        ),
        (
            "one client of Redis itself, pipelined `PUBLISH`",
            Road::Redis,
            1,
        ),
    ];
    let rate = |(title, road, clients)| {
        eprintln!("publishing: {title}");
        let rate = of(lab, road, clients, scale).map_err(|error| format!("{error:#}"));
        if let Err(error) = &rate {
            eprintln!("  failed: {error}");
        }
        (title, rate)
    };
    ways.into_iter().map(rate).collect()
}

fn of(lab: &Lab, road: Road, clients: usize, scale: Scale) -> Result<Rate> {
    let server = match road {
        Road::Redis => None,
        Road::Websocket | Road::Post => Some(Peer::Module.start(lab, Writes::PerDelivery)?),
    };
    let address = server.as_ref().map_or(lab.redis, |server| server.address);
    let channel = lab.published();
    let mut load = Publishers::open(road, address, lab.redis, channel, clients)?;
    load.turn(scale.length / 10)?;
    let worker = server.as_ref().map(|server| server.pid);
    let used = || -> Result<_> {
        Ok((
            worker.map(cpu::used).transpose()?,
            cpu::used(lab.redis_pid)?,
        ))
    };
    let (before, begin) = (used()?, Instant::now());
    let messages = load.turn(scale.length)?;
    let (passed, after) = (begin.elapsed(), used()?);
    Ok(Rate {
        per_second: messages as f64 / passed.as_secs_f64(),
        worker: after
            .0
            .zip(before.0)
            .map(|(after, before)| Share::of(after - before, passed, messages)),
        redis: Share::of(after.1 - before.1, passed, messages),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_time_and_for_each_message() {
        let share = Share::of(Duration::from_millis(500), Duration::from_secs(2), 1000);
        assert_eq!(
            share,
            Share {
                of_time: 0.25,
                per_message: 500_000.0
            }
        );
    }
}
