//! Promise 7: no worker ever blocks. There is no blocking call, no thread and no busy loop, and no
//! event takes longer than its budget.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use t::{
    Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Request, Transport, frames, process, until,
};

/// The worker uses next to no processor time for a second: at most a tenth of it. Earlier work must
/// have ended by then.
#[track_caller]
fn rests(worker: u32, when: &str) {
    let used = ticks_in_a_second(worker);
    assert!(used <= 10, "{when}: it is busy for {used} ticks of 10 ms");
    assert_eq!(process::threads(worker), 1, "{when}: one thread");
}

/// Processor time used in a second, in ticks of 10 ms.
fn ticks_in_a_second(pid: u32) -> u64 {
    let before = process::cpu_ticks(pid);
    std::thread::sleep(Duration::from_secs(1));
    process::cpu_ticks(pid).saturating_sub(before)
}

#[test]
fn an_idle_worker_rests() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let _crowd = Crowd::accepted(&nginx, 500, |i| format!("/ws?channel=foo-{i}"));
    rests(nginx.worker(), "with 500 idle clients");
}

#[test]
fn a_worker_rests_while_redis_is_silent_or_away() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_gap keep;"));
    let _client = Client::connect(&nginx, "/ws?channel=foo");
    redis.stop();
    let mut waiting = Raw::open(&nginx, Transport::Ws);
    waiting.send(Request::upgrade("/ws?channel=bar").wire());
    rests(
        nginx.worker(),
        "with a stopped Redis and a waiting handshake",
    );
    redis.kill();
    rests(nginx.worker(), "without Redis");
    redis.restart();
    until("it is back", || nginx.handshake("/ws?channel=bar") == 101);
    rests(nginx.worker(), "with Redis again");
}

#[test]
fn a_worker_rests_while_clients_do_not_read_or_end_half() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).http("websocket_send_queue 64m;");
    let conf = conf.location("/status", "websocket_status;");
    let nginx = Nginx::start(conf.location("/echo", "websocket_echo;"));
    let stuck: Vec<_> = Transport::BOTH
        .into_iter()
        .map(|transport| Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo"))
        .collect();
    redis.publish("foo", "x".repeat(8 << 20));
    until("the message has come and is on its way to both", || {
        nginx.get("/status").json()["counters"]["messages_out"] == 2
    });
    rests(nginx.worker(), "with readers that stopped in a frame");
    let waiting = Raw::open(&nginx, Transport::Ws);
    waiting.stream().shut_down_writing();
    let mut half = Raw::accepted(&nginx, Transport::Ws, "/echo");
    half.send(frames::hex("81 85 00000000 61"));
    half.stream().shut_down_writing();
    rests(nginx.worker(), "with a half-closed client");
    drop(stuck);
}

#[test]
fn a_worker_rests_while_it_quits() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).drain("8s"));
    let mut crowd = Crowd::accepted(&nginx, 3, |_| "/ws?channel=foo".to_owned());
    let worker = nginx.worker();
    nginx.quit();
    nginx.until_log("gracefully shutting down");
    rests(worker, "while it quits");
    crowd.until("all have ended", |all| all.iter().all(|m| m.ended));
}

/// While a thousand subscribers get a flood, plain requests to the same worker are answered during
/// it, not after it.
#[test]
fn http_is_answered_while_a_thousand_get_a_fan_out() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_send_queue 16m;"));
    let mut crowd = Crowd::accepted(&nginx, 1000, |_| "/ws?channel=foo".to_owned());
    let payload = "x".repeat(1000);
    let messages: Vec<_> = (0..200).map(|_| ("foo", &payload)).collect();
    let is_over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let site = scope.spawn(|| {
            let mut answered = 0;
            while !is_over.load(SeqCst) {
                assert_eq!(nginx.get("/plain").text(), "plain");
                answered += 1;
            }
            answered
        });
        for _ in 0..3 {
            redis.session().publish_all(&messages);
        }
        crowd.until("all heard all", |all| {
            all.iter().all(|m| m.messages.len() == 600)
        });
        is_over.store(true, SeqCst);
        site.join().unwrap()
    });
    assert!(
        answered >= 10,
        "{answered} answers during 600,000 deliveries"
    );
}

#[test]
fn a_client_that_floods_does_not_keep_others_from_being_served() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).location("/echo", "websocket_echo;");
    let nginx = Nginx::start(conf);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (nginx, is_over) = (&nginx, &is_over);
        scope.spawn(move || {
            // Pongs cost the client nothing to send: only the worker slows it down.
            let mut flood = Raw::accepted(nginx, Transport::Ws, "/ws?channel=foo");
            let pongs = frames::pong("x").wire().repeat(10_000);
            while !is_over.load(SeqCst) {
                flood.send(&pongs);
            }
        });
        let mut client = Client::connect(nginx, "/echo");
        for i in 0..200 {
            client.send(&i.to_string());
            client.expect([i.to_string()]);
            assert_eq!(nginx.get("/plain").status, 200);
        }
        is_over.store(true, SeqCst);
    });
}

#[test]
fn a_waiting_handshake_costs_no_processor_time() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(Conf::push_url(&proxy.url()));
    Client::connect(&nginx, "/ws?channel=foo").close();
    proxy.hold_replies(true);
    let mut waiting = Crowd::new();
    for i in 0..300 {
        waiting.join(&nginx, &format!("/ws?channel=bar-{i}"));
    }
    redis.until_subscribers("bar-299", 1);
    rests(nginx.worker(), "with 300 waiting handshakes");
    proxy.hold_replies(false);
    waiting.until("all are accepted", |all| {
        all.iter().all(|m| m.status == Some(101))
    });
}
