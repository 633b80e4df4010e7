//! A panic in a session costs that session only: it gets 1011, the log an `alert` with place and
//! message. Debug builds have a door for it (feature `test-panic`): the message `panic, please`.
//! A release has none.

use t::settings::{Build, build};
use t::{Client, Conf, End, Nginx, Raw, Redis, Transport, frames};

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
            nginx.count_log("websocket panic at src/"),
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
