//! Promise 5: on reload and quit every client gets its Close, and these are spread out. The worker
//! exits cleanly, with no alerts in the error log. New workers serve meanwhile.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use t::{
    Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Request, Transport, frames, process, until,
};

fn all_were_told(crowd: &mut Crowd) {
    crowd.until("all are told", |all| all.iter().all(|m| m.ended));
    for (i, member) in crowd.members().iter().enumerate() {
        assert_eq!(member.close_code, Some(1012), "client {i}");
    }
}

#[test]
fn on_quit_everyone_gets_its_close_spread_out() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis).drain("2s"));
    let mut crowd = Crowd::accepted(&nginx, 500, |i| format!("/ws?channel=foo-{}", i % 7));
    nginx.quit();
    let begin = Instant::now();
    let closed = |all: &[t::Member]| all.iter().filter(|m| m.close_code.is_some()).count();
    crowd.until("some are told", |all| closed(all) > 0);
    let (at_first, first) = (closed(crowd.members()), begin.elapsed());
    assert!(at_first < 400, "{at_first} of 500 at once, after {first:?}");
    // Clients that have not been told yet still receive messages.
    redis.publish("foo-0", "to the last ones");
    all_were_told(&mut crowd);
    assert!(
        crowd
            .members()
            .iter()
            .any(|m| m.texts() == ["to the last ones"])
    );
    assert!(
        begin.elapsed() - first > Duration::from_millis(500),
        "all in {:?}",
        begin.elapsed()
    );
    until("it has exited", || nginx.has_exited());
}

#[test]
fn new_workers_serve_while_the_old_ones_drain() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis).drain("1s"));
    let mut old = Crowd::accepted(&nginx, 200, |_| "/ws?channel=foo".to_owned());
    nginx.reload();
    let mut new = Crowd::accepted(&nginx, 200, |_| "/ws?channel=foo".to_owned());
    redis.publish("foo", "hello");
    new.until("the new hear", |all| {
        all.iter().all(|m| m.messages.len() == 1)
    });
    all_were_told(&mut old);
    until("the old worker has gone", || nginx.children().len() == 1);
    assert!(new.members().iter().all(t::Member::is_open));
}

/// Older clients reject 1012. A location that names no code has the default, whatever the levels
/// above it say.
#[test]
fn the_code_may_be_chosen() {
    let redis = Redis::start();
    let code = |code: &str| format!("websocket_subscribe foo; websocket_drain 100ms {code};");
    let conf = Conf::push(&redis)
        .server("websocket_drain 100ms 1001;")
        .location("/private", &code("4321"))
        .location("/later", &code("1013"))
        .location("/default", &code(""));
    let nginx = Nginx::start(conf);
    let mut clients: Vec<(Client, u16)> = [
        ("/ws?channel=foo", 1001),
        ("/private", 4321),
        ("/later", 1013),
        ("/default", 1012),
    ]
    .into_iter()
    .map(|(target, code)| (Client::connect(&nginx, target), code))
    .collect();
    nginx.quit();
    for (client, code) in &mut clients {
        client.expect_close(*code);
    }
}

#[test]
fn closes_go_out_over_tls_and_to_clients_that_never_answer() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).location("/echo", "websocket_echo;"));
    let mut silent: Vec<_> = Transport::BOTH
        .into_iter()
        .flat_map(|transport| {
            ["/ws?channel=foo", "/echo"].map(|target| Raw::accepted(&nginx, transport, target))
        })
        .collect();
    // One of them is in the middle of a message.
    silent[1].send_frame(&frames::text("begun").more());
    nginx.quit();
    for raw in &mut silent {
        raw.expect_close(1012);
    }
}

#[test]
fn a_reader_that_stopped_does_not_hold_the_worker() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).http("websocket_send_queue 64m; websocket_timeout 3s;");
    let mut nginx = Nginx::start(conf);
    let stuck: Vec<_> = Transport::BOTH
        .into_iter()
        .map(|transport| Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo"))
        .collect();
    let big = "x".repeat(8 << 20);
    redis.publish("foo", &big);
    nginx.quit();
    until("it has exited", || nginx.has_exited());
    drop(stuck);
}

/// Clients are receiving a message of 4 MB that takes them four seconds. A Close cannot go out
/// before the message ends.
#[test]
fn a_steady_reader_has_its_message_and_its_close() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let big = "x".repeat(4 << 20);
    let mut readers =
        Transport::BOTH.map(|transport| Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo"));
    redis.publish("foo", &big);
    let begun = readers.each_mut().map(|reader| reader.bytes(1_000));
    nginx.quit();
    std::thread::scope(|scope| {
        for (raw, mut taken) in readers.iter_mut().zip(begun) {
            let expected = frames::text(big.as_str());
            scope.spawn(move || {
                while taken.len() < 4 << 20 {
                    taken.extend(raw.bytes(100_000.min((4 << 20) + 10 - taken.len())));
                    std::thread::sleep(Duration::from_millis(95));
                }
                raw.unread(&taken);
                raw.expect([expected]);
                raw.expect_close(1012);
            });
        }
    });
}

#[test]
fn a_reader_that_takes_drops_does_not_hold_the_worker() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis));
    let mut raw = Raw::accepted_narrow(&nginx, Transport::Ws, "/ws?channel=foo");
    redis.publish("foo", "x".repeat(4 << 20));
    raw.bytes(1_000);
    nginx.quit();
    until("it has exited", || {
        let _ = raw.try_byte();
        nginx.has_exited()
    });
}

#[test]
fn worker_shutdown_timeout_cuts_the_drain_short() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .drain("600s")
        .main("worker_shutdown_timeout 1s;");
    let mut nginx = Nginx::start(conf);
    let mut crowd = Crowd::accepted(&nginx, 100, |_| "/ws?channel=foo".to_owned());
    nginx.quit();
    crowd.until("all have ended", |all| all.iter().all(|m| m.ended));
    until("it has exited", || nginx.has_exited());
}

/// A worker that is stopped past `worker_shutdown_timeout` has not told all of its clients when
/// that timeout fires. The timeout then tells them.
#[test]
fn who_is_open_when_worker_shutdown_timeout_strikes_is_told_before_it_is_cut() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .drain("600s")
        .main("worker_shutdown_timeout 5s;")
        .location("/echo", "websocket_echo;");
    let mut nginx = Nginx::start(conf);
    // Many more clients than one event of the worker's own timer tells.
    let mut crowd = Crowd::accepted(&nginx, 1_000, |_| "/ws?channel=foo".to_owned());
    let mut raws: Vec<_> = Transport::BOTH
        .into_iter()
        .flat_map(|over| ["/ws?channel=foo", "/echo"].map(|to| Raw::accepted(&nginx, over, to)))
        .collect();
    // Two of them are in the middle of a message.
    raws.iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|raw| raw.send_frame(&frames::text("begun").more()));
    let worker = nginx.worker();
    nginx.quit();
    nginx.until_log("worker exits: 1004 websocket clients leave");
    process::signal(worker, process::Signal::STOP);
    std::thread::sleep(Duration::from_millis(5_500));
    process::signal(worker, process::Signal::CONT);
    all_were_told(&mut crowd);
    for raw in &mut raws {
        raw.expect_close(1012);
    }
    until("it has exited", || nginx.has_exited());
    let drained = nginx.count_log("websocket closed with 1012: server is restarting");
    assert!(
        drained < 1_004,
        "nobody was left for worker_shutdown_timeout"
    );
}

#[test]
fn the_drain_stays_below_worker_shutdown_timeout() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .drain("600s")
        .main("worker_shutdown_timeout 4s;");
    let nginx = Nginx::start(conf);
    let mut crowd = Crowd::accepted(&nginx, 100, |_| "/ws?channel=foo".to_owned());
    nginx.quit();
    all_were_told(&mut crowd);
}

#[test]
fn a_stopped_redis_does_not_hold_the_worker() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis).location("/pub", "websocket_publisher foo;"));
    let mut crowd = Crowd::accepted(&nginx, 10, |_| "/ws?channel=foo".to_owned());
    redis.stop();
    nginx.quit();
    all_were_told(&mut crowd);
    until("it has exited", || nginx.has_exited());
}

#[test]
fn a_redis_that_is_away_does_not_hold_the_worker() {
    let mut redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis).http("websocket_gap keep;"));
    let mut crowd = Crowd::accepted(&nginx, 10, |_| "/ws?channel=foo".to_owned());
    redis.kill();
    until("the loss is noticed", || {
        nginx.handshake("/ws?channel=bar") == 503
    });
    nginx.quit();
    all_were_told(&mut crowd);
    until("it has exited", || nginx.has_exited());
}

#[test]
fn who_waits_at_quit_is_answered() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url()).location("/pub", "websocket_publisher foo;");
    let mut nginx = Nginx::start(conf);
    Client::connect(&nginx, "/ws?channel=first").close();
    assert_eq!(nginx.send(&Request::post("/pub", "hello")).status, 200);
    proxy.hold_replies(true);
    let mut waiting = Raw::open(&nginx, Transport::Ws);
    waiting.send(Request::upgrade("/ws?channel=foo").wire());
    redis.until_subscribers("foo", 1);
    let mut publish = Raw::open(&nginx, Transport::Ws);
    publish.send(Request::post("/pub", "at quit").wire());
    proxy.until_command("PUBLISH", "at quit");
    nginx.quit();
    nginx.until_log("gracefully shutting down");
    proxy.hold_replies(false);
    assert_eq!(publish.response().status, 200);
    match waiting.response().status {
        101 => waiting.expect_close(1012),
        status => assert_eq!(status, 503),
    }
    until("it has exited", || nginx.has_exited());
}

/// `systemctl restart nginx` on Debian sends QUIT, and TERM after five seconds. With the default
/// `websocket_drain` all clients have their Close by then.
#[test]
fn a_restart_by_the_system_tells_everyone() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).default_drain().workers(2);
    let mut nginx = Nginx::start(conf);
    let mut crowd = Crowd::accepted(&nginx, 2_000, |i| format!("/ws?channel=foo-{}", i % 7));
    nginx.quit();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        crowd.pump(Duration::from_millis(20));
    }
    process::signal(nginx.master(), process::Signal::TERM);
    all_were_told(&mut crowd);
    until("it has exited", || nginx.has_exited());
}

/// A second signal ends the drain: clients that have not been told yet are told at once.
#[test]
fn a_drain_that_is_cut_short_tells_everyone() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis).drain("600s"));
    let mut crowd = Crowd::accepted(&nginx, 500, |i| format!("/ws?channel=foo-{}", i % 7));
    nginx.quit();
    nginx.until_log("gracefully shutting down");
    process::signal(nginx.master(), process::Signal::TERM);
    all_were_told(&mut crowd);
    until("it has exited", || nginx.has_exited());
}

/// On `nginx -s stop` clients that listen, that send and that were just sent something are told,
/// over ws and wss.
#[test]
fn a_fast_shutdown_tells_who_is_at_the_end_of_a_frame() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .workers(2)
        .server("websocket_drain 4s 1001;")
        .location("/echo", "websocket_echo;");
    let mut nginx = Nginx::start(conf);
    let mut crowd = Crowd::accepted(&nginx, 500, |_| "/ws?channel=foo".to_owned());
    let mut raws: Vec<_> = Transport::BOTH
        .into_iter()
        .flat_map(|over| ["/ws?channel=foo", "/echo"].map(|to| Raw::accepted(&nginx, over, to)))
        .collect();
    for raw in &mut raws {
        // What nginx sends here ends with a whole frame; what the client sends does not.
        raw.send_frame(&frames::ping("here"));
        raw.expect([frames::pong("here")]);
        raw.send_frame(&frames::text("begun").more());
    }
    redis.publish("foo", "hello");
    crowd.until("all hear", |all| all.iter().all(|m| m.texts() == ["hello"]));
    process::signal(nginx.master(), process::Signal::TERM);
    for (at, raw) in raws.iter_mut().enumerate() {
        if at % 2 == 0 {
            raw.expect([frames::text("hello")]);
        }
        raw.expect_close(1001);
    }
    crowd.until("all have ended", |all| all.iter().all(|m| m.ended));
    assert!(crowd.members().iter().all(|m| m.close_code == Some(1001)));
    until("it has exited", || nginx.has_exited());
    assert_eq!(nginx.count_log("worker exits at once: "), 2);
    until("Redis sees the links go", || redis.links().is_empty());
}

/// Inside a frame, a Close would be read as part of the message.
#[test]
fn a_fast_shutdown_puts_no_close_into_a_frame() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis));
    let mut stuck =
        Transport::BOTH.map(|transport| Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo"));
    redis.publish("foo", "x".repeat(4 << 20));
    let begun = stuck.each_mut().map(|raw| raw.bytes(1_000));
    process::signal(nginx.master(), process::Signal::TERM);
    until("it has exited", || nginx.has_exited());
    nginx.until_log("0 websocket clients are sent their Close, 2 are cut off");
    for (raw, begun) in stuck.iter_mut().zip(begun) {
        assert!(begun[10..].iter().all(|byte| *byte == b'x'));
        while let Some(byte) = raw.try_byte() {
            assert_eq!(byte, b'x');
        }
    }
}

#[test]
fn a_reload_may_take_the_module_away_and_bring_it_back() {
    let redis = Redis::start();
    let mut nginx = Nginx::start(Conf::push(&redis));
    let mut crowd = Crowd::accepted(&nginx, 20, |_| "/ws?channel=foo".to_owned());
    nginx.reconfigure(Conf::new());
    nginx.reload();
    all_were_told(&mut crowd);
    assert_eq!(nginx.handshake("/ws?channel=foo"), 404);
    until("Redis sees the links go", || redis.links().is_empty());
    nginx.reconfigure(Conf::push(&redis));
    nginx.reload();
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    redis.publish("foo", "hello");
    client.expect(["hello"]);
}

/// Fifty reloads while closed clients connect again, messages flow, and others are published over
/// HTTP. Before every tenth reload a thousand handshakes wait for a Redis that is slow to answer.
#[test]
fn fifty_reloads_under_load_lose_nobody() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url()).location("/pub", "websocket_publisher load;");
    let mut nginx = Nginx::start(conf.drain("100ms").http("websocket_max_pending 2000;"));
    let is_over = AtomicBool::new(false);
    let address = nginx.http();
    let mut crowd = Crowd::accepted(&nginx, 100, |_| "/ws?channel=load".to_owned());
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_until(&is_over, address));
        for round in 0..50 {
            if round % 10 == 9 {
                reload_with_waiting(&mut nginx, &proxy);
            } else {
                nginx.reload();
            }
            come_back(&nginx, &mut crowd);
        }
        is_over.store(true, SeqCst);
        publisher.join().unwrap();
    });
    until("the old workers have gone", || nginx.children().len() == 1);
    come_back(&nginx, &mut crowd);
    crowd.forget();
    redis.publish("load", "last");
    crowd.until("all hear the last word", |all| {
        all.iter()
            .all(|m| m.messages.last().is_some_and(|last| last == b"last"))
    });
}

fn publish_until(is_over: &AtomicBool, address: std::net::SocketAddr) {
    let mut number = 0;
    while !is_over.load(SeqCst) {
        let request = Request::post("/pub", number.to_string());
        // A connection may fail while a listener is handed over, but an answer is never wrong.
        if let Ok(answer) = t::http::try_send(address, &request) {
            assert!([200, 502, 503, 504].contains(&answer.status), "{answer:?}");
        }
        number += 1;
    }
}

/// Reloads while a thousand handshakes wait. Each of them gets an answer, and then a Close.
fn reload_with_waiting(nginx: &mut Nginx, proxy: &Proxy) {
    proxy.hold_replies(true);
    let mut waiting = Crowd::new();
    for i in 0..1000 {
        waiting.join(nginx, &format!("/ws?channel=waiting-{i}"));
        waiting.pump(Duration::ZERO);
    }
    nginx.reload_nowait();
    nginx.until_log("gracefully shutting down");
    proxy.hold_replies(false);
    waiting.until("each is answered", |all| {
        all.iter().all(|m| m.status.is_some() || m.ended)
    });
    for member in waiting.members() {
        assert!(
            matches!(member.status, Some(101 | 503 | 504)),
            "{:?}",
            member.status
        );
    }
    waiting.until("the old worker's are told", |all| {
        all.iter()
            .filter(|m| m.ended)
            .all(|m| m.status != Some(101) || m.close_code == Some(1012))
    });
}

/// Connects closed clients again, each only after it got its 1012.
fn come_back(nginx: &Nginx, crowd: &mut Crowd) {
    until("all are open again", || {
        for i in 0..crowd.members().len() {
            let member = &crowd.members()[i];
            if member.is_done() {
                let told = (member.status == Some(101)).then_some(1012);
                assert_eq!(
                    member.close_code, told,
                    "client {i}, handshake {:?}",
                    member.status
                );
                crowd.rejoin(nginx, i, "/ws?channel=load");
            }
        }
        crowd.pump(Duration::from_millis(20));
        crowd.members().iter().all(t::Member::is_open)
    });
}
