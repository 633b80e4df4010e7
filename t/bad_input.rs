//! Promise 6: bad input gets the close code that the RFC names, the client really receives it, the
//! log has one line at `info`, and nothing else happens.

use std::time::Duration;
use t::frames::{self, close, close_empty, cont, hex, ping, pong, text};
use t::{Client, Conf, End, Nginx, Raw, Redis, Request, Transport, process, until};

fn echo(redis: &Redis) -> Nginx {
    let limits = "websocket_max_message 64k; websocket_max_frame 64k;";
    let conf = Conf::with(redis)
        .http(limits)
        .location("/echo", "websocket_echo;");
    Nginx::start(conf.location("/ws", "websocket_subscribe $websocket_arg_channel;"))
}

/// RFC 6455's section, what the client sends, and the code it must get. Masks are zero unless
/// stated.
const MISDEEDS: &[(&str, &str, u16)] = &[
    ("5.1 not masked", "81 02 6869", 1002),
    ("5.2 RSV1 without an extension", "c1 80 00000000", 1002),
    ("5.2 RSV2", "a1 80 00000000", 1002),
    ("5.2 RSV3", "91 80 00000000", 1002),
    ("5.2 reserved opcode 3", "83 80 00000000", 1002),
    ("5.2 reserved opcode 7", "87 80 00000000", 1002),
    ("5.2 reserved opcode 11", "8b 80 00000000", 1002),
    ("5.2 reserved opcode 15", "8f 80 00000000", 1002),
    (
        "5.2 highest bit of a 64-bit length",
        "82 ff 8000000000000000 00000000",
        1002,
    ),
    ("5.4 a continuation of nothing", "80 81 00000000 61", 1002),
    (
        "5.4 a continuation of nothing, not final",
        "00 81 00000000 61",
        1002,
    ),
    (
        "5.4 text inside a message",
        "01 81 00000000 61 81 81 00000000 62",
        1002,
    ),
    (
        "5.4 binary inside a message",
        "02 81 00000000 61 82 81 00000000 62",
        1002,
    ),
    ("5.5 a fragmented Ping", "09 80 00000000", 1002),
    ("5.5 a fragmented Close", "08 82 00000000 03e8", 1002),
    ("5.5 a Ping of 126 bytes", "89 fe 007e 00000000", 1002),
    ("5.5.1 a Close of one byte", "88 81 00000000 03", 1002),
    ("7.4.1 code 999", "88 82 00000000 03e7", 1002),
    ("7.4.1 code 1004", "88 82 00000000 03ec", 1002),
    ("7.4.1 code 1005", "88 82 00000000 03ed", 1002),
    ("7.4.1 code 1006", "88 82 00000000 03ee", 1002),
    ("7.4.1 code 1015", "88 82 00000000 03f7", 1002),
    ("7.4.2 code 1016", "88 82 00000000 03f8", 1002),
    ("7.4.2 code 2999", "88 82 00000000 0bb7", 1002),
    ("7.4.2 code 5000", "88 82 00000000 1388", 1002),
    ("8.1 a lone continuation byte", "81 81 00000000 80", 1007),
    (
        "8.1 a code point cut by the message's end",
        "81 81 00000000 c3",
        1007,
    ),
    ("8.1 an overlong form", "81 82 00000000 c0af", 1007),
    ("8.1 a surrogate", "81 83 00000000 eda080", 1007),
    ("8.1 beyond U+10FFFF", "81 84 00000000 f4908080", 1007),
    (
        "8.1 bad in the second fragment",
        "01 81 00000000 61 80 81 00000000 ff",
        1007,
    ),
    (
        "8.1 cut by a fragment, then wrong",
        "01 81 00000000 c3 80 81 00000000 28",
        1007,
    ),
    (
        "8.1 bad before the frame's end",
        "81 8a 00000000 61ff",
        1007,
    ),
    ("8.1 a Close's reason", "88 83 00000000 03e8ff", 1007),
    (
        "10.4 a frame announced too big",
        "82 ff 0000000000010001 00000000",
        1009,
    ),
    ("10.4 far too big", "82 ff 7fffffffffffffff 00000000", 1009),
    (
        "10.4 too big by fragments",
        "02 fe c000 00000000 FILL80 fe c000 00000000",
        1009,
    ),
];

fn bytes_of(digits: &str) -> Vec<u8> {
    match digits.split_once("FILL") {
        Some((before, after)) => [hex(before), vec![0; 0xc000], hex(after)].concat(),
        None => hex(digits),
    }
}

#[test]
fn each_misdeed_gets_its_code() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for transport in Transport::BOTH {
        for (section, digits, code) in MISDEEDS {
            let mut raw = Raw::accepted(&nginx, transport, "/echo");
            println!("{section} over {transport:?}");
            raw.send(bytes_of(digits));
            raw.expect_close(*code);
        }
    }
}

#[test]
fn each_misdeed_gets_its_code_byte_by_byte() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for (section, digits, code) in MISDEEDS.iter().filter(|case| !case.1.contains("FILL")) {
        let mut raw = Raw::accepted(&nginx, Transport::Ws, "/echo");
        println!("{section}");
        for byte in hex(digits) {
            // The first bad byte may have ended the connection.
            if raw.try_send([byte]).is_err() {
                break;
            }
        }
        raw.expect_close(*code);
    }
}

#[test]
fn a_misdeed_in_the_packet_of_the_handshake_gets_its_code() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for transport in Transport::BOTH {
        for (section, digits, code) in MISDEEDS {
            let mut raw = Raw::open(&nginx, transport);
            println!("{section} over {transport:?}");
            raw.send([Request::upgrade("/echo").wire(), bytes_of(digits)].concat());
            raw.expect_101();
            raw.expect_close(*code);
        }
    }
}

#[test]
fn one_line_at_info_tells_it() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    let mut raw = Raw::accepted(&nginx, Transport::Ws, "/echo");
    let lines_before = lines_about_clients(&nginx);
    raw.send(hex("83 80 00000000"));
    raw.expect_close(1002);
    drop(raw);
    until("it is told", || lines_about_clients(&nginx) > lines_before);
    assert_eq!(
        lines_about_clients(&nginx),
        lines_before + 1,
        "{}",
        nginx.log()
    );
    assert_eq!(nginx.count_log("[error]"), 0);
}

fn lines_about_clients(nginx: &Nginx) -> usize {
    nginx
        .log()
        .lines()
        .filter(|l| l.contains("[info]") && l.contains("client: 127.0.0.1"))
        .count()
}

#[test]
fn the_rfc_is_kept_where_input_is_good() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for transport in Transport::BOTH {
        let mut peer = Raw::accepted(&nginx, transport, "/echo");
        peer.send_frame(&text("Hel").more());
        peer.send_frame(&ping("between fragments"));
        peer.send_frame(&cont("lo").more());
        peer.send_frame(&pong("unasked"));
        peer.send_frame(&cont(""));
        peer.expect([pong("between fragments"), text("Hello")]);
        for message in ["", "\u{fffd}\u{10ffff}", &"é".repeat(32_768)] {
            peer.send_frame(&text(message));
            peer.expect([text(message)]);
        }
        for size in [0, 1, 125, 126, 127, 65_535, 65_536] {
            peer.send_frame(&frames::binary(vec![0xff; size]));
            peer.expect([frames::binary(vec![0xff; size])]);
        }
        // A code point that is split between fragments.
        peer.send_frame(&text(hex("e282")).more());
        peer.send_frame(&cont(hex("ac")));
        peer.expect([text("€")]);
    }
}

#[test]
fn a_close_is_answered_with_its_code_and_the_server_ends_first() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for transport in Transport::BOTH {
        for said in [
            close(1000, "bye"),
            close(1001, ""),
            close(3000, "x"),
            close(4999, "y"),
        ] {
            let mut peer = Raw::accepted(&nginx, transport, "/echo");
            peer.send_frame(&said);
            peer.expect_close(said.close_code().unwrap());
        }
        let mut peer = Raw::accepted(&nginx, transport, "/echo");
        peer.send_frame(&close_empty());
        let answer = peer.frame();
        assert!(
            answer.opcode == frames::CLOSE && [None, Some(1000)].contains(&answer.close_code())
        );
        assert_eq!(peer.end(), End::Clean);
    }
}

#[test]
fn nothing_follows_a_close() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    let mut peer = Raw::accepted(&nginx, Transport::Ws, "/echo");
    let late = [
        close(1000, "").wire(),
        text("late").wire(),
        ping("late").wire(),
    ]
    .concat();
    peer.send(late);
    peer.expect_close(1000);
}

/// FACTS: with unread input at the end of the connection, the Close was lost 20 of 20 times.
#[test]
fn an_uploader_of_ten_mebibytes_sees_its_1009() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    let upload = frames::binary(vec![0; 10 << 20]).wire();
    for transport in Transport::BOTH {
        for _ in 0..10 {
            let mut peer = Raw::accepted(&nginx, transport, "/echo");
            // The server takes all of it: it goes on reading after its Close.
            peer.send(&upload);
            peer.expect_close(1009);
        }
    }
}

#[test]
fn an_uploader_in_small_fragments_sees_its_1009() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for transport in Transport::BOTH {
        let mut peer = Raw::accepted(&nginx, transport, "/echo");
        let first = text("x").more().wire();
        peer.send([first, cont("x").more().wire().repeat(65_536)].concat());
        peer.expect_close(1009);
    }
}

#[test]
fn a_client_that_goes_without_a_word_is_forgotten() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    for transport in Transport::BOTH {
        Raw::accepted(&nginx, transport, "/ws?channel=reset").reset();
        drop(Raw::accepted(&nginx, transport, "/ws?channel=fin"));
        let mut half_closed = Raw::accepted(&nginx, transport, "/ws?channel=half");
        half_closed.stream().shut_down_writing();
        while half_closed.receive().is_ok() {}
        let mut in_a_frame = Raw::accepted(&nginx, transport, "/ws?channel=mid");
        in_a_frame.send(hex("81 85 00000000 61"));
        in_a_frame.stream().shut_down_writing();
        while in_a_frame.receive().is_ok() {}
        for channel in ["reset", "fin", "half", "mid"] {
            redis.until_subscribers(channel, 0);
        }
    }
}

#[test]
fn what_a_half_closed_client_had_said_is_heard() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    let mut peer = Raw::accepted(&nginx, Transport::Ws, "/echo");
    peer.send_frame(&text("my last words"));
    peer.send_frame(&close(1000, ""));
    peer.stream().shut_down_writing();
    peer.expect([text("my last words")]);
    peer.expect_close_frame(1000);
}

#[test]
fn attacks_leave_the_memory_as_it_was() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    let mut bystander = Client::connect(&nginx, "/ws?channel=foo");
    let mut sizes = Vec::new();
    for _ in 0..10 {
        for _ in 0..5 {
            attack(&nginx);
        }
        until("the attackers are gone", || {
            process::descriptors(nginx.worker()) < 30
        });
        sizes.push(process::resident_bytes(nginx.worker()));
    }
    redis.publish("foo", "unharmed");
    bystander.expect(["unharmed"]);
    if t::settings::flavor() != t::settings::Flavor::Asan {
        assert!(
            sizes[9] < sizes[1] + (2 << 20),
            "after each of ten: {sizes:?}"
        );
    }
}

fn attack(nginx: &Nginx) {
    for (_, digits, _) in MISDEEDS {
        let mut raw = Raw::accepted(nginx, Transport::Ws, "/echo");
        let _ = raw.try_send(bytes_of(digits));
        raw.reset();
    }
    let mut raw = Raw::accepted(nginx, Transport::Wss, "/echo");
    let _ = raw.try_send(text("x").more().wire());
    let _ = raw.try_send(cont("y").more().wire().repeat(1000));
    raw.reset();
    let mut uploader = Raw::accepted(nginx, Transport::Ws, "/echo");
    let _ = uploader.try_send(frames::binary(vec![0; 1 << 20]).wire());
    uploader.reset();
}

#[test]
fn a_client_may_not_talk_where_nothing_is_done_with_it_but_is_read() {
    let redis = Redis::start();
    let nginx = echo(&redis);
    let mut peer = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    // Nothing is echoed or published there, but a Ping is still answered.
    for _ in 0..100 {
        peer.send_frame(&text("into the void"));
    }
    peer.send_frame(&ping("alive"));
    peer.expect([pong("alive")]);
    peer.quiet(Duration::from_millis(100));
}
