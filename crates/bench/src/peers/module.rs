//! The module of this project.
use anyhow::Result;

use super::nginx::{self, Conf};
use super::{ECHO, Lab, SUBSCRIBE, Server};
use crate::load::Via;

/// Starts it, with that value of `websocket_io_uring`.
pub fn start(lab: &Lab, name: &str, uring: &str) -> Result<Server> {
    let via = lab.by_redis(name);
    let mut conf = conf(lab, name, &via, uring);
    if !nginx::accepts(lab, &conf)? {
        conf.main = load(lab);
    }
    let (master, pid, address) = nginx::start(lab, &conf)?;
    Ok(Server {
        pid,
        address,
        via,
        _processes: vec![master],
    })
}

/// Whether the module has the directive.
pub fn knows_uring(lab: &Lab) -> bool {
    let via = lab.by_redis("uring");
    nginx::accepts(lab, &conf(lab, "uring", &via, "auto")).unwrap_or(false)
}

fn load(lab: &Lab) -> String {
    format!("load_module {};", lab.module.display())
}

fn conf<'a>(lab: &Lab, name: &'a str, via: &Via, uring: &str) -> Conf<'a> {
    let Via::Redis { address, channel } = via else {
        unreachable!("by_redis")
    };
    Conf {
        name,
        main: format!("{}\nwebsocket_io_uring {uring};", load(lab)),
        http: format!("websocket_redis redis://{address};"),
        server: format!(
            "location = {SUBSCRIBE} {{ websocket_subscribe {channel}; }}
        location = {ECHO} {{ websocket_echo; }}"
        ),
    }
}
