//! Promise 3: a slow or dead client costs its own limit, kernel memory included, and nobody else
//! anything. All clients together cost `websocket_memory`. WebSockets never starve the site's HTTP.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use t::{Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Transport, frames, process, until};

const MIB: u64 = 1024 * 1024;

/// AddressSanitizer keeps freed memory and pads the rest. There, only what clients hear is checked.
fn memory_is_measurable() -> bool {
    t::settings::flavor() != t::settings::Flavor::Asan
}

fn payload(i: usize) -> Vec<u8> {
    let letter = b'a' + (i % 26) as u8;
    vec![letter; 100_000]
}

/// The reader stops inside a frame, everything is published and another client reads it, then the
/// reader goes on.
#[test]
fn a_reader_that_stops_in_a_frame_and_goes_on_gets_every_byte() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_send_queue 64m;"));
    for transport in Transport::BOTH {
        let mut slow = Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo");
        let mut fast = Client::connect_over(&nginx, transport, "/ws?channel=foo");
        let payloads: Vec<_> = (0..200).map(payload).collect();
        let messages: Vec<_> = payloads.iter().map(|payload| ("foo", payload)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| redis.session().publish_all(&messages));
            let begun = slow.bytes(150_000);
            for payload in &payloads {
                assert!(fast.text().as_bytes() == payload);
            }
            slow.unread(&begun);
        });
        slow.send_frame(&frames::ping("still there"));
        let mut heard = 0;
        while heard < payloads.len() {
            let frame = slow.frame();
            if frame.opcode == frames::TEXT {
                assert!(
                    frame.payload == payloads[heard],
                    "message {heard}: {frame:?}"
                );
                heard += 1;
            }
        }
        slow.send_frame(&frames::ping("in step"));
        while slow.frame() != frames::pong("in step") {}
    }
}

#[test]
fn a_reader_that_is_too_far_behind_is_closed_and_nobody_else_feels_it() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_send_queue 1m;"));
    for transport in Transport::BOTH {
        let mut stuck = Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo");
        let mut fast = Client::connect_over(&nginx, transport, "/ws?channel=foo");
        let mut publisher = redis.session();
        for i in 0..200 {
            publisher.publish("foo", payload(i));
            assert!(fast.text().as_bytes() == payload(i));
        }
        // What it was sent before is whole frames, in order, until the connection ends.
        let mut heard = 0;
        while let Ok(frame) = stuck.receive() {
            if frame.opcode == frames::TEXT {
                assert!(
                    frame.payload == payload(heard),
                    "message {heard}: {frame:?}"
                );
                heard += 1;
            }
        }
        assert!(
            heard < 200,
            "20 MB did not fit into 1m and the kernel's buffers"
        );
        publisher.publish("foo", "on");
        fast.expect(["on"]);
    }
}

/// A client closed for being slow gets its Close after what it was sent before, if it reads on at
/// once.
#[test]
fn a_slow_reader_is_told_1008() {
    let redis = Redis::start();
    let limits = "websocket_send_queue 100k; websocket_notsent 16k;";
    let nginx = Nginx::start(Conf::push(&redis).http(limits));
    for transport in Transport::BOTH {
        let mut slow = Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo");
        let mut publisher = redis.session();
        let lines = nginx.count_log("closed with 1008");
        let mut published = 0;
        until("it is closed", || {
            publisher.publish("foo", payload(published));
            published += 1;
            nginx.count_log("closed with 1008") > lines
        });
        let mut heard = 0;
        let last = loop {
            let frame = slow.frame();
            if frame.opcode != frames::TEXT {
                break frame;
            }
            assert!(frame.payload == payload(heard), "{heard}: {frame:?}");
            heard += 1;
        };
        assert_eq!(last.close_code(), Some(1008), "{last:?}");
        assert!(heard < published);
        slow.end();
    }
}

/// The server's own frames go out only between frames, even while a large message takes several
/// writes.
#[test]
fn pongs_do_not_tear_a_large_message() {
    let redis = Redis::start();
    let limits = "websocket_send_queue 64m; websocket_notsent 0;";
    let nginx = Nginx::start(Conf::push(&redis).http(limits));
    let big = "x".repeat(5 << 20);
    let mut raw = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    let mut pinger = raw.stream().socket().try_clone().unwrap();
    let (reading, is_over) = mpsc::channel::<()>();
    std::thread::scope(move |scope| {
        scope.spawn(move || {
            let ping = frames::ping("between").wire();
            let pause = Duration::from_micros(100);
            while is_over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pinger.write_all(&ping).unwrap();
            }
        });
        let mut publisher = redis.session();
        for _ in 0..5 {
            publisher.publish("foo", &big);
            let mut frame = raw.frame();
            while frame == frames::pong("between") {
                frame = raw.frame();
            }
            assert!(frame == frames::text(&big), "{frame:?}");
        }
        drop(reading);
    });
}

/// Numbered messages of 10 KB: `number` and then dots.
fn numbered(number: usize) -> String {
    format!("{number}{}", ".".repeat(10_000))
}

/// A reader stops while 3,000 numbered messages of 10 KB go to two channels in turn, and then reads
/// on. Returns the numbers it hears, up to the last.
fn heard_by_a_slow_reader(policy: &str) -> Vec<usize> {
    let redis = Redis::start();
    let directives = format!("websocket_slow {policy}; websocket_send_queue 200k;");
    let conf = Conf::with(&redis)
        .http(&directives)
        .location("/ws", "websocket_subscribe a b;");
    let nginx = Nginx::start(conf);
    let mut slow = Raw::accepted_narrow(&nginx, Transport::Ws, "/ws");
    let mut publisher = redis.session();
    for number in 0..3000 {
        publisher.publish(["a", "b"][number % 2], numbered(number));
    }
    let mut numbers = Vec::new();
    while numbers.last() != Some(&2999) {
        let text = slow.frame().text();
        let number = text.trim_end_matches('.').parse().expect("a whole message");
        assert_eq!(text.len(), numbered(number).len(), "a whole message");
        numbers.push(number);
    }
    slow.send_frame(&frames::ping("in step"));
    slow.expect([frames::pong("in step")]);
    numbers
}

#[test]
fn drop_oldest_skips_whole_messages_and_keeps_the_newest() {
    let numbers = heard_by_a_slow_reader("drop_oldest");
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(
        numbers.len() < 3000,
        "30 MB did not fit into 200k and the kernel's buffers"
    );
    let newest = &numbers[numbers.len() - 15..];
    assert!(
        newest.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{newest:?}"
    );
}

#[test]
fn latest_keeps_the_newest_of_each_channel() {
    let numbers = heard_by_a_slow_reader("latest");
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(
        numbers.len() < 3000,
        "30 MB did not fit into 200k and the kernel's buffers"
    );
    assert_eq!(numbers[numbers.len() - 2..], [2998, 2999]);
}

/// The limit covers frames not yet begun, so one message may be larger.
#[test]
fn a_message_larger_than_the_queue_reaches_who_reads() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_send_queue 100k;"));
    let big = "x".repeat(12 << 20);
    for transport in Transport::BOTH {
        let mut client = Client::connect_over(&nginx, transport, "/ws?channel=foo");
        redis.publish("foo", &big);
        assert!(client.text() == big);
        redis.publish("foo", "small");
        client.expect(["small"]);
    }
}

/// While Redis is silent, what clients publish is held back in their own sockets.
#[test]
fn a_flood_towards_a_silent_redis_is_held_back_and_not_lost() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::with(&redis).location("/say", "websocket_publish said;"));
    let mut listener = redis.session();
    listener.subscribe("said");
    let mut talker = Client::connect(&nginx, "/say");
    talker.send("first");
    assert_eq!(listener.push().1, "first");
    let before = process::resident_bytes(nginx.worker());
    redis.stop();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..6000).for_each(|number| talker.send(&numbered(number))));
        std::thread::sleep(Duration::from_secs(2));
        let grown = process::resident_bytes(nginx.worker()).saturating_sub(before);
        assert_eq!(nginx.get("/plain").text(), "plain");
        redis.cont();
        for number in 0..6000 {
            assert_eq!(listener.push().1, numbered(number));
        }
        if memory_is_measurable() {
            assert!(grown < 24 * MIB, "60 MB sent: grown by {grown} bytes");
        }
    });
}

#[test]
fn the_kernel_holds_little_for_a_reader_that_stops() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).http("websocket_send_queue 64m; websocket_notsent 64k;");
    let nginx = Nginx::start(conf);
    let stuck = Raw::accepted_narrow(&nginx, Transport::Ws, "/ws?channel=foo");
    let mut fast = Client::connect(&nginx, "/ws?channel=foo");
    let mut publisher = redis.session();
    for i in 0..200 {
        publisher.publish("foo", payload(i));
        assert!(fast.text().as_bytes() == payload(i));
    }
    let port = stuck.stream().socket().local_addr().unwrap().port();
    let held = process::send_queue_bytes(nginx.http().port(), port).expect("the connection");
    assert!(
        held > 0 && held < MIB,
        "{held} bytes in the kernel's send buffer"
    );
}

#[test]
fn all_slow_readers_together_cost_websocket_memory() {
    let redis = Redis::start();
    let limits = "websocket_memory 8m; websocket_send_queue 64m;";
    let nginx = Nginx::start(Conf::push(&redis).http(limits));
    let mut fast = Client::connect(&nginx, "/ws?channel=foo-0");
    let stuck: Vec<_> = (0..10)
        .map(|i| Raw::accepted_narrow(&nginx, Transport::Ws, &format!("/ws?channel=foo-{i}")))
        .collect();
    let worker = nginx.worker();
    let before = process::resident_bytes(worker);
    let mut publisher = redis.session();
    let (mut most, mut heard) = (0, 0);
    for i in 0..300 {
        publisher.publish(format!("foo-{}", i % 10), payload(i));
        if i % 10 == 0 {
            assert!(fast.text().as_bytes() == payload(i));
            heard += 1;
        }
        most = most.max(process::resident_bytes(worker));
    }
    assert_eq!(heard, 30);
    let grown = most.saturating_sub(before);
    if memory_is_measurable() {
        assert!(
            grown < 24 * MIB,
            "30 MB published, 8m allowed: grown by {grown} bytes"
        );
    }
    drop(stuck);
    until("new clients are welcome", || {
        nginx.handshake("/ws?channel=foo-0") == 101
    });
}

#[test]
fn memory_comes_back_when_nobody_lags() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_send_queue 64m;"));
    let mut fast = Client::connect(&nginx, "/ws?channel=foo");
    let mut publisher = redis.session();
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let stuck = Raw::accepted_narrow(&nginx, Transport::Ws, "/ws?channel=foo");
        for i in 0..200 {
            publisher.publish("foo", payload(i));
            assert!(fast.text().as_bytes() == payload(i));
        }
        stuck.reset();
        publisher.publish("foo", "gone");
        fast.expect(["gone"]);
        sizes.push(process::resident_bytes(nginx.worker()));
    }
    if memory_is_measurable() {
        assert!(
            sizes[5] < sizes[1] + 8 * MIB,
            "after each of six: {sizes:?}"
        );
    }
}

/// Partial messages use memory, too, so an announced length is not allocated in advance.
#[test]
fn announced_lengths_cost_nothing() {
    let redis = Redis::start();
    let limits = "websocket_max_message 64m; websocket_max_frame 64m; websocket_memory 64m;";
    let conf = Conf::with(&redis)
        .http(limits)
        .location("/echo", "websocket_echo;");
    let nginx = Nginx::start(conf);
    let before = process::resident_bytes(nginx.worker());
    let liars: Vec<_> = (0..100)
        .map(|_| {
            let mut raw = Raw::accepted(&nginx, Transport::Ws, "/echo");
            // A binary frame of 60 MiB, of which eight bytes arrive.
            raw.send(frames::hex(
                "82 ff 0000000003c00000 00000000 0102030405060708",
            ));
            raw
        })
        .collect();
    let mut honest = Client::connect(&nginx, "/echo");
    honest.send("hello");
    honest.expect(["hello"]);
    if memory_is_measurable() {
        let grown = process::resident_bytes(nginx.worker()).saturating_sub(before);
        assert!(
            grown < 16 * MIB,
            "grown by {grown} bytes for {} liars",
            liars.len()
        );
    }
}

#[test]
fn an_echo_that_nobody_reads_stops_its_own_client_only() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::with(&redis).location("/echo", "websocket_echo;"));
    for transport in Transport::BOTH {
        let mut greedy = Raw::open_narrow(&nginx, transport);
        greedy.upgrade("/echo");
        let write_timeout = Some(Duration::from_millis(500));
        greedy
            .stream()
            .socket()
            .set_write_timeout(write_timeout)
            .unwrap();
        let frame = frames::binary(vec![7; 60_000]).wire();
        let is_stopped = (0..2000).any(|_| greedy.try_send(&frame).is_err());
        assert!(
            is_stopped,
            "120 MB of echoes were taken without one being read"
        );
        let mut other = Client::connect_over(&nginx, transport, "/echo");
        other.send("hello");
        other.expect(["hello"]);
    }
}

#[test]
fn the_reserve_keeps_http_served() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .http("websocket_reserve 1/4;")
        .worker_connections(128);
    let nginx = Nginx::start(conf);
    let mut crowd = Crowd::new();
    for _ in 0..110 {
        let i = crowd.join(&nginx, "/ws?channel=foo");
        crowd.until("it is answered", |all| all[i].status.is_some());
        assert_eq!(nginx.get("/plain").status, 200);
    }
    let accepted = crowd
        .members()
        .iter()
        .filter(|m| m.status == Some(101))
        .count();
    let refused = crowd
        .members()
        .iter()
        .filter(|m| m.status == Some(503))
        .count();
    assert_eq!(accepted + refused, 110);
    assert!(
        (64..=96).contains(&accepted),
        "{accepted} of 128 connections"
    );
    assert!(nginx.count_log("[warn]") > 0, "refusals are told");
    assert!(nginx.count_log("[warn]") <= 10, "at most once a second");
    redis.publish("foo", "hello");
    crowd.until("the accepted hear", |all| {
        all.iter()
            .filter(|m| m.status == Some(101))
            .all(|m| m.messages.len() == 1)
    });
    drop(crowd);
    until("there is room again", || {
        nginx.handshake("/ws?channel=foo") == 101
    });
}

#[test]
fn no_more_than_max_pending_handshakes_wait() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url()).http("websocket_max_pending 10;");
    let nginx = Nginx::start(conf);
    let mut before = Client::connect(&nginx, "/ws?channel=known");
    proxy.hold_replies(true);
    let mut crowd = Crowd::new();
    for i in 0..25 {
        crowd.join(&nginx, &format!("/ws?channel=new-{i}"));
    }
    let has = |all: &[t::Member], status| all.iter().filter(|m| m.status == status).count();
    crowd.until("fifteen are refused", |all| has(all, Some(503)) == 15);
    assert_eq!(has(crowd.members(), None), 10);
    proxy.hold_replies(false);
    crowd.until("ten are accepted", |all| has(all, Some(101)) == 10);
    redis.publish("known", "hello");
    before.expect(["hello"]);
}

#[test]
fn a_dead_client_is_found_by_its_silence() {
    let redis = Redis::start();
    let liveness = "websocket_ping_interval 500ms; websocket_timeout 1500ms;";
    let nginx = Nginx::start(Conf::push(&redis).http(liveness));
    for transport in Transport::BOTH {
        let mut alive = Raw::accepted(&nginx, transport, "/ws?channel=foo");
        let mut dead = Raw::accepted(&nginx, transport, "/ws?channel=bar");
        for _ in 0..6 {
            let ping = alive.frame();
            assert_eq!(ping.opcode, frames::PING);
            alive.send_frame(&frames::pong(ping.payload));
        }
        redis.until_subscribers("bar", 0);
        // It was pinged first, and then closed.
        assert_eq!(dead.frame().opcode, frames::PING);
        dead.expect_close(1001);
        redis.publish("foo", "hello");
        while alive.frame() != frames::text("hello") {}
    }
}

/// A client that answers is pinged, too: proxies on the way close connections that are idle for
/// long.
#[test]
fn a_silent_client_is_pinged_each_interval() {
    let redis = Redis::start();
    let liveness = "websocket_ping_interval 200ms; websocket_timeout 8s;";
    let nginx = Nginx::start(Conf::push(&redis).http(liveness));
    let mut raw = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    let begun = Instant::now();
    for _ in 0..5 {
        let ping = raw.frame();
        assert_eq!(ping.opcode, frames::PING);
        raw.send_frame(&frames::pong(ping.payload));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "five pings took {took:?}");
}

#[test]
fn a_client_that_reads_needs_no_pong_and_a_message_begun_must_end() {
    let redis = Redis::start();
    let liveness = "websocket_ping_interval 0; websocket_timeout 1s;";
    let conf = Conf::with(&redis)
        .http(liveness)
        .location("/echo", "websocket_echo;");
    let nginx = Nginx::start(conf);
    for transport in Transport::BOTH {
        let mut raw = Raw::accepted(&nginx, transport, "/echo");
        raw.send_frame(&frames::text("begun").more());
        // The client is alive, but does not finish its message.
        for _ in 0..8 {
            raw.send_frame(&frames::ping("alive"));
            raw.expect([frames::pong("alive")]);
            std::thread::sleep(Duration::from_millis(100));
        }
        raw.expect_close(1008);
    }
}

/// The client is always inside a message, but each message ends in time.
#[test]
fn a_steady_sender_is_neither_silent_nor_unfinished() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .http("websocket_ping_interval 0; websocket_timeout 1s;")
        .location("/echo", "websocket_echo;");
    let nginx = Nginx::start(conf);
    let message = frames::text("x".repeat(3 << 10));
    let wire = message.wire();
    let (begin, end) = wire.split_at(1000);
    for transport in Transport::BOTH {
        let mut sender = Raw::accepted(&nginx, transport, "/echo");
        sender.send(begin);
        for _ in 0..25 {
            std::thread::sleep(Duration::from_millis(100));
            sender.send([end, begin].concat());
            sender.expect([message.clone()]);
        }
        sender.send(end);
        sender.expect([message.clone()]);
    }
}

#[test]
fn liveness_can_be_turned_off() {
    let redis = Redis::start();
    let liveness = "websocket_ping_interval 0; websocket_timeout 0;";
    let nginx = Nginx::start(Conf::push(&redis).http(liveness));
    let mut raw = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    raw.quiet(Duration::from_secs(3));
    redis.publish("foo", "hello");
    raw.expect([frames::text("hello")]);
}

#[test]
fn a_thousand_readers_that_stop_leave_the_site_served() {
    let redis = Redis::start();
    let limits = "websocket_memory 32m; websocket_send_queue 256k; websocket_notsent 16k;";
    let nginx = Nginx::start(Conf::push(&redis).http(limits));
    // These clients are accepted and then never read.
    let crowd = Crowd::accepted(&nginx, 1000, |_| "/ws?channel=foo".to_owned());
    let mut fast = Client::connect(&nginx, "/ws?channel=foo");
    let mut publisher = redis.session();
    for i in 0..30 {
        publisher.publish("foo", payload(i));
        assert_eq!(nginx.get("/plain").text(), "plain");
        assert!(fast.text().as_bytes() == payload(i));
    }
    drop(crowd);
}
