//! A bare loop ([`crate::reference`]) in a process of its own.
use std::net::TcpStream;

use anyhow::Result;

use super::{Lab, Server};
use crate::load::Via;
use crate::net;
use crate::process::Process;
use crate::reference::Writes;

/// Starts it.
pub fn start(lab: &Lab, name: &str, writes: Writes) -> Result<Server> {
    let address = net::free_address()?;
    let via = lab.by_redis(name);
    let Via::Redis { channel, .. } = &via else {
        unreachable!("by_redis")
    };
    let how = match writes {
        Writes::PerDelivery => "per-delivery",
        Writes::PerWakeUp => "per-wake-up",
    };
    let arguments = [
        "serve",
        how,
        &address.to_string(),
        &lab.redis.to_string(),
        channel,
    ];
    let mut process = Process::start(&lab.program, &arguments, lab.log(name))?;
    process.until(|| TcpStream::connect(address).is_ok())?;
    Ok(Server {
        pid: process.pid(),
        address,
        tls: None,
        via,
        processes: vec![process],
    })
}
