//! Nchan with Redis, from Debian's package. It publishes only through its own HTTP endpoint. That
//! is a second nginx on the load's core, so the one that is measured only delivers.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::nginx::{self, Conf};
use super::{Lab, SUBSCRIBE, Server};
use crate::load::{self, Via};
use crate::{cpu, handshake};

const PUBLISH: &str = "/publish";
/// The longest time it may take to connect to Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts both nginxes.
pub fn start(lab: &Lab, name: &str) -> Result<Server> {
    let subscriber = conf(
        lab,
        name,
        format!(
            "location = {SUBSCRIBE} {{
            nchan_subscriber websocket;
            nchan_subscriber_first_message newest;
            nchan_channel_id bench;
            nchan_use_redis on;
        }}"
        ),
    );
    let publisher = conf(
        lab,
        "nchan-publisher",
        format!(
            "location = {PUBLISH} {{
            nchan_publisher;
            nchan_message_buffer_length 500;
            nchan_channel_id bench;
            nchan_use_redis on;
        }}"
        ),
    );
    let measured = nginx::start(lab, &subscriber)?;
    cpu::pin(cpu::LOAD)?;
    let other = nginx::start(lab, &publisher)?;
    let via = Via::Http {
        address: other.address,
        path: PUBLISH.to_owned(),
    };
    let mut server = measured.server(via);
    server.processes.push(other.master);
    until_subscribed(&server)?;
    Ok(server)
}

/// The endpoint answers 503 until its worker has connected to Redis.
fn until_subscribed(server: &Server) -> Result<()> {
    let request = handshake::request(SUBSCRIBE, "");
    let begin = Instant::now();
    loop {
        match load::open(server.address, &request, 0) {
            Err(_) if begin.elapsed() < PATIENCE => sleep(Duration::from_millis(10)),
            opened => return opened.map(drop),
        }
    }
}

fn conf<'a>(lab: &Lab, name: &'a str, server: String) -> Conf<'a> {
    Conf {
        name,
        main: "load_module modules/ngx_nchan_module.so;".to_owned(),
        http: format!("nchan_redis_url redis://{};", lab.redis),
        server,
    }
}
