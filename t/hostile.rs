//! Promises 3 and 6 against malicious clients, each over ws and wss. The tenth attack uses no more
//! of the worker's memory than the first, other clients of the same worker get every message in
//! order, and the log stays at `info`, with at most one line per connection.

use std::time::{Duration, Instant};
use t::frames::{self, Frame, close, cont, hex, ping, pong, text};
use t::stage::{AT_ONCE, IN_TURN, Stage, many, withstand, withstand_within};
use t::{End, Raw, Request, Transport, process, until};

#[test]
fn one_that_sends_byte_by_byte() {
    withstand("", IN_TURN, |stage, transport| {
        let mut raw = stage.attacker(transport);
        let long = text("x".repeat(300));
        let said = [text("Hel").more(), ping("p"), cont("lo"), long.clone()];
        let wire = said.iter().flat_map(Frame::wire);
        for byte in Request::upgrade("/echo").wire().into_iter().chain(wire) {
            raw.send([byte]);
        }
        raw.expect_101();
        raw.expect([pong("p"), text("Hello"), long]);
        close(1000, "")
            .wire()
            .iter()
            .for_each(|byte| raw.send([*byte]));
        raw.expect_close(1000);
    });
}

#[test]
fn a_hundred_thousand_messages_in_one_write() {
    let messages = many(100_000);
    let letter = |i: usize| [b'a' + (i % 26) as u8];
    let wire: Vec<u8> = (0..messages).flat_map(|i| text(letter(i)).wire()).collect();
    withstand("", IN_TURN, |stage, transport| {
        let mut raw = stage.accepted(transport, "/echo");
        let mut heard = raw.send_and_hear(&wire);
        while heard.len() < messages {
            heard.push(raw.frame());
        }
        let is_echo = |(i, frame): (usize, &Frame)| *frame == text(letter(i));
        assert!(heard.iter().enumerate().all(is_echo));
    });
}

#[test]
fn ten_thousand_messages_to_publish_in_one_write() {
    let messages = many(10_000);
    let wire: Vec<u8> = (0..messages)
        .flat_map(|i| text(i.to_string()).wire())
        .collect();
    withstand("", IN_TURN, |stage, transport| {
        let mut listener = stage.redis.session();
        listener.subscribe("said");
        stage.accepted(transport, "/say").send(&wire);
        for i in 0..messages {
            assert_eq!(listener.push().1, i.to_string());
        }
    });
}

/// A message of 100 KB can leave that much unused heap when a smaller allocation lies above it.
/// This happens once, in any one of the attacks. Ten times would be more than this.
const ONE_MESSAGE: u64 = 256 * 1024;

#[test]
fn a_hundred_thousand_fragments_in_one_write() {
    let fragments = many(100_000);
    let message = |fragment: &str| {
        let between = cont(fragment).more().wire().repeat(fragments);
        [text("<").more().wire(), between, cont(">").wire()].concat()
    };
    let (empty, filled) = (message(""), message("x"));
    withstand_within(
        ONE_MESSAGE,
        "websocket_max_message 128k;",
        IN_TURN,
        |stage, transport| {
            let mut raw = stage.accepted(transport, "/echo");
            raw.send(&empty);
            raw.expect([text("<>")]);
            raw.send(&filled);
            raw.expect([text(format!("<{}>", "x".repeat(fragments)))]);
        },
    );
}

/// The client is answered as far as its socket accepts, and is then no longer read. When it reads
/// on, it gets the pongs in order, the last of them for its last ping.
#[test]
fn a_flood_of_pings_by_one_that_does_not_read() {
    const LONGEST: usize = 125;
    let numbered = |number: usize| format!("{number:0>LONGEST$}");
    let wire: Vec<u8> = (0..64_000).flat_map(|n| ping(numbered(n)).wire()).collect();
    let frame = ping(numbered(0)).wire().len();
    withstand("websocket_notsent 16k;", AT_ONCE, |stage, transport| {
        let mut raw = stage.narrow(transport, "/ws?channel=unheard");
        let mut sent = 0;
        loop {
            match raw.offer(&wire[sent..], Duration::from_millis(50)) {
                0 => break,
                taken => sent += taken,
            }
            assert!(sent < wire.len(), "{sent} bytes of pings were taken");
        }
        let status = stage.nginx.get("/status").json();
        let own = status["memory"]["partial_messages"].as_u64().unwrap();
        assert!(own <= 128 * 1024, "{own} bytes of pongs wait");
        assert!(kernel_bytes(stage, &raw, transport) < 1024 * 1024);
        let last = sent / frame - 1;
        let mut heard: Option<usize> = None;
        while heard != Some(last) {
            let frame = raw.frame();
            let number = frame.text().parse().expect("a number");
            assert_eq!(frame, pong(numbered(number)));
            assert!(heard < Some(number), "{number} after {heard:?}");
            heard = Some(number);
        }
    });
}

/// What the kernel holds for a client that does not read. Zero once its connection has ended.
fn kernel_bytes(stage: &Stage, raw: &Raw, transport: Transport) -> u64 {
    let server = match transport {
        Transport::Ws => stage.nginx.http(),
        Transport::Wss => stage.nginx.https(),
    };
    let client = raw.stream().socket().local_addr().expect("an address");
    process::send_queue_bytes(server.port(), client.port()).unwrap_or(0)
}

#[test]
fn resets_anywhere_in_a_frame() {
    let message = text("x".repeat(300));
    let frames = [
        message.wire(),
        text("begun").more().wire(),
        ping("between").wire(),
        cont("").wire(),
        frames::binary(vec![7; 70_000]).wire(),
    ];
    let wire = frames.concat();
    let cuts = [
        0, 1, 3, 5, 9, 200, 308, 309, 315, 319, 325, 339, 341, 350, 60_000,
    ];
    withstand(
        "websocket_max_message 128k;",
        IN_TURN,
        |stage, transport| {
            for cut in cuts {
                let mut raw = stage.accepted(transport, "/echo");
                raw.send(&wire[..cut]);
                raw.reset();
                let mut raw = stage.attacker(transport);
                let handshake = Request::upgrade("/echo").wire();
                raw.send(&handshake[..cut.min(handshake.len())]);
                raw.reset();
            }
        },
    );
}

/// Empty buffers that the worker keeps for the next client that lags (`SPARE_BYTES` in
/// `crates/fanout/src/log.rs`). How many it needed depends on how much it read from Redis at once.
const SPARE: u64 = 4 << 20;

#[test]
fn one_that_never_reads() {
    let limits = "websocket_send_queue 256k; websocket_notsent 16k;";
    withstand_within(SPARE, limits, AT_ONCE, |stage, transport| {
        let mut stuck = stage.narrow(transport, "/ws?channel=flood");
        let message = vec![b'x'; 100_000];
        stage
            .redis
            .session()
            .publish_all(&[("flood", &message); 50]);
        assert!(kernel_bytes(stage, &stuck, transport) < 1024 * 1024);
        stage.until_only(2);
        // Whole frames, then the Close, or the end inside a frame: the client had its time.
        while let Ok(frame) = stuck.receive() {
            assert!(frame.payload.len() == 100_000 || frame.close_code() == Some(1008));
        }
    });
}

#[test]
fn ten_mebibytes_after_its_own_close() {
    let upload = frames::binary(vec![0; 10 << 20]).wire();
    withstand("", IN_TURN, |stage, transport| {
        let mut raw = stage.accepted(transport, "/echo");
        raw.send_frame(&close(1000, "bye"));
        // The server reads all of it: a reset would lose the Close.
        raw.send(&upload);
        raw.expect_close(1000);
    });
}

#[test]
fn a_message_without_end() {
    let fragment = cont("x".repeat(1000)).more().wire();
    withstand("", IN_TURN, |stage, transport| {
        let mut raw = stage.accepted(transport, "/echo");
        raw.send_frame(&text("begun").more());
        raw.send(fragment.repeat(1000));
        raw.expect_close(1009);
    });
}

/// A client that only a timeout ends: what it sends first, what it keeps sending, and the close
/// code it gets. Masks are zero.
const PATIENT: &[(&str, &str, &str, u16)] = &[
    ("answers no ping", "", "", 1001),
    ("never ends its frame", "81 fe 8000 00000000", "61", 1008),
    (
        "never ends its message, and is alive",
        "01 85 00000000 626567756e",
        "00 81 00000000 78",
        1008,
    ),
    ("is told to go and stays", "83 80 00000000", "61", 1002),
    ("says Close and stays", "88 82 00000000 03e8", "61", 1000),
];

#[test]
fn those_that_only_time_ends() {
    let liveness = "websocket_ping_interval 200ms; websocket_timeout 700ms;";
    withstand(liveness, AT_ONCE, |stage, transport| {
        let mut attackers: Vec<_> = PATIENT
            .iter()
            .map(|(what, first, on, code)| {
                let mut raw = stage.accepted(transport, "/echo");
                raw.send(hex(first));
                (raw, what, hex(on), *code)
            })
            .collect();
        let begun = Instant::now();
        // All of them keep their connections.
        until("none of them is left", || {
            for (raw, _, on, _) in &mut attackers {
                // This fails once its connection has ended.
                let _ = raw.try_send(on);
            }
            std::thread::sleep(Duration::from_millis(50));
            stage.nginx.get("/status").json()["connections"] == 2
        });
        // The timeout, and two seconds twice for closing. The rest is for a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(15));
        for (raw, what, _, code) in &mut attackers {
            println!("{what} over {transport:?}");
            raw.expect_close_frame(*code);
            // A client that keeps sending is reset in the end, after its Close.
            assert!(matches!(raw.end(), End::Clean | End::Reset));
        }
    });
}

const KIB: usize = 1024;

/// Part of a handshake of nginx's largest size (`large_client_header_buffers 4 8k`), and the status
/// it gets.
fn large_handshakes() -> Vec<(&'static str, Request, u16)> {
    let right = || Request::upgrade("/echo");
    let list = |item: &str, bytes: usize| item.repeat(bytes / item.len()) + "end";
    let cookies = |lines: usize, bytes: usize| {
        (0..lines).fold(right(), |request, _| {
            request.header("Cookie", &"c".repeat(bytes))
        })
    };
    let (extensions, names) = ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol");
    let offers = list("permessage-deflate; client_max_window_bits=10, ", 7 * KIB);
    let origin = |bytes| format!("http://{}", "o".repeat(bytes));
    let target = |bytes| Request::upgrade(&format!("/ws?channel={}", "n".repeat(bytes)));
    vec![
        ("one line below 8k", cookies(1, 8 * KIB - 20), 101),
        ("one line above 8k", cookies(1, 8 * KIB + 20), 400),
        ("three lines below 8k", cookies(3, 8 * KIB - 20), 101),
        ("lines of 40k in all", cookies(5, 8 * KIB - 20), 400),
        ("nine hundred short lines", cookies(900, 1), 101),
        ("ten thousand short lines", cookies(10_000, 1), 400),
        (
            "offers of extensions",
            right().header(extensions, &offers),
            101,
        ),
        (
            "what is no extension",
            right().header(extensions, &list(";=,\"", 7 * KIB)),
            400,
        ),
        (
            "many subprotocols",
            right().header(names, &list("a, ", 7 * KIB)),
            101,
        ),
        (
            "many tokens of Connection",
            right().with("Connection", &(list("x, ", 7 * KIB) + ", upgrade")),
            101,
        ),
        (
            "a long Origin",
            right().header("Origin", &origin(7 * KIB)),
            403,
        ),
        ("a long channel", target(7 * KIB), 400),
        ("a target above 8k", target(8 * KIB + 20), 414),
    ]
}

#[test]
fn handshakes_of_the_largest_size() {
    let handshakes = large_handshakes();
    let settings = "websocket_deflate on; websocket_subprotocol chat end;";
    withstand(settings, IN_TURN, |stage, transport| {
        for (what, request, status) in &handshakes {
            let mut raw = stage.attacker(transport);
            // nginx reads no more than fits its buffers.
            let _ = raw.try_send(request.wire());
            assert_eq!(raw.response().status, *status, "{what}");
        }
    });
}
