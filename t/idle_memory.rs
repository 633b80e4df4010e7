//! The cost of an idle client: it is the same whatever came with its handshake and whichever module
//! looked at it.

use std::sync::Mutex;

use t::settings::{Build, Flavor, build, flavor};
use t::{Conf, Nginx, Raw, Redis, Request, Transport, process};

const CLIENTS: usize = 2_000;

/// Only the build that operators run has the documented size.
fn is_of_use() -> bool {
    flavor() == Flavor::Debian && build() == Build::Release
}

/// A handshake with this many lines of cookies, each with this many bytes.
fn handshake(lines: usize, bytes: usize) -> Vec<u8> {
    let upgrade = Request::upgrade("/ws?channel=foo").header("X-Real-IP", "192.0.2.7");
    let cookie = "c".repeat(bytes);
    let line = |request: Request, _| request.header("Cookie", &cookie);
    (0..lines).fold(upgrade, line).wire()
}

/// Bytes of the worker's memory per idle client with this handshake.
#[track_caller]
fn bytes_each(directives: &str, handshake: &[u8]) -> i64 {
    // When another nginx exits, its share of the shared pages is charged to this one.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .http("websocket_ping_interval 0; websocket_timeout 0;")
        .http("limit_conn_zone $binary_remote_addr zone=zone:1m;")
        .location(
            "/packed",
            "websocket_echo; websocket_subscribe packed; websocket_deflate on;",
        )
        .server(directives);
    let nginx = Nginx::start(conf);
    let join = |_| {
        let mut client = Raw::open(&nginx, Transport::Ws);
        client.send(handshake);
        client.expect_101();
        client
    };
    let bytes = || {
        // When this is answered, the worker has finished the last client's handshake.
        assert_eq!(nginx.get("/plain").status, 200);
        process::proportional_bytes(nginx.worker()) as i64
    };
    // What is created for the first clients must exist before memory is compared.
    let first: Vec<Raw> = (0..100).map(join).collect();
    let before = bytes();
    let clients: Vec<Raw> = (0..CLIENTS).map(join).collect();
    let grown = bytes() - before;
    drop((first, clients));
    grown / CLIENTS as i64
}

#[test]
fn headers_and_other_modules_add_nothing() {
    if !is_of_use() {
        return;
    }
    process::allow_many_descriptors();
    let least = bytes_each("", &handshake(0, 0));
    let (realip, limit_conn) = ("set_real_ip_from 127.0.0.1;", "limit_conn zone 5000;");
    for (directives, lines, bytes) in [
        ("", 1, 2_048),
        ("", 4, 7_400),
        (realip, 0, 0),
        (limit_conn, 1, 2_048),
        (&format!("{realip} {limit_conn}"), 1, 2_048),
    ] {
        let each = bytes_each(directives, &handshake(lines, bytes));
        assert!(
            each.abs_diff(least) <= 24,
            "{each} bytes with {lines} lines of {bytes} and {directives:?}, {least} without"
        );
    }
}

#[test]
fn a_client_that_may_compress_adds_nothing_until_it_does() {
    if !is_of_use() {
        return;
    }
    process::allow_many_descriptors();
    let plain = Request::upgrade("/packed");
    let offer = "permessage-deflate; client_max_window_bits";
    let packed = plain.clone().header("Sec-WebSocket-Extensions", offer);
    let least = bytes_each("", &plain.wire());
    let each = bytes_each("", &packed.wire());
    assert!(each.abs_diff(least) <= 24, "{each} bytes, {least} without");
}
