//! With permessage-deflate, what cannot be compressed costs nobody anything: messages of noise
//! arrive unchanged, at each level, and so do other clients' messages after them.

use t::{Conf, Deflated, Nginx, Redis};

/// Each level, with the window in bits that a client asks for: it gets the largest or the smallest.
const COMPRESSORS: [(u8, u8); 12] = [
    (1, 15),
    (1, 9),
    (2, 10),
    (3, 15),
    (3, 11),
    (4, 12),
    (5, 13),
    (6, 9),
    (6, 15),
    (7, 14),
    (8, 10),
    (9, 15),
];

fn nginx(redis: &Redis) -> Nginx {
    let mut conf = Conf::with(redis).location("/status", "websocket_status;");
    for level in 1..=9 {
        let deflate = format!("websocket_deflate on; websocket_deflate_level {level};");
        let echo = format!("{deflate} websocket_echo; websocket_max_message 256k;");
        let subscribe = format!("{deflate} websocket_subscribe foo;");
        conf = conf
            .location(&format!("/push{level}"), &subscribe)
            .location(&format!("/echo{level}"), &echo);
    }
    Nginx::start(conf)
}

/// Pseudo-random bytes, no two messages the same.
struct Source(u64);

impl Source {
    fn byte(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 56) as u8
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn hex(&mut self, len: usize) -> Vec<u8> {
        let digit = |byte| b"0123456789abcdef"[usize::from(byte & 15)];
        (0..len).map(|_| digit(self.byte())).collect()
    }

    fn letters(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| b'a' + self.byte() % 26).collect()
    }

    fn mixed(&mut self, len: usize) -> Vec<u8> {
        let mut message = vec![b'x'; len / 3];
        message.extend(self.noise(len / 3));
        message.extend(self.letters(len - message.len()));
        message
    }
}

/// Runs of messages that once broke the compressor, and then all kinds at sizes around its block
/// sizes. Each batch is less than a client may lag.
fn batches() -> Vec<Vec<Vec<u8>>> {
    let mut source = Source(1);
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    for _ in 0..3 {
        batches.push((0..250).map(|_| source.noise(900)).collect());
        batches.push((0..250).map(|_| source.hex(900)).collect());
        batches.push((0..200).map(|n| source.letters(300 + n)).collect());
        batches.push((0..200).map(|n| source.mixed(300 + 3 * n)).collect());
    }
    // 131,000 bytes of noise left a block open at level 1.
    for border in [512, 4096, 16_384, 32_768, 65_536, 131_000] {
        for len in [border - 5, border, border + 3] {
            batches.push(vec![
                source.noise(len),
                source.letters(700),
                source.hex(len),
                source.mixed(len),
            ]);
        }
    }
    batches
}

#[test]
fn published_noise_arrives_as_it_was_at_each_level() {
    let redis = Redis::start();
    let nginx = nginx(&redis);
    let worker = nginx.worker();
    let connect = |(level, bits)| Deflated::connect(&nginx, &format!("/push{level}"), bits);
    let mut clients = COMPRESSORS.map(connect);
    let mut publisher = redis.session();
    for batch in batches() {
        let messages: Vec<_> = batch.iter().map(|message| ("foo", message)).collect();
        publisher.publish_all(&messages);
        for client in &mut clients {
            for message in &batch {
                assert!(client.message() == *message, "{} bytes", message.len());
            }
        }
    }
    assert_eq!(nginx.worker(), worker);
    nothing_was_lost(&nginx);
}

#[test]
fn an_echo_clients_noise_breaks_nobodys_echo() {
    let redis = Redis::start();
    let nginx = nginx(&redis);
    let worker = nginx.worker();
    let mut source = Source(7);
    let batches = batches();
    for (level, bits) in COMPRESSORS {
        let echo = format!("/echo{level}");
        let mut noisy = Deflated::connect(&nginx, &echo, bits);
        let mut other = Deflated::connect(&nginx, &echo, bits);
        for batch in batches.iter().step_by(2) {
            for message in batch {
                noisy.send(message);
                assert!(noisy.message() == *message, "{} bytes", message.len());
            }
            for message in [source.mixed(1000), source.letters(600)] {
                other.send(&message);
                assert!(other.message() == message, "another's, level {level}");
            }
        }
    }
    assert_eq!(nginx.worker(), worker);
    nothing_was_lost(&nginx);
}

fn nothing_was_lost(nginx: &Nginx) {
    let counters = nginx.get("/status").json()["counters"].clone();
    for counter in [
        "unframed",
        "panics",
        "protocol_errors",
        "slow_closed",
        "skipped",
    ] {
        assert_eq!(counters[counter], 0, "{counter}");
    }
}
