//! permessage-deflate (RFC 7692) as agreed with clients: what offers are answered, what is kept of
//! what clients send, and how often a message is compressed.

use serde_json::Value;
use t::{Conf, Frame, Nginx, Raw, Redis, Request, Transport, frames, inflate, until};

/// "Hello" (RFC 7692, 7.2.3.1).
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// "Hello" again, by reference to the message before (7.2.3.2).
const AGAIN: [u8; 5] = [0xf2, 0x00, 0x11, 0x00, 0x00];
/// The reserved bit of a compressed message's first frame (6.1).
const RSV1: u8 = 4;

const COMPRESSING: &str = "websocket_deflate on; websocket_deflate_min_length 0;";

fn nginx(redis: &Redis) -> Nginx {
    let limited = |takeover: &str| {
        format!("websocket_echo; {COMPRESSING} websocket_deflate_takeover {takeover};")
    };
    let conf = Conf::push(redis)
        .location("/echo", &format!("websocket_echo; {COMPRESSING}"))
        .location(
            "/listen",
            &format!("websocket_subscribe foo; {COMPRESSING}"),
        )
        .location("/12", &limited("12"))
        .location("/off", &limited("off"))
        .location("/status", "websocket_status;");
    Nginx::start(conf)
}

/// Connects a client that offers this. Returns it with the answer to its offer.
#[track_caller]
fn offers(nginx: &Nginx, target: &str, offer: &str) -> (Raw, Option<String>) {
    let mut client = Raw::open(nginx, Transport::Ws);
    let request = Request::upgrade(target).header("Sec-WebSocket-Extensions", offer);
    client.send(request.wire());
    let response = client.expect_101();
    let answer = response.header("Sec-WebSocket-Extensions");
    (client, answer.map(str::to_owned))
}

#[track_caller]
fn agreed(nginx: &Nginx, target: &str) -> Raw {
    let (client, answer) = offers(nginx, target, "permessage-deflate");
    assert_eq!(answer.as_deref(), Some("permessage-deflate"));
    client
}

fn compressed(payload: impl AsRef<[u8]>) -> Frame {
    frames::text(payload).rsv(RSV1)
}

fn status(nginx: &Nginx, pointer: &str) -> u64 {
    let status = nginx.get("/status").json();
    let value = status.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{pointer} in {status}"))
}

#[test]
fn an_answer_has_no_parameter_that_was_not_offered() {
    let redis = Redis::start();
    let nginx = nginx(&redis);
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (who, target, offer, answer) in [
        (
            "Firefox, Safari, Netty",
            "/echo",
            "permessage-deflate",
            Some("permessage-deflate"),
        ),
        (
            "Chromium",
            "/echo",
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate"),
        ),
        // This client wants both answered.
        ("gorilla", "/echo", both, Some(both)),
        (
            "a small device",
            "/echo",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (
            "Chromium",
            "/listen",
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate"),
        ),
        (
            "Chromium",
            "/12",
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; client_max_window_bits=12"),
        ),
        (
            "Firefox cannot be limited",
            "/12",
            "permessage-deflate",
            None,
        ),
        ("gorilla needs no limit", "/12", both, Some(both)),
        ("Firefox", "/off", "permessage-deflate", None),
        ("gorilla", "/off", both, Some(both)),
    ] {
        let (_, got) = offers(&nginx, target, offer);
        assert_eq!(got.as_deref(), answer, "{who}: {target}");
    }
}

#[test]
fn a_client_may_refer_to_what_it_sent_before() {
    let redis = Redis::start();
    let nginx = nginx(&redis);
    let mut client = agreed(&nginx, "/echo");
    assert_eq!(status(&nginx, "/memory/contexts"), 0);
    for message in [&HELLO[..], &AGAIN, &AGAIN] {
        client.send_frame(&compressed(message));
        client.expect([frames::text("Hello")]);
    }
    // A client that agreed not to use its context is held to that.
    let offer = "permessage-deflate; client_no_context_takeover";
    let (mut other, _) = offers(&nginx, "/echo", offer);
    other.send_frame(&compressed(HELLO));
    other.expect([frames::text("Hello")]);
    other.send_frame(&compressed(AGAIN));
    other.expect_close(1007);
    client.send_frame(&compressed(AGAIN));
    client.expect([frames::text("Hello")]);
}

#[test]
fn where_messages_go_nowhere_nothing_is_kept_or_inflated() {
    let redis = Redis::start();
    let nginx = nginx(&redis);
    let mut client = agreed(&nginx, "/listen");
    // Nothing is inflated here, so all are accepted: also a reference to nothing, bytes that are
    // not DEFLATE, and text that is not UTF-8.
    for message in [&HELLO[..], &AGAIN, b"\x06", b"\x00\x01\x00\xfe\xff\xff\x00"] {
        client.send_frame(&compressed(message));
    }
    client.send_frame(&frames::ping("still there"));
    client.expect([frames::pong("still there")]);
    assert_eq!(status(&nginx, "/counters/messages_in"), 4);
    assert_eq!(status(&nginx, "/memory/contexts"), 0);
    redis.publish("foo", "hello");
    assert_eq!(client.frame().payload.last(), Some(&b'o'));
    client.send_frame(&frames::ping("").rsv(RSV1));
    client.expect_close(1002);
    let mut client = agreed(&nginx, "/listen");
    client.send_frame(&compressed(vec![0; 80_000]));
    client.expect_close(1009);
}

/// 32 KB in a stored block, that is, not really compressed.
fn a_whole_window() -> Frame {
    let data = vec![0x5a; 32 << 10];
    let length = (data.len() as u16).to_le_bytes();
    let block = [&[0][..], &length, &length.map(|byte| !byte), &data, &[0]];
    frames::binary(block.concat()).rsv(RSV1)
}

#[test]
fn contexts_are_in_the_account_and_beyond_its_half_declined() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .http("websocket_memory 1m;")
        .location("/echo", "websocket_echo; websocket_deflate on;")
        .location("/listen", "websocket_subscribe foo; websocket_deflate on;")
        .location("/status", "websocket_status;");
    let nginx = Nginx::start(conf);
    let mut clients: Vec<Raw> = (0..16).map(|_| agreed(&nginx, "/echo")).collect();
    assert_eq!(status(&nginx, "/memory/contexts"), 0);
    let mut refused = clients.pop().expect("the last");
    for client in &mut clients {
        client.send_frame(&a_whole_window());
        assert_eq!(client.frame().opcode, frames::BINARY);
    }
    let held = status(&nginx, "/memory/contexts");
    assert!((15 * 32 * 1024..512 * 1024).contains(&held), "{held} bytes");
    // One more client finds no memory. It comes back, and is served without compression.
    refused.send_frame(&a_whole_window());
    assert_eq!(refused.frame().opcode, frames::BINARY);
    refused.expect_close(1013);
    nginx.until_log("compression history of clients' messages holds");
    let (mut back, answer) = offers(&nginx, "/echo", "permessage-deflate");
    assert_eq!(answer, None);
    assert_eq!(status(&nginx, "/counters/contexts_declined"), 1);
    back.send_frame(&frames::text("hello"));
    back.expect([frames::text("hello")]);
    // A client that only listens, or that does not refer to its earlier messages, needs no context.
    drop(agreed(&nginx, "/listen"));
    let offer = "permessage-deflate; client_no_context_takeover";
    assert_eq!(offers(&nginx, "/echo", offer).1.as_deref(), Some(offer));
    // The others still have their contexts.
    for client in &mut clients {
        for message in [&HELLO[..], &AGAIN] {
            client.send_frame(&compressed(message));
            client.expect([frames::text("Hello")]);
        }
    }
    drop(clients);
    until("contexts are given back", || {
        status(&nginx, "/memory/contexts") == 0
    });
    drop(agreed(&nginx, "/echo"));
}

#[test]
fn clients_of_seven_windows_make_a_message_be_compressed_twice() {
    const MESSAGES: u64 = 500;
    let redis = Redis::start();
    let nginx = nginx(&redis);
    let asks = |bits: u8| format!("permessage-deflate; server_max_window_bits={bits}");
    // 8 is not supported, but the next offer may be.
    assert_eq!(offers(&nginx, "/listen", &asks(8)).1, None);
    let (_, answer) = offers(&nginx, "/listen", &format!("{}, {}", asks(8), asks(11)));
    assert_eq!(answer, Some(asks(9)));
    let mut clients: Vec<(u8, Raw)> = (9..=15)
        .map(|bits| {
            let (client, answer) = offers(&nginx, "/listen", &asks(bits));
            let served = if bits == 15 { 15 } else { 9 };
            assert_eq!(answer, Some(asks(served)), "{bits}");
            (bits, client)
        })
        .collect();
    let plain = Raw::accepted(&nginx, Transport::Ws, "/listen");
    // The copies are so far apart that a window of 15 bits helps, and one of 9 does not.
    let message = |i: u64| {
        let noise: String = (0..600u64)
            .map(|k| char::from(b'a' + ((k * k * 31 + k * i) % 23) as u8))
            .collect();
        format!("{noise}{noise}")
    };
    let mut publisher = redis.session();
    for i in 0..MESSAGES {
        publisher.publish("foo", message(i));
    }
    for (bits, client) in &mut clients {
        for i in 0..MESSAGES {
            let frame = client.frame();
            assert_eq!(frame.rsv, RSV1);
            assert_eq!(inflate(&frame.payload, *bits), message(i).as_bytes());
        }
    }
    assert_eq!(status(&nginx, "/counters/deflated"), 2 * MESSAGES);
    drop(plain);
}
