//! A message for many clients goes out by one system call where the system has io_uring, and by one
//! call per client where it does not. Both keep the same promises.

use t::{Conf, Crowd, Nginx, Raw, Redis, Transport, frames, until};

/// The values of `websocket_io_uring`, and what the log then says.
const WAYS: [(&str, &str); 2] = [("auto", "by io_uring"), ("off", "one by one")];

fn nginx(redis: &Redis, way: &str, http: &str) -> Nginx {
    let http = format!("websocket_io_uring {way}; {http}");
    Nginx::start(Conf::push(redis).http(&http))
}

/// Whether the kernel lets this process use io_uring at all.
fn system_has_io_uring() -> bool {
    let forbidden = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    forbidden.is_ok_and(|value| value.trim() == "0")
}

fn numbered(number: usize, bytes: usize) -> String {
    format!("{number:0>8}{}", ".".repeat(bytes))
}

fn number(text: &str, bytes: usize) -> usize {
    assert_eq!(text.len(), 8 + bytes, "a whole message");
    text[..8].parse().expect("a number")
}

#[test]
fn the_log_says_once_how_a_worker_sends() {
    let redis = Redis::start();
    for (way, said) in WAYS {
        if way == "auto" && !system_has_io_uring() {
            continue;
        }
        let nginx = nginx(&redis, way, "");
        let said = format!("websocket sends {said}");
        nginx.until_log(&said);
        assert_eq!(nginx.count_log("websocket sends"), 1);
        assert_eq!(nginx.count_log(&format!("[notice] {}#", nginx.worker())), 1);
    }
}

/// A container's seccomp filter answers `io_uring_setup(2)` with EPERM.
#[test]
fn where_io_uring_is_forbidden_messages_go_one_by_one() {
    let redis = Redis::start();
    let nginx = Nginx::start(
        Conf::push(&redis)
            .http("websocket_io_uring auto;")
            .without_io_uring(),
    );
    nginx.until_log("websocket sends one by one, there is no io_uring: Operation not permitted");
    let mut crowd = Crowd::accepted(&nginx, 40, |_| "/ws?channel=foo".to_owned());
    redis.publish("foo", "hello");
    crowd.until("all have heard", |all| {
        all.iter().all(|member| member.texts() == ["hello"])
    });
}

/// Sizes from a few bytes to more than any socket takes at once.
#[test]
fn all_hear_all_messages_of_any_size_in_order() {
    let redis = Redis::start();
    for (way, _) in WAYS {
        let nginx = nginx(&redis, way, "websocket_send_queue 64m;");
        let mut crowd = Crowd::accepted(&nginx, 60, |_| "/ws?channel=foo".to_owned());
        let mut secure: Vec<_> = (0..10)
            .map(|_| Raw::accepted(&nginx, Transport::Wss, "/ws?channel=foo"))
            .collect();
        let sizes = [0, 1, 117, 118, 4 << 10, 70_000, 3, 2 << 20, 5, 300_000, 2];
        let messages: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(n, &b)| numbered(n, b))
            .collect();
        let (sent, mut publisher) = (&messages, redis.session());
        std::thread::scope(|scope| {
            let published: Vec<_> = sent.iter().map(|message| ("foo", message)).collect();
            scope.spawn(move || publisher.publish_all(&published));
            crowd.until("all have heard all", |all| {
                all.iter().all(|member| member.messages.len() >= sent.len())
            });
        });
        assert!(
            crowd
                .members()
                .iter()
                .all(|member| member.texts() == messages)
        );
        for client in &mut secure {
            for message in &messages {
                assert!(client.frame().text() == *message);
            }
        }
    }
}

/// Slow, stopped and vanishing readers among many, while others connect: no one loses a message.
#[test]
fn readers_that_stop_or_vanish_lose_nothing_and_disturb_nobody() {
    const BYTES: usize = 5_000;
    const MESSAGES: usize = 600;
    let redis = Redis::start();
    for (way, _) in WAYS {
        let nginx = nginx(&redis, way, "websocket_send_queue 64m;");
        let mut crowd = Crowd::accepted(&nginx, 50, |_| "/ws?channel=foo".to_owned());
        let narrow = |transport| Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo");
        let mut stopped: Vec<_> = (0..12).map(|n| narrow(Transport::BOTH[n % 2])).collect();
        let mut vanishing: Vec<_> = (0..12).map(|n| narrow(Transport::BOTH[n % 2])).collect();
        let mut publisher = redis.session();
        for at in 0..MESSAGES {
            publisher.publish("foo", numbered(at, BYTES));
            if at % 40 == 20
                && let Some(client) = vanishing.pop()
            {
                client.reset();
            }
            if at == MESSAGES / 2 {
                // This is inside a frame.
                for client in &mut stopped {
                    let begun = client.bytes(BYTES / 2);
                    client.unread(&begun);
                }
            }
        }
        crowd.until("all have heard all", |all| {
            all.iter().all(|member| member.messages.len() == MESSAGES)
        });
        for member in crowd.members() {
            let heard = member.texts();
            assert!(
                heard
                    .iter()
                    .enumerate()
                    .all(|(n, text)| number(text, BYTES) == n)
            );
        }
        for client in &mut stopped {
            for at in 0..MESSAGES {
                assert_eq!(number(&client.frame().text(), BYTES), at);
            }
        }
        until("the vanished are gone", || {
            nginx.get("/plain").status == 200 && redis.subscribers("foo") == 1
        });
    }
}

/// A policy applies to the clients that stop: they get whole messages, in order, the newest among
/// them.
#[test]
fn policies_strike_stopped_readers_only() {
    const BYTES: usize = 10_000;
    const MESSAGES: usize = 2_000;
    let redis = Redis::start();
    for (way, _) in WAYS {
        for policy in ["drop_oldest", "latest"] {
            let limits = format!("websocket_slow {policy}; websocket_send_queue 200k;");
            let nginx = nginx(&redis, way, &limits);
            let mut crowd = Crowd::accepted(&nginx, 20, |_| "/ws?channel=foo".to_owned());
            let mut stopped: Vec<_> = (0..6)
                .map(|n| Raw::accepted_narrow(&nginx, Transport::BOTH[n % 2], "/ws?channel=foo"))
                .collect();
            let mut publisher = redis.session();
            for at in 0..MESSAGES {
                publisher.publish("foo", numbered(at, BYTES));
                crowd.until("all have heard it", |all| {
                    all.iter().all(|member| member.messages.len() == at + 1)
                });
            }
            for client in &mut stopped {
                let mut heard = Vec::new();
                while heard.last() != Some(&(MESSAGES - 1)) {
                    heard.push(number(&client.frame().text(), BYTES));
                }
                assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
                assert!(heard.len() < MESSAGES, "20 MB do not fit into 200k");
                client.send_frame(&frames::ping("in step"));
                client.expect([frames::pong("in step")]);
            }
        }
    }
}
