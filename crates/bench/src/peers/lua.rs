//! The OpenResty recipe with Debian's packages: a coroutine and a Redis connection per client.
use std::fs;

use anyhow::Result;

use super::nginx::{self, Conf};
use super::{ECHO, Lab, SUBSCRIBE, Server};
use crate::load::Via;

/// Starts the server.
pub fn start(lab: &Lab, name: &str) -> Result<Server> {
    let via = lab.by_redis(name);
    let Via::Redis { address, channel } = &via else {
        unreachable!("by_redis")
    };
    let subscribe = subscriber(&address.ip().to_string(), address.port(), channel);
    let directory = lab.directory.join(name);
    fs::create_dir_all(&directory)?;
    let file = |path: &str| directory.join(format!("{}.lua", path.trim_start_matches('/')));
    fs::write(file(SUBSCRIBE), subscribe)?;
    fs::write(file(ECHO), ECHOER)?;
    let location = |path: &str| {
        format!(
            "location = {path} {{ content_by_lua_file {}; }}\n",
            file(path).display()
        )
    };
    let conf = Conf {
        name,
        main: "load_module modules/ndk_http_module.so;
load_module modules/ngx_http_lua_module.so;"
            .to_owned(),
        http: "lua_socket_log_errors off;".to_owned(),
        server: location(SUBSCRIBE) + &location(ECHO),
    };
    Ok(nginx::start(lab, &conf)?.server(via))
}

fn subscriber(ip: &str, port: u16, channel: &str) -> String {
    format!(
        r#"
            local redis = require("nginx.redis"):new()
            redis:set_timeout(3600000)
            assert(redis:connect("{ip}", {port}))
            assert(redis:subscribe("{channel}"))
            local ws = assert(require("nginx.websocket.server"):new{{ timeout = 3600000 }})
            ngx.thread.spawn(function()
                repeat
                    local data, kind = ws:recv_frame()
                    if kind == "ping" then ws:send_pong(data) end
                until not data or kind == "close"
                ngx.exit(444)
            end)
            while true do
                local push = assert(redis:read_reply())
                assert(ws:send_text(push[3]))
            end"#
    )
}

const ECHOER: &str = r#"
            local ws = assert(require("nginx.websocket.server"):new{ timeout = 3600000 })
            while true do
                local data, kind = ws:recv_frame()
                if not data or kind == "close" then return ngx.exit(444) end
                if kind == "text" then assert(ws:send_text(data)) end
            end"#;
