//! Promise 2: each client gets messages in Redis's order, across its channels, and never a torn or
//! interleaved frame, over `ws:` and `wss:` alike.

use t::{Client, Conf, Nginx, Raw, Redis, Transport, frames, until};

const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];

/// Numbers 0..n, spread over the channels in a fixed irregular pattern.
fn numbered(n: usize) -> Vec<(&'static str, String)> {
    (0..n)
        .map(|i| (CHANNELS[(i * 7 + i / 3) % CHANNELS.len()], i.to_string()))
        .collect()
}

#[test]
fn messages_of_several_channels_come_in_one_order() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .location("/all", "websocket_subscribe a b c d;")
        .location("/some", "websocket_subscribe d b;")
        .location("/pattern", "websocket_psubscribe [abcd];");
    let nginx = Nginx::start(conf);
    let messages = numbered(20_000);
    let has = |channels: &'static str| {
        let wanted = messages
            .iter()
            .filter(|(channel, _)| channels.contains(channel));
        wanted.map(|(_, number)| number.clone()).collect::<Vec<_>>()
    };
    let mut clients = Vec::new();
    for transport in Transport::BOTH {
        for (target, channels) in [("/all", "abcd"), ("/some", "bd"), ("/pattern", "abcd")] {
            clients.push((
                Client::connect_over(&nginx, transport, target),
                has(channels),
            ));
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| redis.session().publish_all(&messages));
        for (mut client, expected) in clients {
            scope.spawn(move || client.expect(expected));
        }
    });
}

#[test]
fn a_message_that_matches_channel_and_pattern_comes_as_redis_sends_it() {
    let redis = Redis::start();
    let directives = "websocket_subscribe news; websocket_psubscribe n*; websocket_envelope redis;";
    let nginx = Nginx::start(Conf::with(&redis).location("/ws", directives));
    let mut client = Client::connect(&nginx, "/ws");
    redis.publish("news", "1");
    redis.publish("nothing", "2");
    client.expect([
        r#"["message","news","1"]"#,
        r#"["pmessage","n*","news","1"]"#,
        r#"["pmessage","n*","nothing","2"]"#,
    ]);
}

/// Frames of every length class, echoes and pongs go to a client that reads in small pieces.
#[test]
fn frames_of_all_sizes_pongs_and_echoes_are_never_torn() {
    let redis = Redis::start();
    let directives = "websocket_subscribe foo; websocket_echo; websocket_send_queue 64m;";
    let nginx = Nginx::start(Conf::with(&redis).location("/ws", directives));
    for transport in Transport::BOTH {
        let mut raw = Raw::accepted_narrow(&nginx, transport, "/ws");
        let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000, 1_048_576];
        let published: Vec<_> = (0..90)
            .map(|i| vec![b'a' + (i % 26); sizes[i as usize % 9]])
            .collect();
        let messages: Vec<_> = published.iter().map(|payload| ("foo", payload)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| redis.session().publish_all(&messages));
            for i in 0..20 {
                raw.send_frame(&frames::ping(format!("ping {i}")));
                raw.send_frame(&frames::binary(format!("echo {i}")));
            }
            check(&mut raw, &published);
        });
    }
}

fn check(raw: &mut Raw, published: &[Vec<u8>]) {
    let (mut heard, mut echoes, mut last_pong) = (0, 0, String::new());
    while heard < published.len() || echoes < 20 || last_pong != "ping 19" {
        let frame = raw.frame();
        assert!(frame.fin && frame.rsv == 0, "{frame:?}");
        match frame.opcode {
            frames::TEXT => {
                assert!(
                    frame.payload == published[heard],
                    "message {heard}: {frame:?}"
                );
                heard += 1;
            }
            frames::BINARY => {
                assert_eq!(frame.text(), format!("echo {echoes}"));
                echoes += 1;
            }
            frames::PONG => last_pong = frame.text(),
            _ => panic!("{frame:?}"),
        }
    }
}

#[test]
fn clients_that_come_and_go_during_a_burst_get_unbroken_runs() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    let stays = &mut Client::connect(&nginx, "/ws?channel=a");
    let messages: Vec<_> = (0..30_000).map(|i: u32| ("a", i.to_string())).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| redis.session().publish_all(&messages));
        scope.spawn(|| {
            for _ in 0..30 {
                let mut guest = Client::connect(&nginx, "/ws?channel=a");
                let Some(first) = soon(&mut guest) else {
                    return;
                };
                for number in first + 1..(first + 50).min(30_000) {
                    assert_eq!(guest.text(), number.to_string());
                }
            }
        });
        stays.expect((0..30_000).map(|i| i.to_string()));
    });
    until("the guests are gone", || redis.subscribers("a") == 1);
}

/// The first number that a guest hears. `None` when the burst is over.
fn soon(guest: &mut Client) -> Option<u32> {
    use std::time::Duration;
    guest.stream().set_read_timeout(Duration::from_secs(2));
    let first = guest.try_text()?.parse().unwrap();
    guest.stream().set_read_timeout(t::patience());
    Some(first)
}
