//! Clients that do anything at any time, from a fixed seed. At the end nginx is healthy, no client
//! is left over, and well-behaved clients have lost nothing.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use t::frames::{self, Frame};
use t::{Client, Conf, Nginx, Raw, Redis, Request, Transport, until};

/// xorshift64*: every run takes the same actions.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }
}

const CHANNELS: u64 = 5;

/// One client's life: a handshake, some frames, whole or partial, then one of several ends.
fn live(nginx: &Nginx, dice: &mut Dice) {
    let transport = Transport::BOTH[dice.below(2) as usize];
    let place = ["/ws", "/chat", "/own"][dice.below(3) as usize];
    let target = format!("{place}?channel=wild-{}", dice.below(CHANNELS));
    let mut raw = match dice.below(2) {
        0 => Raw::open(nginx, transport),
        _ => Raw::open_narrow(nginx, transport),
    };
    let mut wire = Request::upgrade(&target).wire();
    if dice.below(4) == 0 {
        wire.extend(any_frame(dice).wire());
    }
    let cut = dice.below(wire.len() as u64 * 8) as usize;
    if raw.try_send(&wire[..cut.min(wire.len())]).is_err() || cut < wire.len() {
        return;
    }
    for _ in 0..dice.below(12) {
        let wire = any_frame(dice).wire();
        let cut = dice.below(wire.len() as u64 * 8) as usize;
        let is_sent = raw.try_send(&wire[..cut.min(wire.len())]);
        if is_sent.is_err() || cut < wire.len() {
            break;
        }
    }
    end(raw, dice);
}

fn any_frame(dice: &mut Dice) -> Frame {
    let size = [0, 1, 125, 126, 4_000, 65_535, 65_536, 70_000][dice.below(8) as usize];
    let payload = vec![b'w'; size];
    match dice.below(12) {
        0 => frames::ping(&payload[..size.min(125)]),
        1 => frames::pong(&payload[..size.min(125)]),
        2 => frames::text(payload).more(),
        3 => frames::cont(payload),
        4 => frames::text([0xff]),
        5 => frames::close(1000, "bye"),
        6 => Frame::new(3 + dice.below(13) as u8, b"?"),
        7 => frames::binary(payload).rsv(4),
        8 => frames::binary(payload),
        _ => frames::text(payload),
    }
}

fn end(mut raw: Raw, dice: &mut Dice) {
    match dice.below(5) {
        0 => raw.reset(),
        1 => drop(raw),
        2 => raw.stream().shut_down_writing(),
        3 => {
            for _ in 0..dice.below(2000) {
                if raw.try_byte().is_none() {
                    return;
                }
            }
        }
        _ => {
            let _ = raw.try_send(frames::close(1000, "").wire());
            while raw.try_byte().is_some() {}
        }
    }
}

fn nginx_with(redis: &Redis, detach: &str) -> Nginx {
    let settings = "websocket_send_queue 300k; websocket_ping_interval 300ms; \
        websocket_timeout 2s; websocket_max_message 66k;";
    let both = "websocket_subscribe $websocket_arg_channel; websocket_publish wild-0;";
    let conf = Conf::push(redis)
        .http(&format!("{settings} websocket_detach {detach};"))
        .location("/chat", both)
        .location(
            "/own",
            "websocket_subscribe $websocket_arg_channel x:$websocket_id; websocket_echo;",
        )
        .location(
            "/calm",
            "websocket_subscribe calm; websocket_echo; websocket_send_queue 64m;",
        )
        .location("/status", "websocket_status;");
    Nginx::start(conf)
}

/// Reads a count that never stops, and its own echoes. It must miss nothing.
fn behave(nginx: &Nginx, redis: &Redis, transport: Transport, is_over: &AtomicBool) {
    let mut client = Client::connect_over(nginx, transport, "/calm");
    let mut publisher = redis.session();
    let own = format!("{transport:?}:");
    let (mut number, mut mine) = (0, 0);
    while !is_over.load(SeqCst) || mine < number {
        if mine == number {
            number += 1;
            publisher.publish("calm", format!("{own} {number}"));
        }
        let heard = client.text();
        if let Some(heard) = heard.strip_prefix(&own) {
            mine += 1;
            assert_eq!(heard, format!(" {mine}"));
        }
    }
    client.send("and at the end");
    while client.text() != "and at the end" {}
}

#[test]
fn wild_clients_harm_nobody_and_leave_nothing() {
    let redis = Redis::start();
    for (seed, detach) in [(1, "auto"), (2, "off")] {
        let nginx = nginx_with(&redis, detach);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (nginx, redis, is_over) = (&nginx, &redis, &is_over);
            for transport in Transport::BOTH {
                scope.spawn(move || behave(nginx, redis, transport, is_over));
            }
            let wild: Vec<_> = (0..6)
                .map(|i| {
                    let mut dice = Dice(seed * 1000 + i);
                    scope.spawn(move || (0..60).for_each(|_| live(nginx, &mut dice)))
                })
                .collect();
            let mut publisher = redis.session();
            for i in 0..400 {
                publisher.publish(
                    format!("wild-{}", i % CHANNELS),
                    vec![b'm'; (i * 97) as usize % 60_000],
                );
            }
            let results: Vec<_> = wild.into_iter().map(|thread| thread.join()).collect();
            is_over.store(true, SeqCst);
            assert!(results.iter().all(Result::is_ok));
        });
        nobody_is_left(&nginx, &redis);
    }
}

fn nobody_is_left(nginx: &Nginx, redis: &Redis) {
    let mut status = serde_json::Value::Null;
    until("nobody is left", || {
        status = nginx.get("/status").json();
        status["connections"] == 0 && status["channels"] == 0 && status["pending"] == 0
    });
    assert_eq!(status["memory"]["logs"], 0, "{status:#}");
    assert_eq!(status["memory"]["partial_messages"], 0, "{status:#}");
    assert_eq!(status["counters"]["panics"], 0, "{status:#}");
    for i in 0..CHANNELS {
        redis.until_subscribers(&format!("wild-{i}"), 0);
    }
}
