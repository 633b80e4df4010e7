//! Which process does what: links, workers, nginx's cache processes, and a module that has nothing
//! to do.

use std::time::Duration;
use t::settings::{self, Build, Flavor};
use t::{Client, Conf, Crowd, Nginx, Raw, Redis, Request, Transport, frames, process, until};

#[test]
fn each_worker_has_one_link_to_subscribe_and_one_to_publish_and_no_other_process_has_any() {
    let redis = Redis::start();
    let dir = redis.dir().join("cache");
    let cache = format!("proxy_cache_path {} keys_zone=cache:1m;", dir.display());
    let conf = Conf::push(&redis).http(&cache).workers(3).reuseport();
    let nginx = Nginx::start(conf.location("/pub", "websocket_publisher foo;"));
    let _crowd = Crowd::accepted(&nginx, 200, |i| format!("/ws?channel=foo-{i}"));
    for _ in 0..50 {
        assert_eq!(nginx.send(&Request::post("/pub", "x")).status, 200);
    }
    let links = |pid| process::connections_to(pid, redis.port());
    let workers = nginx.workers();
    until("each worker has two links", || {
        workers.iter().all(|&pid| links(pid) == 2)
    });
    assert_eq!(redis.links().len(), 6, "{:?}", redis.links());
    let subscribed = redis
        .links()
        .iter()
        .filter(|link| !link.contains(" sub=0 "))
        .count();
    assert_eq!(subscribed, 3, "{:?}", redis.links());
    let others: Vec<u32> = nginx
        .children()
        .into_iter()
        .filter(|pid| !workers.contains(pid))
        .collect();
    let titles: Vec<String> = others.iter().map(|&pid| process::title(pid)).collect();
    assert!(
        titles.iter().any(|title| title.contains("cache manager")),
        "{titles:?}"
    );
    for pid in others.into_iter().chain([nginx.master()]) {
        assert_eq!(links(pid), 0, "{}", process::title(pid));
    }
}

#[test]
fn four_workers_give_every_client_every_message_once() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).workers(4).reuseport();
    let nginx = Nginx::start(conf.location("/pub", "websocket_publisher foo;"));
    let mut crowd = Crowd::accepted(&nginx, 400, |_| "/ws?channel=foo".to_owned());
    for i in 0..100 {
        let answer = nginx.send(&Request::post("/pub", i.to_string()));
        assert_eq!(
            answer.json()["redis_receivers"],
            4,
            "every worker has clients"
        );
    }
    crowd.until("all heard all", |all| {
        all.iter().all(|m| m.messages.len() >= 100)
    });
    crowd.pump(Duration::from_millis(200));
    let expected: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    assert!(
        crowd
            .members()
            .iter()
            .all(|member| member.texts() == expected)
    );
}

#[test]
fn an_empty_channel_is_unsubscribed() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let first = Client::connect(&nginx, "/ws?channel=foo");
    let second = Client::connect(&nginx, "/ws?channel=foo");
    redis.until_subscribers("foo", 1);
    first.close();
    t::never("foo is left", Duration::from_millis(2500), || {
        redis.subscribers("foo") == 0
    });
    second.close();
    redis.until_subscribers("foo", 0);
}

#[test]
fn loaded_but_not_configured_it_does_nothing() {
    let redis = Redis::start();
    let without = Nginx::start(Conf::without_module());
    let with = Nginx::start(Conf::new());
    assert_eq!(with.get("/plain").text(), "plain");
    assert_eq!(without.get("/plain").text(), "plain");
    let (with_pid, without_pid) = (with.worker(), without.worker());
    // nginx itself keeps a lingering connection for a moment.
    until("as many descriptors", || {
        process::descriptors(with_pid) == process::descriptors(without_pid)
    });
    let wakes = process::voluntary_switches(with_pid);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(process::voluntary_switches(with_pid), wakes, "no timer");
    assert_eq!(process::connections_to(with_pid, redis.port()), 0);
    assert_eq!(process::threads(with_pid), 1);
    assert!(redis.links().is_empty());
    assert_eq!(with.handshake("/plain"), 200);
}

#[test]
fn a_single_process_serves_too() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).single_process());
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    redis.publish("foo", "hello");
    client.expect(["hello"]);
    drop(client);
}

#[test]
fn a_worker_that_logs_all_it_does_lives() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .main("error_log debug.log debug;")
        .http("websocket_ping_interval 200ms; websocket_timeout 1s;");
    let nginx = Nginx::start(conf);
    let worker = nginx.worker();
    for transport in Transport::BOTH {
        let mut raw = Raw::accepted(&nginx, transport, "/ws?channel=foo");
        for _ in 0..3 {
            let ping = raw.frame();
            assert_eq!(ping.opcode, frames::PING);
            raw.send_frame(&frames::pong(ping.payload));
        }
        raw.send_frame(&frames::close(1000, ""));
        raw.expect_close(1000);
    }
    redis.until_subscribers("foo", 0);
    assert_eq!(nginx.worker(), worker);
    let log = std::fs::read(nginx.dir().join("debug.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("[debug]"), "nginx is built --with-debug");
    assert!(!log.contains("Sanitizer"), "{log}");
}

/// README, Memory: what an idle subscriber takes of the worker's memory.
#[test]
fn an_idle_subscriber_costs_less_than_a_thousand_bytes() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let target = |i: usize| format!("/ws?channel=foo-{}", i % 10);
    let _before = Crowd::accepted(&nginx, 100, target);
    let worker = nginx.worker();
    let empty = process::proportional_bytes(worker);
    let mut crowd = Crowd::accepted(&nginx, 2000, target);
    let each = process::proportional_bytes(worker).saturating_sub(empty) / 2000;
    redis.publish("foo-7", "hello");
    crowd.until("a tenth of them hears", |all| {
        all.iter().filter(|m| m.texts() == ["hello"]).count() == 200
    });
    // The debug build and AddressSanitizer have sizes of their own.
    if settings::flavor() != Flavor::Asan && settings::build() == Build::Release {
        assert!(each < 1000, "{each} bytes for each");
    }
}

/// As docs/operation.md says about an upgrade: a module that is loaded under a path stays, and one
/// under a new name is loaded.
#[test]
fn a_reload_loads_the_module_by_a_new_name_only() {
    let redis = Redis::start();
    let file = |name: &str| redis.dir().join(name);
    std::fs::copy(settings::module(), file("one.so")).expect("a copy");
    let conf = Conf::push(&redis);
    let mut nginx = Nginx::start(conf.clone().module(&file("one.so")));
    std::fs::remove_file(file("one.so")).expect("removed");
    std::fs::write(file("one.so"), "no module at all").expect("a file");
    let (is_fine, text) = conf.clone().module(&file("one.so")).check();
    assert!(!is_fine && text.contains("one.so"), "nginx -t: {text}");
    nginx.reload();
    let is_mapped = |pid, name: &str| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        maps.lines().any(|line| line.contains(&format!("/{name}")))
    };
    assert!(is_mapped(nginx.worker(), "one.so (deleted)"));
    Client::connect(&nginx, "/ws?channel=foo").close();
    std::fs::copy(settings::module(), file("two.so")).expect("a copy");
    nginx.reconfigure(conf.module(&file("two.so")));
    for _ in 0..2 {
        nginx.reload();
        let worker = nginx.worker();
        assert!(is_mapped(worker, "two.so") && !is_mapped(worker, "one.so"));
        let mut client = Client::connect(&nginx, "/ws?channel=foo");
        redis.publish("foo", "hello");
        client.expect(["hello"]);
        client.close();
    }
}
