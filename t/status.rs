//! `websocket_status`: what the worker reports about itself, as JSON.

use serde_json::Value;
use t::{Client, Conf, Crowd, Nginx, Raw, Redis, Request, Transport, frames, until};

fn watched(redis: &Redis) -> Nginx {
    let conf = Conf::push(redis)
        .location("/status", "websocket_status;")
        .location(
            "/echo",
            "websocket_echo; websocket_ping_interval 200ms; websocket_timeout 600ms;",
        )
        .location("/text", "websocket_subscribe foo; websocket_frame text;")
        .location("/chat", "websocket_publish chat;")
        .location("/pub", "websocket_publisher $websocket_arg_channel;");
    Nginx::start(conf)
}

fn status(nginx: &Nginx) -> Value {
    nginx.get("/status").json()
}

/// Waits until the status has this value at this place.
#[track_caller]
fn until_is(nginx: &Nginx, pointer: &str, value: u64) {
    let mut last = Value::Null;
    until(&format!("{pointer} is {value}"), || {
        last = status(nginx);
        last.pointer(pointer).and_then(Value::as_u64) == Some(value)
    });
}

#[test]
fn it_is_json_of_the_worker_that_answers() {
    let redis = Redis::start();
    let nginx = watched(&redis);
    let answer = nginx.get("/status");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.json()["worker_pid"], nginx.worker());
    let head = nginx.send(&Request::new("HEAD", "/status").header("Connection", "close"));
    assert_eq!(head.status, 200);
    assert_eq!(nginx.send(&Request::post("/status", "x")).status, 405);
}

#[test]
fn connections_and_channels_come_and_go() {
    let redis = Redis::start();
    let nginx = watched(&redis);
    let crowd = Crowd::accepted(&nginx, 30, |i| format!("/ws?channel=foo-{}", i % 3));
    until_is(&nginx, "/connections", 30);
    until_is(&nginx, "/channels", 3);
    until_is(&nginx, "/feeds", 3);
    until_is(&nginx, "/counters/accepted", 30);
    drop(crowd);
    until_is(&nginx, "/connections", 0);
    until_is(&nginx, "/channels", 0);
    until_is(&nginx, "/feeds", 0);
    until_is(&nginx, "/counters/closed", 30);
}

#[test]
fn messages_are_counted_in_and_out() {
    let redis = Redis::start();
    let nginx = watched(&redis);
    let mut crowd = Crowd::accepted(&nginx, 10, |_| "/ws?channel=foo".to_owned());
    for _ in 0..5 {
        redis.publish("foo", "hello");
    }
    crowd.until("all heard all", |all| {
        all.iter().all(|m| m.messages.len() == 5)
    });
    until_is(&nginx, "/counters/redis_messages", 5);
    until_is(&nginx, "/counters/messages_out", 50);
    let mut talker = Client::connect(&nginx, "/chat");
    for _ in 0..7 {
        talker.send("hello");
    }
    until_is(&nginx, "/counters/messages_in", 7);
    until_is(&nginx, "/counters/published", 7);
    assert_eq!(
        nginx.send(&Request::post("/pub?channel=bar", "x")).status,
        200
    );
    until_is(&nginx, "/counters/published", 8);
    let mut echo = Client::connect(&nginx, "/echo");
    echo.send("hello");
    echo.expect(["hello"]);
    until_is(&nginx, "/counters/echoed", 1);
}

#[test]
fn refusals_are_counted_by_reason() {
    let redis = Redis::start();
    let nginx = watched(&redis);
    let foreign = Request::upgrade("/echo").header("Origin", "http://evil.example");
    assert_eq!(nginx.send(&foreign).status, 403);
    assert_eq!(nginx.get("/echo").status, 426);
    assert_eq!(nginx.handshake("/ws?channel=%00"), 400);
    for reason in ["origin", "handshake", "channel"] {
        until_is(&nginx, &format!("/refused/{reason}"), 1);
    }
    until_is(&nginx, "/refused/redis_away", 0);
}

#[test]
fn what_goes_wrong_is_counted() {
    let redis = Redis::start();
    let nginx = watched(&redis);
    let mut misbehaved = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    misbehaved.send(frames::hex("83 80 00000000"));
    misbehaved.expect_close(1002);
    until_is(&nginx, "/counters/protocol_errors", 1);
    let mut silent = Raw::accepted(&nginx, Transport::Ws, "/echo");
    while silent.receive().is_ok() {}
    until_is(&nginx, "/counters/timed_out", 1);
    let mut text = Client::connect(&nginx, "/text");
    redis.publish("foo", b"\xff");
    redis.publish("foo", "é");
    text.expect(["é"]);
    until_is(&nginx, "/counters/not_text", 1);
    assert_eq!(nginx.count_log("message dropped"), 1);
}

#[test]
fn slow_clients_and_memory_are_told() {
    let redis = Redis::start();
    let nginx = watched(&redis);
    let stuck = Raw::accepted_narrow(&nginx, Transport::Ws, "/ws?channel=foo");
    let payload = "x".repeat(500_000);
    redis.publish("foo", &payload);
    until_is(&nginx, "/lagging", 1);
    let logs = status(&nginx)
        .pointer("/memory/logs")
        .and_then(Value::as_u64)
        .unwrap();
    assert!((1..2 << 20).contains(&logs), "{logs} bytes of logs");
    for _ in 0..20 {
        redis.publish("foo", &payload);
    }
    until_is(&nginx, "/counters/slow_closed", 1);
    until_is(&nginx, "/memory/logs", 0);
    drop(stuck);
}

#[test]
fn the_state_of_redis_is_told() {
    let mut redis = Redis::start();
    let nginx = watched(&redis);
    Client::connect(&nginx, "/ws?channel=foo").close();
    let links = |nginx: &Nginx| {
        let redis = &status(nginx)["redis"][0];
        (redis["subscriber"] == true, redis["publisher"] == true)
    };
    until("both links are up", || links(&nginx) == (true, true));
    redis.kill();
    until("both links are down", || links(&nginx) == (false, false));
    redis.restart();
    until("both links are up again", || links(&nginx) == (true, true));
    assert!(!nginx.get("/status").text().contains('@'), "no credentials");
}
