//! The module of this project.
use std::path::Path;

use anyhow::Result;

use super::nginx::{self, Conf};
use super::{DEFLATE, ECHO, Lab, POST, PUBLISH, SUBSCRIBE, Server};
use crate::load::Via;

/// Starts this build of the module with this value of `websocket_io_uring`.
pub fn start(lab: &Lab, name: &str, module: &Path, uring: &str) -> Result<Server> {
    let via = lab.by_redis(name);
    let Via::Redis { address, channel } = &via else {
        unreachable!("by_redis")
    };
    let published = lab.published();
    let conf = Conf {
        name,
        main: format!(
            "load_module {};\nwebsocket_io_uring {uring};",
            module.display()
        ),
        http: format!("websocket_redis redis://{address};"),
        server: format!(
            "location = {SUBSCRIBE} {{ websocket_subscribe {channel}; }}
        location = {DEFLATE} {{ websocket_deflate on; websocket_subscribe {channel}; }}
        location = {ECHO} {{ websocket_echo; }}
        location = {PUBLISH} {{ websocket_publish {published}; }}
        location = {POST} {{ websocket_publisher {published}; }}"
        ),
    };
    Ok(nginx::start(lab, &conf)?.server(via))
}
