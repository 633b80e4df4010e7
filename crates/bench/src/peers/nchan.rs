//! Nchan with Redis, of Debian's package. It publishes by its own HTTP endpoint only: that is a
//! second nginx, on the load's core, so that the one that is measured only delivers.
use anyhow::Result;

use super::nginx::{self, Conf};
use super::{Lab, SUBSCRIBE, Server};
use crate::cpu;
use crate::load::Via;

const PUBLISH: &str = "/publish";

/// Starts both.
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
    Ok(server)
}

fn conf<'a>(lab: &Lab, name: &'a str, server: String) -> Conf<'a> {
    Conf {
        name,
        main: "load_module modules/ngx_nchan_module.so;".to_owned(),
        http: format!("nchan_redis_url redis://{};", lab.redis),
        server,
    }
}
