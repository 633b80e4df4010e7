//! Promise: a live client is not taken for dead. A client is judged by what it does, not by when a
//! busy worker looks, nor by what the worker itself put off. A dead one is still found.

use std::time::{Duration, Instant};
use t::process::{self, Signal};
use t::{Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Request, Transport, frames, until};

/// More clients than one call of epoll reports.
const CROWD: usize = 1_500;

/// A worker is stopped for longer than `websocket_timeout`, and for longer than a handshake may
/// wait for Redis. What clients and Redis send meanwhile stays in the sockets.
#[test]
fn a_worker_that_stood_still_blames_nobody() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url())
        .http("websocket_ping_interval 500ms; websocket_timeout 4s;")
        .location("/echo", "websocket_echo;");
    let nginx = Nginx::start(conf);
    Client::connect(&nginx, "/ws?channel=first").close();
    let mut crowd = Crowd::accepted(&nginx, CROWD, |_| "/echo".to_owned());
    // All are pinged before they are read again.
    std::thread::sleep(Duration::from_millis(1_200));
    proxy.hold_replies(true);
    let mut waits = Raw::open(&nginx, Transport::Ws);
    waits.send(Request::upgrade("/ws?channel=foo").wire());
    redis.until_subscribers("foo", 1);
    process::signal(nginx.worker(), Signal::STOP);
    for index in 0..CROWD {
        crowd.send(index, &frames::text("here"));
    }
    proxy.hold_replies(false);
    std::thread::sleep(Duration::from_millis(5_500));
    process::signal(nginx.worker(), Signal::CONT);
    waits.expect_101();
    crowd.until("all are heard", |all| {
        all.iter().all(|m| m.texts() == ["here"] || !m.is_open())
    });
    let lost = crowd.members().iter().filter(|m| !m.is_open()).count();
    assert_eq!(lost, 0, "of {CROWD} clients");
    assert_eq!(nginx.count_log("websocket closed"), 0);
}

const A_SECOND: &str = "websocket_ping_interval 0; websocket_timeout 1s;";

fn echo(settings: &str) -> Nginx {
    Nginx::start(
        Conf::new()
            .http(settings)
            .location("/echo", "websocket_echo;"),
    )
}

#[test]
fn a_frame_that_comes_steadily_may_take_longer_than_the_timeout() {
    let nginx = echo(&format!("{A_SECOND} websocket_max_message 1m;"));
    let message = frames::binary(vec![7; 200_000]);
    std::thread::scope(|scope| {
        for transport in Transport::BOTH {
            let (nginx, message) = (&nginx, &message);
            scope.spawn(move || {
                let mut raw = Raw::accepted(nginx, transport, "/echo");
                let wire = message.wire();
                for piece in wire.chunks(wire.len() / 60) {
                    raw.send(piece);
                    std::thread::sleep(Duration::from_millis(50));
                }
                raw.expect([message.clone()]);
            });
        }
    });
}

/// The first is silent. The others are never silent for as long as `websocket_timeout`.
#[test]
fn a_message_that_comes_drop_by_drop_ends_with_1008_and_silence_with_1001() {
    let nginx = echo(A_SECOND);
    let drops: [(&str, &[u8], &[u8], u16); 4] = [
        ("silence", b"", b"", 1001),
        ("a header", b"\x82", b"\xfd", 1008),
        ("a frame", b"\x82\xfe\x80\0\0\0\0\0", b"\0", 1008),
        ("fragments", b"\x02\x80\0\0\0\0", b"\0\x81\0\0\0\0a", 1008),
    ];
    std::thread::scope(|scope| {
        for (what, first, drop, code) in drops {
            let nginx = &nginx;
            scope.spawn(move || {
                let mut raw = Raw::accepted(nginx, Transport::Ws, "/echo");
                raw.send(first);
                let end = Instant::now() + t::patience();
                raw.stream().set_read_timeout(Duration::from_millis(100));
                while nginx.count_log(&format!("closed with {code}")) == 0 {
                    assert!(Instant::now() < end, "{what}");
                    let _ = raw.try_send(drop);
                    std::thread::sleep(Duration::from_millis(100));
                }
                raw.stream().set_read_timeout(t::patience());
                raw.expect_close_frame(code);
            });
        }
    });
}

/// While Redis takes no more, the clients' messages are not read. This does not count as their
/// silence or their delay.
#[test]
fn clients_that_are_paused_for_redis_lose_no_time() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url())
        .location("/say", "websocket_publish said;")
        .location("/status", "websocket_status;");
    let nginx = Nginx::start(conf.http(A_SECOND));
    let mut listener = redis.session();
    listener.subscribe("said");
    let mut talker = Raw::accepted(&nginx, Transport::Ws, "/say");
    let mut midway = Transport::BOTH.map(|over| Raw::accepted(&nginx, over, "/say"));
    for raw in [&mut talker].into_iter().chain(&mut midway) {
        raw.send_frame(&frames::text("hello"));
        assert_eq!(listener.push().1, "hello");
    }
    proxy.hold_replies(true);
    midway
        .iter_mut()
        .for_each(|raw| raw.send_frame(&frames::text("be").more()));
    // More than may be unanswered at a time.
    let flood = frames::text("x").wire().repeat(10_500);
    talker.send(&flood);
    until("more is unanswered than may be", || {
        nginx.get("/status").json()["redis"][0]["unanswered"].as_u64() > Some(10_000)
    });
    assert_eq!(listener.push().1, "x");
    midway
        .iter_mut()
        .for_each(|raw| raw.send_frame(&frames::cont("gun")));
    talker.send_frame(&frames::text("last"));
    std::thread::sleep(Duration::from_millis(2_500));
    proxy.hold_replies(false);
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let (_, message) = listener.push();
        if message != "x" {
            heard.push(message);
        }
    }
    heard.sort();
    assert_eq!(heard, ["begun", "begun", "last"]);
    assert_eq!(nginx.count_log("websocket closed"), 0);
}

/// A client in the middle of a message takes the echo of its previous message so slowly that it is
/// not read for longer than the timeout.
#[test]
fn a_client_that_is_paused_for_its_echo_loses_no_time() {
    let settings = "websocket_notsent 16k; websocket_max_message 1m;";
    let nginx = echo(&format!("{A_SECOND} {settings}"));
    std::thread::scope(|scope| {
        for transport in Transport::BOTH {
            let nginx = &nginx;
            scope.spawn(move || an_echo_is_taken_slowly(nginx, transport));
        }
    });
    assert_eq!(nginx.count_log("websocket closed"), 0);
}

fn an_echo_is_taken_slowly(nginx: &Nginx, transport: Transport) {
    let message = frames::binary(vec![7; 600_000]);
    let said = [message.wire(), frames::text("be").more().wire()].concat();
    let mut raw = Raw::accepted_narrow(nginx, transport, "/echo");
    raw.send(&said);
    let mut taken = Vec::new();
    for _ in 0..30 {
        taken.extend(raw.bytes(15_000));
        std::thread::sleep(Duration::from_millis(100));
    }
    raw.unread(&taken);
    raw.expect([message]);
    raw.send_frame(&frames::cont("gun"));
    raw.expect([frames::text("begun")]);
}

/// The worker is stopped before it has pinged any client. Late pings are answered in time.
#[test]
fn idle_clients_outlive_a_pause_of_the_worker_that_is_longer_than_the_timeout() {
    let nginx = echo("websocket_ping_interval 1s; websocket_timeout 2s;");
    let mut crowd = Crowd::accepted(&nginx, 50, |_| "/echo".to_owned());
    process::signal(nginx.worker(), Signal::STOP);
    crowd.pump(Duration::ZERO);
    std::thread::sleep(Duration::from_millis(2_500));
    process::signal(nginx.worker(), Signal::CONT);
    let end = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < end {
        crowd.pump(Duration::from_millis(50));
    }
    assert!(crowd.members().iter().all(t::Member::is_open));
    until("nobody was given up", || {
        nginx.count_log("websocket closed") == 0
    });
}
