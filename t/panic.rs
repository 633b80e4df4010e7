//! A panic in a session ends that session only: it gets 1011, and the log gets an `alert` with
//! place and message. A panic while a published message is framed costs that message only. In debug
//! builds (feature `test-panic`) the message `panic, please` causes one. In release builds it does
//! not.

use serde_json::Value;
use t::settings::{Build, build};
use t::{Client, Conf, Deflated, End, Nginx, Raw, Redis, Transport, frames, until};

fn nginx_with(redis: &Redis, detach: &str) -> Nginx {
    let both = "websocket_subscribe foo; websocket_echo;";
    let conf = Conf::with(redis).http(&format!("websocket_detach {detach};"));
    let mut nginx = Nginx::start(
        conf.location("/both", both)
            .location("/echo", "websocket_echo;"),
    );
    nginx.expect_log("websocket panic at");
    nginx
}

#[test]
fn a_panic_costs_that_session_only() {
    let redis = Redis::start();
    for detach in ["auto", "on", "off"] {
        let nginx = nginx_with(&redis, detach);
        let worker = nginx.worker();
        for transport in Transport::BOTH {
            let mut bystander = Client::connect_over(&nginx, transport, "/both");
            for target in ["/both", "/echo"] {
                asks_for_a_panic(&nginx, transport, target);
                redis.publish("foo", "still here");
                bystander.expect(["still here"]);
                bystander.send("and heard");
                bystander.expect(["and heard"]);
            }
        }
        assert_eq!(nginx.worker(), worker);
        let panics = if build() == Build::Debug { 4 } else { 0 };
        assert_eq!(
            nginx.count_log("websocket panic at crates/hub/src/"),
            panics,
            "place and message"
        );
        assert_eq!(
            nginx.count_log("asked for by a client"),
            panics,
            "place and message"
        );
    }
}

fn asks_for_a_panic(nginx: &Nginx, transport: Transport, target: &str) {
    let mut victim = Raw::accepted(nginx, transport, target);
    victim.send_frame(&frames::text("panic, please"));
    match build() {
        Build::Release => victim.expect([frames::text("panic, please")]),
        Build::Debug => {
            victim.expect_close_frame(1011);
            assert_eq!(victim.end(), End::Clean);
        }
    }
}

#[test]
fn a_hundred_panics_leave_a_worker_that_reloads_and_quits() {
    let redis = Redis::start();
    let mut nginx = nginx_with(&redis, "auto");
    let mut bystander = Client::connect(&nginx, "/both");
    for _ in 0..100 {
        asks_for_a_panic(&nginx, Transport::Ws, "/both");
    }
    redis.publish("foo", "still here");
    bystander.expect(["still here"]);
    nginx.reload();
    bystander.expect_close(1012);
    let mut next = Client::connect(&nginx, "/both");
    redis.publish("foo", "hello");
    next.expect(["hello"]);
}

fn with_every_form(redis: &Redis) -> Nginx {
    let subscribe = "websocket_subscribe foo;";
    let deflate = "websocket_deflate on; websocket_deflate_min_length 16;";
    let conf = Conf::with(redis)
        .http("websocket_send_queue 8m;")
        .location("/foo", subscribe)
        .location("/json", &format!("{subscribe} websocket_envelope json;"))
        .location("/deflated", &format!("{subscribe} {deflate}"))
        .location("/alone", "websocket_subscribe bar;")
        .location("/status", "websocket_status;");
    let mut nginx = Nginx::start(conf);
    nginx.expect_log("websocket panic at");
    nginx
}

/// Small messages, compressed ones, and some so large that they are held by reference. Each asks
/// for a panic if `panics`.
fn messages(panics: bool) -> Vec<String> {
    let ask = if panics { "panic, please" } else { "" };
    let sizes = [0, 1, 300, 70_000];
    let message = |n: usize| format!("{ask}{n}{}", "abc".repeat(sizes[n % 4] / 3));
    (0..12).map(message).collect()
}

/// Good messages mixed with messages that ask for a panic, and the messages that clients are to
/// hear.
fn asked_and_heard() -> (Vec<String>, Vec<String>) {
    let (good, bad) = (messages(false), messages(true));
    let asked: Vec<String> = good
        .iter()
        .zip(&bad)
        .flat_map(|(good, bad)| [bad.clone(), good.clone(), bad.clone()])
        .collect();
    match build() {
        Build::Debug => (asked, good),
        Build::Release => (asked.clone(), asked),
    }
}

#[test]
fn a_panic_while_a_message_is_framed_costs_that_message_only() {
    let redis = Redis::start();
    let nginx = with_every_form(&redis);
    let worker = nginx.worker();
    let mut plain = [(); 2].map(|()| Client::connect(&nginx, "/foo"));
    let mut json = Client::connect(&nginx, "/json");
    let mut deflated = [15, 9].map(|bits| Deflated::connect(&nginx, "/deflated", bits));
    let mut alone = Client::connect(&nginx, "/alone");
    let (asked, heard) = asked_and_heard();
    let mut publisher = redis.session();
    // Each message by itself, then all of them in one read.
    for message in &asked {
        publisher.publish("foo", message);
        publisher.publish("bar", message);
    }
    for channel in ["foo", "bar"] {
        let burst: Vec<_> = asked.iter().map(|message| (channel, message)).collect();
        publisher.publish_all(&burst);
    }
    for message in heard.iter().chain(&heard) {
        let enclosed = serde_json::json!({ "channel": "foo", "data": message });
        let told: Value = serde_json::from_str(&json.text()).expect("an envelope");
        assert_eq!(told, enclosed);
        for client in plain.iter_mut().chain([&mut alone]) {
            client.expect([message]);
        }
        for client in &mut deflated {
            assert_eq!(client.message(), message.as_bytes());
        }
    }
    // The forms of foo are plain, json, and deflated with either window. bar has one.
    let counters = nginx.get("/status").json()["counters"].clone();
    let dropped = 2 * (asked.len() - heard.len()) as u64;
    assert_eq!(counters["unframed"], 5 * dropped);
    assert_eq!(counters["redis_messages"], 4 * asked.len());
    assert_eq!(counters["messages_out"], (2 * heard.len()) * 6);
    assert_eq!(counters["unwanted"], 0);
    assert_eq!(nginx.worker(), worker);
    let lines = nginx.count_log("websocket panic at crates/hub/src/worker/encoders.rs");
    // At most one line a second.
    assert!(
        (build() == Build::Debug) == (lines > 0) && lines < 10,
        "{lines}"
    );
    assert_eq!(nginx.count_log("a message was dropped"), lines);
}

#[test]
fn who_is_behind_misses_only_the_message_that_panicked() {
    let redis = Redis::start();
    let nginx = with_every_form(&redis);
    let mut slow = Raw::accepted_narrow(&nginx, Transport::Ws, "/foo");
    let mut publisher = redis.session();
    let filler = "x".repeat(20_000);
    let mut sent = 0;
    let lagging = || nginx.get("/status").json()["lagging"] == 1;
    until("the client is behind", || {
        publisher.publish("foo", &filler);
        sent += 1;
        lagging()
    });
    let (asked, heard) = asked_and_heard();
    for message in &asked {
        publisher.publish("foo", message);
    }
    slow.expect((0..sent).map(|_| frames::text(&filler)));
    slow.expect(heard.iter().map(frames::text));
    until("nothing is held for it", || {
        let status = nginx.get("/status").json();
        status["lagging"] == 0 && status["memory"]["logs"] == 0
    });
}
