//! RFC 6455's rules for what a client sends: section, bytes (mostly under a mask of zeros), answer.

use proto::websocket::close::{self, CloseCode, CloseReceived};
use proto::websocket::connection::{Limits, Misbehaved};
use proto::websocket::frame::{self, ControlFrame, Header, Opcode};

use crate::support::{ROOMY, hex, run};
use crate::twin::{Ending, Said};

const SMALL: Limits = Limits {
    max_message: 8,
    max_frame: 6,
};

#[test]
fn misdeeds_get_the_codes_that_the_rfc_names() {
    let mut failures = Vec::new();
    for (rule, bytes, code) in [
        ("5.1 unmasked text", "81 00", 1002),
        ("5.1 unmasked ping", "89 00", 1002),
        ("5.2 RSV1 without extension", "c1 80 00000000", 1002),
        ("5.2 RSV1 on control", "c9 80 00000000", 1002),
        ("5.2 RSV2", "a1", 1002),
        ("5.2 RSV3", "91", 1002),
        ("5.2 reserved opcode 3", "83", 1002),
        ("5.2 reserved opcode 4", "84", 1002),
        ("5.2 reserved opcode 7", "87 80 00000000", 1002),
        ("5.2 reserved opcode 11", "8b", 1002),
        ("5.2 reserved opcode 15", "8f", 1002),
        ("5.2 16-bit length not minimal", "82 fe 007d", 1002),
        (
            "5.2 64-bit length not minimal",
            "82 ff 000000000000ffff",
            1002,
        ),
        (
            "5.2 64-bit length with the highest bit",
            "82 ff 8000000000000000",
            1002,
        ),
        ("5.4 lone continuation", "80 80 00000000", 1002),
        (
            "5.4 continuation after a whole message",
            "81 80 00000000 80 80 00000000",
            1002,
        ),
        (
            "5.4 text within text",
            "01 80 00000000 81 80 00000000",
            1002,
        ),
        (
            "5.4 binary within text",
            "01 80 00000000 02 80 00000000",
            1002,
        ),
        ("5.5 fragmented ping", "09", 1002),
        ("5.5 fragmented pong", "0a", 1002),
        ("5.5 fragmented close", "08", 1002),
        ("5.5 ping of 126 bytes", "89 fe", 1002),
        ("5.5 close with 64-bit length", "88 ff", 1002),
        ("5.5.1 close of one byte", "88 81 00000000 03", 1002),
        (
            "5.5.1 reason that is not UTF-8",
            "88 83 00000000 03e8 ff",
            1007,
        ),
        (
            "5.5.1 reason with a cut code point",
            "88 83 00000000 03e8 c3",
            1007,
        ),
        ("7.4.2 code 0", "88 82 00000000 0000", 1002),
        ("7.4.2 code 999", "88 82 00000000 03e7", 1002),
        ("7.4.1 code 1004", "88 82 00000000 03ec", 1002),
        ("7.4.1 code 1005", "88 82 00000000 03ed", 1002),
        ("7.4.1 code 1006", "88 82 00000000 03ee", 1002),
        ("7.4.1 code 1015", "88 82 00000000 03f7", 1002),
        ("7.4.2 code 1016", "88 82 00000000 03f8", 1002),
        ("7.4.2 code 2999", "88 82 00000000 0bb7", 1002),
        ("7.4.2 code 5000", "88 82 00000000 1388", 1002),
        ("7.4.2 code 65535", "88 82 00000000 ffff", 1002),
        ("8.1 cut code point", "81 81 00000000 c3", 1007),
        (
            "8.1 code point cut at the message's end",
            "01 81 00000000 c3 80 80 00000000",
            1007,
        ),
        (
            "8.1 first bad byte of a frame that goes on",
            "81 ff 0000000000010000 00000000 ff",
            1007,
        ),
        (
            "8.1 code point that can't end well",
            "81 8a 00000000 eda0",
            1007,
        ),
        (
            "8.1 bad in the second fragment",
            "01 81 00000000 c3 00 85 00000000 41",
            1007,
        ),
        ("8.1 overlong", "81 82 00000000 c080", 1007),
        ("8.1 surrogate", "81 83 00000000 eda080", 1007),
        ("8.1 beyond U+10FFFF", "81 84 00000000 f4908080", 1007),
    ] {
        let (said, ending) = run(ROOMY, [&hex(bytes)[..]]);
        if ending != Ending::Misbehaved(code) {
            failures.push(format!("{rule}: {bytes}: {said:?} {ending:?}, not {code}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn what_the_rfc_allows_is_taken() {
    let mut failures = Vec::new();
    for (rule, bytes, want) in [
        (
            "5.7 Hello",
            "81 85 37fa213d 7f9f4d5158",
            Said::Text(b"Hello".to_vec()),
        ),
        (
            "5.7 ping",
            "89 85 37fa213d 7f9f4d5158",
            Said::Ping(b"Hello".to_vec()),
        ),
        ("5.5.3 unasked pong", "8a 80 00000000", Said::Pong(vec![])),
        ("5.6 empty text", "81 80 00000000", Said::Text(vec![])),
        ("5.6 empty binary", "82 80 00000000", Said::Binary(vec![])),
        (
            "5.4 fragments of no bytes",
            "01 80 00000000 00 80 00000000 80 80 00000000",
            Said::Text(vec![]),
        ),
        (
            "5.4 code point over two fragments",
            "01 81 00000000 c3 80 81 00000000 a9",
            Said::Text("é".into()),
        ),
        (
            "5.6 binary is any bytes",
            "82 82 00000000 ffc0",
            Said::Binary(vec![0xff, 0xc0]),
        ),
        (
            "8.1 U+10FFFF",
            "81 84 00000000 f48fbfbf",
            Said::Text("\u{10ffff}".into()),
        ),
        (
            "5.5.1 close without body",
            "88 80 00000000",
            Said::Close(None),
        ),
        (
            "5.5.1 close with reason",
            "88 84 00000000 03e8 6f6b",
            Said::Close(Some(1000)),
        ),
        (
            "7.4.2 code 1003",
            "88 82 00000000 03eb",
            Said::Close(Some(1003)),
        ),
        (
            "7.4.2 code 1014",
            "88 82 00000000 03f6",
            Said::Close(Some(1014)),
        ),
        (
            "7.4.2 code 3000",
            "88 82 00000000 0bb8",
            Said::Close(Some(3000)),
        ),
        (
            "7.4.2 code 4999",
            "88 82 00000000 1387",
            Said::Close(Some(4999)),
        ),
    ] {
        let (said, ending) = run(ROOMY, [&hex(bytes)[..]]);
        if said != [want.clone()] || matches!(ending, Ending::Misbehaved(_)) {
            failures.push(format!(
                "{rule}: {bytes}: {said:?} {ending:?}, not {want:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_header_that_announces_too_much_is_1009_before_its_payload() {
    for (rule, bytes, ending) in [
        ("frame at the limit", "82 86 00000000", Ending::Midway),
        (
            "frame beyond it",
            "82 87 00000000",
            Ending::Misbehaved(1009),
        ),
        (
            "message at the limit",
            "02 86 00000000 000000000000 80 82 00000000",
            Ending::Midway,
        ),
        (
            "message beyond it",
            "02 86 00000000 000000000000 80 83 00000000",
            Ending::Misbehaved(1009),
        ),
        (
            "largest length",
            "82 ff 7fffffffffffffff 00000000",
            Ending::Misbehaved(1009),
        ),
        (
            "control frames have their own limit",
            "89 87 00000000",
            Ending::Midway,
        ),
    ] {
        assert_eq!(run(SMALL, [&hex(bytes)[..]]).1, ending, "{rule}");
    }
    let endless = Limits {
        max_message: u64::MAX,
        max_frame: u64::MAX,
    };
    let announced = hex("02 81 00000000 00 80 ff 7fffffffffffffff 00000000 00");
    assert_eq!(run(endless, [&announced[..]]).1, Ending::Midway);
}

#[test]
fn misdeeds_are_told_in_nginxs_tone() {
    for (misdeed, line) in [
        (Misbehaved::Unmasked, "client sent unmasked frame"),
        (
            Misbehaved::ReservedOpcode(3),
            "client sent frame with reserved opcode 3",
        ),
        (
            Misbehaved::BadCloseCode(1005),
            "client sent invalid close code 1005",
        ),
        (
            Misbehaved::MessageTooBig { announced: 70000 },
            "client intended to send too large message: 70000 bytes",
        ),
    ] {
        assert_eq!(misdeed.to_string(), line);
    }
}

#[test]
fn codes_that_must_not_be_sent_cannot_be_built() {
    for code in (0..1000)
        .chain([1004, 1005, 1006])
        .chain(1015..3000)
        .chain(5000..=u16::MAX)
    {
        assert_eq!(CloseCode::new(code), None, "{code}");
    }
    for code in (1000..=1003).chain(1007..=1014).chain(3000..=4999) {
        assert_eq!(CloseCode::new(code).map(CloseCode::get), Some(code));
    }
}

#[test]
fn close_frames_carry_code_and_as_much_reason_as_fits() {
    assert_eq!(&close::frame(CloseCode::NORMAL, "")[..], hex("88 02 03e8"));
    assert_eq!(
        &close::frame(CloseCode::SERVICE_RESTART, "ok")[..],
        hex("88 04 03f4 6f6b")
    );
    let longest = close::frame(CloseCode::NORMAL, &"x".repeat(200));
    assert_eq!((longest.len(), longest[1]), (127, 125));
    // 61 code points of two bytes are 122 bytes; half of the next would fit.
    let even = close::frame(CloseCode::NORMAL, &"é".repeat(100));
    assert_eq!(std::str::from_utf8(&even[4..]), Ok(&*"é".repeat(61)));
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    let reply = |body: &[u8]| CloseReceived::parse(body).unwrap().reply();
    assert_eq!(&reply(&hex("03e9 627965"))[..], hex("88 02 03e9"));
    assert_eq!(&reply(&[])[..], hex("88 00"));
}

#[test]
fn a_pong_repeats_the_ping() {
    assert_eq!(&ControlFrame::pong(b"Hello")[..], hex("8a 05 48656c6c6f"));
    assert_eq!(&ControlFrame::ping(b"")[..], hex("89 00"));
    assert_eq!(ControlFrame::pong(&[7; 125]).len(), 127);
}

#[test]
fn server_headers_use_the_shortest_length() {
    for (len, want) in [
        (0, "81 00"),
        (125, "81 7d"),
        (126, "81 7e 007e"),
        (0xffff, "81 7e ffff"),
        (0x10000, "81 7f 0000000000010000"),
    ] {
        let (bytes, header_len) = frame::header(true, false, Opcode::Text, len);
        assert_eq!(&bytes[..header_len], hex(want), "{len}");
        assert_eq!(frame::header_len(len), header_len);
    }
    let (bytes, _) = frame::header(false, true, Opcode::Binary, 1);
    assert_eq!(bytes[..2], [0x42, 0x01]);
}

#[test]
fn every_header_prefix_asks_for_more() {
    for bytes in [
        "81 85 37fa213d",
        "82 fe 0100 37fa213d",
        "82 ff 0000000000010000 37fa213d",
    ] {
        let bytes = hex(bytes);
        for cut in 0..bytes.len() {
            assert_eq!(
                Header::parse(&bytes[..cut]),
                Ok(None),
                "{cut} of {bytes:02x?}"
            );
        }
        let (_, len) = Header::parse(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
    }
}
