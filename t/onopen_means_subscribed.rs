//! Promise 1: the 101 is sent after Redis has confirmed the subscription. No message published
//! after a client's `onopen` is missed. A client that cannot be promised this is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use t::process::Signal;
use t::{
    Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Request, Transport, frames, process, until,
};

/// Long enough for a wrong answer to arrive.
const A_WHILE: Duration = Duration::from_millis(300);

/// nginx behind a proxy. Its links are up, as one client has already been there.
fn linked(redis: &Redis) -> (Proxy, Nginx) {
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(Conf::push_url(&proxy.url()));
    Client::connect(&nginx, "/ws?channel=first").close();
    (proxy, nginx)
}

fn asks(nginx: &Nginx, target: &str) -> Raw {
    let mut raw = Raw::open(nginx, Transport::Ws);
    raw.send(Request::upgrade(target).wire());
    raw
}

#[test]
fn the_101_waits_for_the_confirmation() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    proxy.hold_replies(true);
    let mut raw = asks(&nginx, "/ws?channel=foo");
    redis.until_subscribers("foo", 1);
    raw.quiet(A_WHILE);
    proxy.hold_replies(false);
    raw.expect_101();
    assert_eq!(redis.publish("foo", "hello"), 1);
    raw.expect([frames::text("hello")]);
}

#[test]
fn the_101_waits_for_all_channels_and_patterns() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url()).location(
        "/three",
        "websocket_subscribe a b; websocket_psubscribe c*;",
    );
    let nginx = Nginx::start(conf);
    let _a = Client::connect(&nginx, "/ws?channel=a");
    let _b = Client::connect(&nginx, "/ws?channel=b");
    proxy.hold_replies(true);
    let mut raw = asks(&nginx, "/three");
    raw.quiet(A_WHILE);
    proxy.hold_replies(false);
    raw.expect_101();
    for channel in ["a", "b", "cc"] {
        assert_eq!(redis.publish(channel, channel), 1);
        raw.expect([frames::text(channel)]);
    }
}

#[test]
fn a_message_between_the_confirmation_and_the_first_read_is_there() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    proxy.hold_replies(true);
    let mut raw = asks(&nginx, "/ws?channel=foo");
    redis.until_subscribers("foo", 1);
    assert_eq!(
        redis.publish("foo", "in the same packet as the confirmation"),
        1
    );
    proxy.hold_replies(false);
    raw.expect_101();
    raw.expect([frames::text("in the same packet as the confirmation")]);
}

#[test]
fn a_channel_that_this_worker_has_is_joined_at_once() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    let mut before = Client::connect(&nginx, "/ws?channel=foo");
    proxy.hold_commands(true);
    proxy.hold_replies(true);
    let mut second = Client::connect(&nginx, "/ws?channel=foo");
    proxy.hold_commands(false);
    proxy.hold_replies(false);
    redis.publish("foo", "hello");
    before.expect(["hello"]);
    second.expect(["hello"]);
}

#[test]
fn an_unsubscribe_that_redis_has_not_seen_is_no_confirmation() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    Client::connect(&nginx, "/ws?channel=foo").close();
    proxy.hold_commands(true);
    proxy.until_command("UNSUBSCRIBE", "foo");
    let mut raw = asks(&nginx, "/ws?channel=foo");
    raw.quiet(A_WHILE);
    proxy.hold_commands(false);
    raw.expect_101();
    assert_eq!(redis.publish("foo", "hello"), 1);
    raw.expect([frames::text("hello")]);
}

#[test]
fn an_unsubscribe_whose_reply_is_on_its_way_is_no_confirmation() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    Client::connect(&nginx, "/ws?channel=foo").close();
    redis.until_subscribers("foo", 1);
    proxy.hold_replies(true);
    redis.until_subscribers("foo", 0);
    let mut raw = asks(&nginx, "/ws?channel=foo");
    redis.until_subscribers("foo", 1);
    raw.quiet(A_WHILE);
    proxy.hold_replies(false);
    raw.expect_101();
    assert_eq!(redis.publish("foo", "hello"), 1);
    raw.expect([frames::text("hello")]);
}

/// Channels lose their last client and get a new one around the moment of their delayed
/// unsubscription, over a slow link. Every message published after `onopen` must arrive.
#[test]
fn leaving_and_coming_back_around_the_unsubscribe_misses_nothing() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    proxy.slow_replies(Duration::from_micros(300), 64);
    std::thread::scope(|scope| {
        for i in 0..40u64 {
            let (redis, nginx) = (&redis, &nginx);
            scope.spawn(move || {
                let target = format!("/ws?channel=loop-{i}");
                let mut publisher = redis.session();
                for round in 0..4u64 {
                    let mut client = Client::connect(nginx, &target);
                    let message = format!("{i}.{round}");
                    assert_eq!(
                        publisher.publish(format!("loop-{i}"), &message),
                        1,
                        "{message}"
                    );
                    client.expect([&message]);
                    client.close();
                    std::thread::sleep(Duration::from_millis(1940 + (i * 37 + round * 11) % 120));
                }
            });
        }
    });
}

/// A publisher counts. Each client that opens gets every number from the first one after its
/// `onopen`.
#[test]
fn no_number_after_onopen_is_missed() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).workers(2));
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = redis.session();
            while !is_over.load(SeqCst) {
                let number = next.fetch_add(1, SeqCst);
                publisher.publish("count", number.to_string());
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| count(&nginx, &next)))
            .collect();
        let results: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        is_over.store(true, SeqCst);
        assert!(results.iter().all(Result::is_ok));
    });
}

fn count(nginx: &Nginx, next: &AtomicU64) {
    for _ in 0..40 {
        let mut client = Client::connect(nginx, "/ws?channel=count");
        let unpublished = next.load(SeqCst);
        let first: u64 = client.text().parse().unwrap();
        assert!(
            first <= unpublished,
            "first {first}, yet {unpublished} came after onopen"
        );
        for number in first + 1..first + 20 {
            assert_eq!(client.text(), number.to_string());
        }
    }
}

#[test]
fn a_thousand_waiting_handshakes_are_all_accepted() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    proxy.hold_replies(true);
    let mut crowd = Crowd::new();
    for i in 0..1000 {
        crowd.join(&nginx, &format!("/ws?channel=many-{i}"));
    }
    until("Redis is asked for all", || {
        redis.subscribers("many-999") == 1
    });
    crowd.pump(A_WHILE);
    assert!(crowd.members().iter().all(|member| member.status.is_none()));
    proxy.hold_replies(false);
    crowd.until("all are accepted", |all| {
        all.iter().all(|m| m.status == Some(101))
    });
    let mut publisher = redis.session();
    let messages: Vec<_> = (0..1000)
        .map(|i| (format!("many-{i}"), i.to_string()))
        .collect();
    publisher.publish_all(&messages);
    crowd.until("each has its own", |all| {
        all.iter().all(|m| !m.messages.is_empty())
    });
    for (i, member) in crowd.members().iter().enumerate() {
        assert_eq!(member.texts(), [i.to_string()]);
    }
}

#[test]
fn redis_away_is_503() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    Client::connect(&nginx, "/ws?channel=foo").close();
    redis.kill();
    until("the loss is noticed", || {
        nginx.handshake("/ws?channel=bar") == 503
    });
    redis.restart();
    until("it is back", || nginx.handshake("/ws?channel=bar") == 101);
}

#[test]
fn redis_silent_is_504() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    Client::connect(&nginx, "/ws?channel=foo").close();
    redis.stop();
    assert_eq!(nginx.handshake("/ws?channel=bar"), 504);
    redis.cont();
    until("it is back", || nginx.handshake("/ws?channel=bar") == 101);
}

#[test]
fn a_channel_that_an_acl_forbids_is_403_for_that_client_alone() {
    let redis = Redis::start();
    let rules = [
        "reset",
        "on",
        ">secret",
        "+@all",
        "~*",
        "resetchannels",
        "&ok:*",
    ];
    redis.command(&[&["ACL", "SETUSER", "guest"], &rules[..]].concat());
    let url = format!("redis://guest:secret@127.0.0.1:{}", redis.port());
    let nginx = Nginx::start(Conf::push_url(&url));
    let mut crowd = Crowd::new();
    for i in 0..50 {
        let kind = if i == 17 { "secret" } else { "ok" };
        crowd.join(&nginx, &format!("/ws?channel={kind}:{i}"));
    }
    crowd.until("all are answered", |all| {
        all.iter().all(|m| m.status.is_some())
    });
    for (i, member) in crowd.members().iter().enumerate() {
        assert_eq!(
            member.status,
            Some(if i == 17 { 403 } else { 101 }),
            "client {i}"
        );
    }
    assert_eq!(redis.publish("ok:16", "hello"), 1);
    crowd.until("the allowed is heard", |all| !all[16].messages.is_empty());
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let redis = Redis::start();
    let (proxy, nginx) = linked(&redis);
    proxy.hold_replies(true);
    let gone = asks(&nginx, "/ws?channel=foo");
    redis.until_subscribers("foo", 1);
    gone.reset();
    proxy.hold_replies(false);
    redis.until_subscribers("foo", 0);
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    redis.publish("foo", "hello");
    client.expect(["hello"]);
}

/// Before Redis has answered, a name is given up and asked for again in the same wake-up of the
/// worker, and then another name is asked for. Each client hears its own channel.
#[test]
fn a_name_asked_for_again_before_its_release_was_heard_is_not_mixed_up() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    proxy.hold_replies(true);
    let nginx = Nginx::start(Conf::push_url(&proxy.url()));
    let leaves = asks(&nginx, "/ws?channel=foo");
    let mut foo = Raw::open(&nginx, Transport::Ws);
    let handshake = Request::upgrade("/ws?channel=foo").wire();
    let (begun, rest) = handshake.split_at(40);
    foo.send(begun);
    foo.quiet(A_WHILE);
    process::signal(nginx.worker(), Signal::STOP);
    leaves.reset();
    foo.send(rest);
    process::signal(nginx.worker(), Signal::CONT);
    foo.quiet(A_WHILE);
    let mut bar = asks(&nginx, "/ws?channel=bar");
    bar.quiet(A_WHILE);
    proxy.hold_replies(false);
    for (raw, channel) in [(&mut foo, "foo"), (&mut bar, "bar")] {
        raw.expect_101();
        assert_eq!(redis.publish(channel, channel), 1);
    }
    foo.expect([frames::text("foo")]);
    bar.expect([frames::text("bar")]);
    foo.quiet(A_WHILE);
    bar.quiet(A_WHILE);
}
