//! Promise 4: Redis dies and returns. Clients stay or are told (`websocket_gap`). The worker
//! reconnects with jittered backoff, resubscribes everything, and logs one line each way.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use t::{Client, Conf, Crowd, Member, Nginx, Proxy, Redis, Request, Transport, until};

fn push_keep(url: &str) -> Conf {
    Conf::push_url(url).http("websocket_gap keep;")
}

#[test]
fn killed_redis_closes_its_clients_with_1012_once_it_is_back() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).location("/echo", "websocket_echo;"));
    let mut crowd = Crowd::accepted(&nginx, 100, |i| format!("/ws?channel=foo-{}", i % 10));
    let mut echo = Client::connect(&nginx, "/echo");
    redis.restart();
    crowd.until("all are told", |all| {
        all.iter().all(|m| m.close_code == Some(1012) && m.ended)
    });
    // A client without subscriptions has missed nothing.
    echo.send("still here");
    echo.expect(["still here"]);
    let mut again = Client::connect(&nginx, "/ws?channel=foo-1");
    redis.publish("foo-1", "hello");
    again.expect(["hello"]);
}

#[test]
fn the_code_of_a_gap_may_be_chosen() {
    let mut redis = Redis::start();
    let gap = |gap: &str| format!("websocket_subscribe foo; {gap}");
    let conf = Conf::push(&redis)
        .server("websocket_gap close 1001; websocket_drain 100ms 1013;")
        .location("/private", &gap("websocket_gap close 4000;"))
        .location("/default", &gap("websocket_gap close;"))
        .location("/kept", &gap("websocket_gap keep;"));
    let nginx = Nginx::start(conf);
    let mut kept = Client::connect(&nginx, "/kept");
    let mut told: Vec<(Client, u16)> = [
        ("/ws?channel=foo", 1001),
        ("/private", 4000),
        ("/default", 1012),
    ]
    .into_iter()
    .map(|(target, code)| (Client::connect(&nginx, target), code))
    .collect();
    redis.restart();
    for (client, code) in &mut told {
        client.expect_close(*code);
    }
    until("it is subscribed again", || redis.publish("foo", "x") == 1);
    kept.expect(["x"]);
}

#[test]
fn clients_are_told_also_when_redis_stays_away() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let mut crowd = Crowd::accepted(&nginx, 20, |_| "/ws?channel=foo".to_owned());
    redis.kill();
    crowd.until("all are told", |all| {
        all.iter().all(|m| m.close_code == Some(1012) && m.ended)
    });
    assert_eq!(nginx.handshake("/ws?channel=foo"), 503);
    assert_eq!(nginx.get("/plain").status, 200);
}

#[test]
fn keep_keeps_them_and_all_is_subscribed_again() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(push_keep(&redis.url()));
    let mut crowd = Crowd::accepted(&nginx, 300, |i| format!("/ws?channel=foo-{i}"));
    redis.restart();
    until("the last is subscribed again", || {
        (0..300).all(|i| redis.subscribers(&format!("foo-{i}")) == 1)
    });
    let messages: Vec<_> = (0..300)
        .map(|i| (format!("foo-{i}"), i.to_string()))
        .collect();
    redis.session().publish_all(&messages);
    crowd.until("all have their own", |all| {
        all.iter().all(|m| m.messages.len() == 1)
    });
    assert!(
        crowd
            .members()
            .iter()
            .enumerate()
            .all(|(i, m)| m.texts() == [i.to_string()])
    );
}

#[test]
fn a_stopped_redis_is_noticed() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let mut crowd = Crowd::accepted(&nginx, 20, |_| "/ws?channel=foo".to_owned());
    redis.stop();
    crowd.until("all are told", |all| {
        all.iter().all(|m| m.close_code == Some(1012) && m.ended)
    });
    assert_eq!(nginx.get("/plain").status, 200);
    redis.cont();
    until("it is back", || nginx.handshake("/ws?channel=foo") == 101);
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    redis.publish("foo", "hello");
    client.expect(["hello"]);
}

#[test]
fn a_link_that_is_cut_again_and_again_is_renewed_each_time() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(push_keep(&proxy.url()));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    for round in 0..8 {
        proxy.cut();
        until_heard(&redis, &mut client, &format!("round {round}"));
    }
    // The publisher link may still be waiting for its next attempt.
    until("both links are back", || redis.links().len() == 2);
}

/// When the port refuses, a later attempt fails by a read event alone.
#[test]
fn a_redis_that_is_away_for_a_moment_has_all_its_links_back_soon() {
    const WORKERS: usize = 4;
    let mut redis = Redis::start();
    let nginx = Nginx::start(push_keep(&redis.url()).workers(WORKERS));
    let all_are_there = |redis: &Redis| redis.links().len() == 2 * WORKERS;
    until("all links are there", || all_are_there(&redis));
    let away = Instant::now();
    redis.kill();
    until("both links of each worker are lost", || {
        nginx.count_log("link is down") == 2 * WORKERS
    });
    std::thread::sleep(Duration::from_millis(350));
    redis.restart();
    let (back, away) = (Instant::now(), away.elapsed());
    until("all links are back", || all_are_there(&redis));
    // No wait is longer than twice the absence. The rest is for a busy machine. A connection
    // attempt would be given up only after five seconds.
    let (took, allowed) = (back.elapsed(), 2 * away + Duration::from_secs(2));
    assert!(took < allowed, "{took:?} after {away:?}");
}

/// Publishes the message until the client hears it: the link may be down meanwhile.
fn until_heard(redis: &Redis, client: &mut Client, message: &str) {
    client.stream().set_read_timeout(Duration::from_millis(50));
    until(&format!("{message:?} is heard"), || {
        redis.publish("foo", message);
        std::iter::from_fn(|| client.try_text()).any(|text| text == message)
    });
    client.stream().set_read_timeout(t::patience());
}

#[test]
fn one_line_each_way_is_logged() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(push_keep(&redis.url()));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let quiet_lines = nginx.count_log("edis");
    redis.kill();
    until("the loss is noticed", || {
        nginx.handshake("/ws?channel=bar") == 503
    });
    std::thread::sleep(Duration::from_secs(3));
    let lines_of_loss = nginx.count_log("[error]") + nginx.count_log("[warn]");
    redis.restart();
    until("it is back", || redis.publish("foo", "hello") == 1);
    while client.text() != "hello" {}
    assert!(lines_of_loss >= 1, "the loss is told");
    // One for each of the two links and one for the refused handshake, but not one per attempt.
    assert!(lines_of_loss <= 6, "{lines_of_loss} lines in three seconds");
    assert!(nginx.count_log("edis") > quiet_lines, "Redis is named");
}

#[test]
fn attempts_to_reconnect_are_spaced() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(push_keep(&proxy.url()));
    let _client = Client::connect(&nginx, "/ws?channel=foo");
    let before = proxy.accepted();
    proxy.refuse(true);
    proxy.cut();
    std::thread::sleep(Duration::from_secs(4));
    let attempts = proxy.accepted() - before;
    proxy.refuse(false);
    assert!(
        (2..200).contains(&attempts),
        "{attempts} attempts of two links in four seconds"
    );
    until("it is back", || nginx.handshake("/ws?channel=bar") == 101);
}

#[test]
fn nonsense_from_redis_ends_the_link_and_nothing_else() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(push_keep(&proxy.url()));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    for nonsense in [
        "!nonsense\r\n",
        "*-7\r\n",
        "$99999999999999999999\r\n",
        "\0\0\0\0\r\n",
        "*3\r\n:x\r\n",
    ] {
        let before = proxy.accepted();
        proxy.inject(nonsense.as_bytes());
        until("the links are renewed", || proxy.accepted() > before);
        until_heard(&redis, &mut client, nonsense);
    }
}

/// Redis is killed and restarted while a publisher counts and clients reconnect by themselves. In
/// the end all hear the last message, and nobody ever heard a number twice or out of order.
#[test]
fn restarts_under_load_are_survived() {
    let mut redis = Redis::start();
    let conf = Conf::push(&redis)
        .workers(2)
        .location("/pub", "websocket_publisher load;");
    let nginx = Nginx::start(conf);
    let is_over = AtomicBool::new(false);
    let mut crowd = Crowd::accepted(&nginx, 100, |_| "/ws?channel=load".to_owned());
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(SeqCst) {
                let answer = nginx.send(&Request::post("/pub", number.to_string()));
                assert!([200, 502, 503, 504].contains(&answer.status), "{answer:?}");
                number += 1;
            }
        });
        for _ in 0..4 {
            redis.restart();
            come_back(&nginx, &mut crowd);
        }
        is_over.store(true, SeqCst);
        counter.join().unwrap();
    });
    until("both workers are subscribed", || {
        redis.publish("load", "last") == 2
    });
    crowd.until("all hear the last word", |all| {
        all.iter().all(|m| m.texts().contains(&last()))
    });
    crowd.members().iter().for_each(hears_each_once_in_order);
}

/// This holds within one connection: the next one may be with another worker, which may be behind
/// the first.
#[track_caller]
fn hears_each_once_in_order(member: &Member) {
    let numbers = member.texts().into_iter();
    let numbers: Vec<u64> = numbers.filter_map(|text| text.parse().ok()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

fn last() -> String {
    "last".to_owned()
}

/// Connects closed clients again until all are open.
fn come_back(nginx: &Nginx, crowd: &mut Crowd) {
    crowd.until("all were told", |all| {
        all.iter().all(|m| m.close_code == Some(1012))
    });
    until("all are open again", || {
        for i in 0..crowd.members().len() {
            if crowd.members()[i].is_done() {
                hears_each_once_in_order(&crowd.members()[i]);
                crowd.rejoin(nginx, i, "/ws?channel=load");
            }
        }
        crowd.pump(Duration::from_millis(50));
        crowd.members().iter().all(Member::is_open)
    });
}

#[test]
fn a_publish_whose_redis_dies_is_answered() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url()).location("/pub", "websocket_publisher foo;");
    let nginx = Nginx::start(conf);
    assert_eq!(nginx.send(&Request::post("/pub", "hello")).status, 200);
    proxy.hold_replies(true);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| nginx.send(&Request::post("/pub", "lost?")));
        proxy.until_command("PUBLISH", "lost?");
        proxy.cut();
        assert_eq!(answer.join().unwrap().status, 502);
    });
    proxy.hold_replies(false);
    until("it is back", || {
        nginx.send(&Request::post("/pub", "hello")).status == 200
    });
}

/// A client that connects after a loss has missed nothing because of it, neither at the start nor
/// later.
#[test]
fn a_redis_that_comes_late_closes_nobody() {
    let mut redis = Redis::start();
    redis.kill();
    let nginx = Nginx::start(Conf::push(&redis));
    let begun = Instant::now();
    until("its absence is noticed", || {
        nginx.handshake("/ws?channel=foo") == 503
    });
    redis.restart();
    until("it is there", || nginx.handshake("/ws?channel=foo") == 101);
    let mut early = Client::connect(&nginx, "/ws?channel=foo");
    early.quiet(Duration::from_secs(7).saturating_sub(begun.elapsed()));
    redis.publish("foo", "hello");
    early.expect(["hello"]);
    early.close();
    redis.until_subscribers("foo", 0);
    redis.restart();
    until("it is back", || nginx.handshake("/ws?channel=foo") == 101);
    let mut late = Client::connect(&nginx, "/ws?channel=foo");
    late.quiet(Duration::from_secs(1));
    redis.publish("foo", "hello");
    late.expect(["hello"]);
}

#[test]
fn one_line_for_each_link_tells_of_a_unix_socket_that_is_not_there() {
    let redis = Redis::start();
    let socket = redis.dir().join("absent.sock");
    let nginx = Nginx::start(Conf::push_url(&format!("unix://{}", socket.display())));
    until("its absence is noticed", || {
        nginx.handshake("/ws?channel=foo") == 503
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(nginx.count_log("absent.sock"), 2, "{}", nginx.log());
    assert_eq!(nginx.count_log("[error]"), 2, "{}", nginx.log());
    assert_eq!(nginx.count_log("[crit]"), 0);
}

/// Channels that the user may no longer read are noticed when Redis comes back.
#[test]
fn a_channel_that_is_forbidden_later_closes_its_clients_with_1008() {
    let redis = Redis::start();
    let allow = |channels: &[&str]| {
        let user = ["ACL", "SETUSER", "guest", "on", ">secret", "+@all", "~*"];
        redis.command(&[&user[..], &["resetchannels"], channels].concat());
    };
    // The module's own channel shows that messages pass.
    allow(&["&foo", "&later", "&ngx_ws_probe:*"]);
    let url = redis.url().replace("//", "//guest:secret@");
    let nginx = Nginx::start(push_keep(&url));
    let mut stays = Client::connect(&nginx, "/ws?channel=foo");
    let mut goes = Client::connect(&nginx, "/ws?channel=later");
    // Redis itself cuts links that are subscribed to what it now forbids.
    allow(&["&foo", "&ngx_ws_probe:*"]);
    goes.expect_close(1008);
    until_heard(&redis, &mut stays, "still here");
    assert_eq!(nginx.handshake("/ws?channel=later"), 403);
}

/// As many names are refused as there are clients. This takes one line a second, not one per name,
/// and a refused handshake adds none.
#[test]
fn a_thousand_channels_that_are_forbidden_later_are_told_in_a_few_lines() {
    const CLIENTS: usize = 1_500;
    let redis = Redis::start();
    let allow = |channels: &[&str]| {
        let user = ["ACL", "SETUSER", "guest", "on", ">secret", "+@all", "~*"];
        redis.command(&[&user[..], &["resetchannels"], channels].concat());
    };
    allow(&["&*"]);
    let url = redis.url().replace("//", "//guest:secret@");
    let conf = push_keep(&url).location("/status", "websocket_status;");
    let nginx = Nginx::start(conf);
    let mut stays = Client::connect(&nginx, "/ws?channel=foo");
    let target = |i| format!("/ws?channel=goes-{i}");
    let mut crowd = Crowd::accepted(&nginx, CLIENTS, target);
    let begun = Instant::now();
    allow(&["&foo", "&ngx_ws_probe:*"]);
    crowd.until("all are told", |all| all.iter().all(|m| m.ended));
    assert!(crowd.members().iter().all(|m| m.close_code == Some(1008)));
    until_heard(&redis, &mut stays, "still here");
    for i in 0..20 {
        assert_eq!(nginx.handshake(&target(i)), 403);
    }
    let (lines, seconds) = (nginx.count_log("redis refuses"), begun.elapsed().as_secs());
    assert!((1..=2 + seconds as usize).contains(&lines), "{lines} lines");
    let status = nginx.get("/status").json();
    assert_eq!(status["counters"]["forbidden_closed"], CLIENTS);
    assert_eq!(status["refused"]["forbidden"], 20);
    until("only one is left", || {
        nginx.get("/status").json()["connections"] == 1
    });
}

#[test]
fn a_client_whose_message_cannot_be_published_is_closed_with_1013() {
    let mut redis = Redis::start();
    let conf = Conf::push(&redis)
        .location("/say", "websocket_publish said;")
        .location("/pub", "websocket_publisher said;");
    let nginx = Nginx::start(conf);
    let mut listener = redis.session();
    listener.subscribe("said");
    let mut talkers = Transport::BOTH.map(|by| Client::connect_over(&nginx, by, "/say"));
    for talker in &mut talkers {
        talker.send("hello");
        assert_eq!(listener.push().1, "hello");
    }
    redis.kill();
    until("the loss is noticed", || {
        nginx.send(&Request::post("/pub", "x")).status == 503
    });
    for talker in &mut talkers {
        talker.send("lost");
        talker.expect_close(1013);
    }
}
