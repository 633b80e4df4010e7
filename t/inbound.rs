//! What a client sends is charged by the work and memory it causes, not by its size on the wire:
//! bytes that inflate a thousandfold, messages for a stalled Redis, posts before the link is up,
//! echoes that nobody reads. Others are served meanwhile, memory stays within `websocket_memory`,
//! and nothing is lost.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use t::frames::{self, Frame, close, hex, ping, pong, text};
use t::settings::{Flavor, flavor};
use t::{
    Client, Conf, Nginx, Proxy, Raw, Redis, Request, Session, Transport, kernel, process, until,
};

const MIB: u64 = 1 << 20;

fn is_asan() -> bool {
    flavor() == Flavor::Asan
}

/// 65,000 zeros as compressed by zlib: 79 bytes.
fn zeros() -> Vec<u8> {
    let (begin, end) = (hex("ecc101010000008220ffaf6e484001"), hex("6f06"));
    [begin, vec![0; 62], end].concat()
}

/// Length of a numbered message: ten digits and 65,000 zeros.
const LENGTH: usize = 10 + 65_000;

/// A hundred bytes that inflate to a message of 65,010: a stored block with its number, then the
/// zeros.
fn bomb(number: usize) -> Frame {
    let mut payload = hex("00 0a00 f5ff");
    payload.extend(format!("{number:010}").bytes());
    payload.extend(zeros());
    frames::binary(payload).rsv(4)
}

fn bombs(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| bomb(number).wire()).collect()
}

#[track_caller]
fn assert_is(message: &[u8], number: usize) {
    assert_eq!(message.len(), LENGTH, "the message after {number} others");
    let digits = String::from_utf8_lossy(&message[..10]);
    assert_eq!(digits, format!("{number:010}"));
    assert!(message[10..].iter().all(|&byte| byte == 0));
}

/// A client that may compress what it sends.
#[track_caller]
fn deflating(nginx: &Nginx, transport: Transport, target: &str) -> Raw {
    let mut raw = Raw::open(nginx, transport);
    let offer = Request::upgrade(target).header("Sec-WebSocket-Extensions", "permessage-deflate");
    raw.send(offer.wire());
    let extensions = raw.expect_101();
    let extensions = extensions.header("Sec-WebSocket-Extensions");
    assert!(extensions.is_some(), "permessage-deflate is agreed");
    raw
}

fn conf(redis: &Redis) -> Conf {
    Conf::with(redis)
        .http("websocket_deflate on;")
        .location("/say", "websocket_publish said;")
        .location("/echo", "websocket_echo;")
        .location("/status", "websocket_status;")
}

/// Returns a function that tells how many bytes the worker's own memory has grown since this call.
fn growth(nginx: &Nginx) -> impl Fn() -> u64 {
    let before = process::anonymous_bytes(nginx.worker());
    move || process::anonymous_bytes(nginx.worker()).saturating_sub(before)
}

// --- work -----------------------------------------------------------------------------------------

/// Sends bombs and discards the echoes, both as fast as it can, until `is_over`.
fn flood(raw: &Raw, wire: &[u8], is_over: &AtomicBool) {
    let socket = || raw.stream().socket().try_clone().expect("a second handle");
    let (mut upstream, mut downstream) = (socket(), socket());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut dropped = vec![0; 1 << 16];
            while downstream.read(&mut dropped).is_ok_and(|n| n > 0) {}
        });
        while !is_over.load(SeqCst) {
            upstream.write_all(wire).expect("bombs taken");
        }
        upstream.shutdown(Shutdown::Both).expect("the end");
    });
}

/// Five clients send bombs while `work` runs. `work` can ask for the number of echoes so far.
fn while_five_send_bombs(nginx: &Nginx, work: impl FnOnce(&dyn Fn() -> u64)) {
    let wire = bombs(700);
    let flooders: Vec<Raw> = (0..5)
        .map(|_| deflating(nginx, Transport::Ws, "/echo"))
        .collect();
    let echoed = || nginx.get("/status").json()["counters"]["echoed"].as_u64();
    let echoed = || echoed().expect("a number");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for raw in &flooders {
            let (wire, is_over) = (&wire, &is_over);
            scope.spawn(move || flood(raw, wire, is_over));
        }
        until("they send", || echoed() > 100);
        work(&echoed);
        is_over.store(true, SeqCst);
    });
}

/// The work done for others before an answer arrives is counted in echoes, not in time, so the
/// result is the same on a busy machine. A few rounds of the event loop pass, each with a few dozen
/// bombs.
#[test]
fn five_who_send_bombs_leave_http_its_turns() {
    const MOST: u64 = 500;
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    let (mut meanwhile, mut slowest) = (Vec::new(), Duration::ZERO);
    while_five_send_bombs(&nginx, |echoed| {
        let mut before = echoed();
        for _ in 0..50 {
            let begun = Instant::now();
            let now = echoed();
            slowest = slowest.max(begun.elapsed());
            meanwhile.push(now - before);
            before = now;
        }
    });
    meanwhile.sort_unstable();
    println!("bombs during each of {meanwhile:?}, slowest {slowest:?}");
    assert!(meanwhile[49] > 0, "they were sending");
    assert!(meanwhile[25] < MOST, "{meanwhile:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

/// A client that sends little gets its turn among clients that send much.
#[test]
fn one_who_sends_little_is_answered_among_those_who_send_bombs() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    let mut client = Client::connect(&nginx, "/echo");
    let mut most = Vec::new();
    while_five_send_bombs(&nginx, |echoed| {
        for number in 0..50 {
            let before = echoed();
            client.send(&number.to_string());
            client.expect([number.to_string()]);
            most.push(echoed() - before);
        }
    });
    most.sort_unstable();
    println!("bombs during each echo: {most:?}");
    assert!(most[25] < 1_000, "{most:?}");
}

// --- nothing is lost ------------------------------------------------------------------------------

#[track_caller]
fn expect_numbered(listener: &mut Session, count: usize) {
    for number in 0..count {
        assert_is(listener.push().1.as_bytes(), number);
    }
}

#[test]
fn one_write_of_compressed_messages_is_published_whole_and_in_order() {
    const COUNT: usize = 600;
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    let mut listener = redis.session();
    listener.subscribe("said");
    for transport in Transport::BOTH {
        let mut raw = deflating(&nginx, transport, "/say");
        raw.send([bombs(COUNT), ping("last").wire()].concat());
        expect_numbered(&mut listener, COUNT);
        raw.expect([pong("last")]);
    }
    let counters = &nginx.get("/status").json()["counters"];
    assert_eq!(counters["published"], 2 * COUNT);
    assert_eq!(counters["publish_failed"], 0);
    assert_eq!(nginx.count_log("websocket closed with"), 0);
}

#[test]
fn what_was_sent_before_the_end_is_published() {
    const COUNT: usize = 300;
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    let mut listener = redis.session();
    listener.subscribe("said");
    let mut raw = deflating(&nginx, Transport::Ws, "/say");
    raw.send(bombs(COUNT));
    raw.stream()
        .socket()
        .shutdown(Shutdown::Write)
        .expect("a FIN");
    expect_numbered(&mut listener, COUNT);
    assert_eq!(raw.end(), t::End::Clean);
}

/// Echoes stop when the client's socket is full. The client is then not read, and later continues
/// where it stopped.
#[test]
fn what_one_write_asks_for_comes_in_order_however_slowly_it_is_read() {
    const COUNT: usize = 200;
    let redis = Redis::start();
    // Echoes are not compressed: 65 KB each.
    let nginx = Nginx::start(conf(&redis).http("websocket_deflate_min_length 1m;"));
    for transport in Transport::BOTH {
        let mut raw = deflating(&nginx, transport, "/echo");
        let mut wire = Vec::new();
        for number in 0..COUNT {
            wire.extend(bomb(number).wire());
            wire.extend(text(format!("after {number}")).wire());
        }
        wire.extend(ping("before the end").wire());
        wire.extend(close(1000, "").wire());
        wire.extend(text("after the end").wire());
        raw.send(wire);
        until("it is not read", || {
            nginx.get("/status").json()["memory"]["partial_messages"] != 0
        });
        let held = nginx.get("/status").json()["memory"]["partial_messages"].clone();
        assert!(held.as_u64() < Some(MIB), "{held} bytes are held");
        for number in 0..COUNT {
            assert_is(&raw.frame().payload, number);
            raw.expect([text(format!("after {number}"))]);
        }
        raw.expect([pong("before the end")]);
        raw.expect_close(1000);
    }
}

/// While Redis is stopped, its clients are soon no longer read. When it resumes, everything arrives
/// in order.
#[test]
fn a_redis_that_stalls_stops_the_reading_and_nothing_is_lost() {
    const PLAIN: usize = 12_000;
    const BOMBS: usize = 200;
    let redis = Redis::start();
    let conf = conf(&redis).location("/plain-say", "websocket_publish plain;");
    let nginx = Nginx::start(conf.http("websocket_memory 32m;"));
    let [mut plain, mut said] = ["plain", "said"].map(|channel| {
        let mut listener = redis.session();
        listener.subscribe(channel);
        listener
    });
    let numbered = |number: usize| format!("{number:.<1000}");
    let wire: Vec<u8> = (0..PLAIN)
        .flat_map(|number| text(numbered(number)).wire())
        .collect();
    let mut fast = Raw::accepted(&nginx, Transport::Ws, "/plain-say");
    let mut small = deflating(&nginx, Transport::Ws, "/say");
    let grown = growth(&nginx);
    redis.stop();
    std::thread::scope(|scope| {
        scope.spawn(|| fast.send(&wire));
        small.send(bombs(BOMBS));
        let state = || {
            let status = nginx.get("/status").json();
            let read = status["counters"]["bytes_in"].as_u64();
            (read, status["memory"]["replies"].as_u64())
        };
        let mut last = state();
        until("nobody is read any more", || {
            std::thread::sleep(Duration::from_millis(100));
            let before = std::mem::replace(&mut last, state());
            last == before && last.1 > Some(MIB)
        });
        let grown = grown();
        println!("{last:?}, grown by {grown}");
        assert!(last.1 < Some(8 * MIB), "{last:?}");
        assert!(is_asan() || grown < 16 * MIB, "{grown}");
        redis.cont();
        for number in 0..PLAIN {
            assert!(plain.push().1 == numbered(number), "{number}");
        }
        expect_numbered(&mut said, BOMBS);
    });
    for raw in [&mut fast, &mut small] {
        raw.send_frame(&ping("still here"));
        raw.expect([pong("still here")]);
    }
    assert_eq!(nginx.get("/status").json()["counters"]["publish_failed"], 0);
}

// --- memory ---------------------------------------------------------------------------------------

/// A link to Redis that is not up yet, and a location for posts that wait for it.
fn posts_that_wait(settings: &str) -> (Redis, Proxy, Nginx) {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    proxy.hold_replies(true);
    let conf = Conf::with_url(&proxy.url())
        .http(settings)
        .location("/pub", "websocket_publisher said;")
        .location("/status", "websocket_status;");
    (redis, proxy, Nginx::start(conf))
}

/// Bytes held for posts and the links.
fn replies(nginx: &Nginx) -> u64 {
    let held = nginx.get("/status").json()["memory"]["replies"].as_u64();
    held.expect("a number")
}

/// Posts wait for the link within `websocket_memory`. Further ones get 503, and those that wait are
/// published.
#[test]
fn posts_before_the_link_is_made_are_held_within_the_account() {
    const LIMIT: u64 = 8 * MIB;
    const POSTS: usize = 60;
    let settings = "websocket_memory 8m; client_max_body_size 2m;";
    let (redis, proxy, nginx) = posts_that_wait(settings);
    let mut listener = redis.session();
    listener.subscribe("said");
    let grown = growth(&nginx);
    let body = vec![b'x'; MIB as usize];
    let post = || {
        let mut raw = Raw::open(&nginx, Transport::Ws);
        raw.send(Request::post("/pub", &body).wire());
        raw
    };
    let mut posts: Vec<Raw> = (0..POSTS).map(|_| post()).collect();
    until("most are refused", || {
        nginx.get("/status").json()["counters"]["publish_failed"].as_u64() > Some(POSTS as u64 - 9)
    });
    let grown = grown();
    let held = replies(&nginx);
    println!("{held} held, grown by {grown}");
    assert!((LIMIT / 2 + 1..=LIMIT).contains(&held), "{held}");
    assert!(is_asan() || grown < 2 * LIMIT, "{grown}");
    proxy.hold_replies(false);
    let statuses = posts.iter_mut().map(|raw| raw.response().status);
    let statuses: Vec<u16> = statuses.collect();
    let count = |status| statuses.iter().filter(|&&other| other == status).count();
    assert_eq!(count(200) + count(503), POSTS, "{statuses:?}");
    assert!((5..=8).contains(&count(200)), "{statuses:?}");
    for _ in 0..count(200) {
        assert_eq!(listener.push().1.len(), body.len());
    }
    until("nothing is held", || replies(&nginx) < MIB);
    assert!(nginx.count_log("a post of 1048576 bytes is refused") > 0);
}

/// A post is dropped when its client stops waiting for the answer.
#[test]
fn a_post_that_its_client_gives_up_is_held_no_longer() {
    let (_redis, _proxy, nginx) = posts_that_wait("client_max_body_size 2m;");
    let mut raw = Raw::open(&nginx, Transport::Ws);
    raw.send(Request::post("/pub", vec![b'x'; MIB as usize]).wire());
    until("it is held", || replies(&nginx) >= MIB);
    raw.reset();
    until("it is held no longer", || replies(&nginx) < MIB);
}

/// Kernel memory in bytes of the server's side of each of its connections.
#[track_caller]
fn kernel_bytes(port: u16) -> Vec<i64> {
    kernel::memory(&format!("sport = :{port}"))
}

/// Sends for as long as the socket accepts bytes. Returns how many it accepted in this call.
fn push(socket: &mut TcpStream, wire: &[u8], sent: &mut usize) -> usize {
    let mut taken = 0;
    loop {
        match socket.write(&wire[*sent % wire.len()..]) {
            Ok(count) => (*sent, taken) = (*sent + count, taken + count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn echo_clients_that_never_read_cost_no_more_than_the_account() {
    const LIMIT: u64 = 32 * MIB;
    let clients = if is_asan() { 50 } else { 200 };
    let redis = Redis::start();
    let limits = "websocket_memory 32m; websocket_ping_interval 0; websocket_timeout 0;";
    let nginx = Nginx::start(conf(&redis).http(limits));
    let mut reader = Client::connect(&nginx, "/echo");
    reader.send("before");
    reader.expect(["before"]);
    let grown = growth(&nginx);
    let message = frames::binary(vec![7; 16 << 10]).wire();
    let stuck: Vec<Raw> = (0..clients)
        .map(|_| Raw::accepted(&nginx, Transport::Ws, "/echo"))
        .collect();
    let mut sockets: Vec<(TcpStream, usize)> = stuck
        .iter()
        .map(|raw| raw.stream().socket().try_clone().expect("a handle"))
        .map(|socket| (socket, 0))
        .collect();
    for (socket, _) in &sockets {
        socket
            .set_nonblocking(true)
            .expect("a socket that does not block");
    }
    let mut calm = 0;
    until("nobody takes more", || {
        let taken = sockets.iter_mut();
        let taken: usize = taken
            .map(|(socket, sent)| push(socket, &message, sent))
            .sum();
        calm = if taken == 0 { calm + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(20));
        calm == 25
    });
    let kernel = kernel_bytes(nginx.http().port());
    let (all, most) = (kernel.iter().sum::<i64>(), kernel.iter().max());
    let all = u64::try_from(all).expect("a sum");
    let grown = grown();
    let status = nginx.get("/status").json();
    println!(
        "kernel {all}, {most:?} at most; grown by {grown}; {}",
        status["memory"]
    );
    assert_eq!(status["connections"], clients + 1);
    assert!(all + grown < 2 * LIMIT, "kernel {all}, worker {grown}");
    reader.send("after");
    reader.expect(["after"]);
    drop(sockets);
    // A client that reads on gets everything, in order. Its socket must block for this.
    let mut one = stuck.into_iter().next().expect("a client");
    one.stream()
        .socket()
        .set_nonblocking(false)
        .expect("a socket that blocks");
    for _ in 0..20 {
        assert!(one.frame().payload == vec![7; 16 << 10]);
    }
}
