//! Opening handshakes: faults in a request, and the answers.

use proto::websocket::handshake::{Handshake, HttpVersion, Refusal, RequestLine, check};

const GET: RequestLine = RequestLine {
    method_is_get: true,
    version: HttpVersion::V11,
    has_body: false,
};

/// The example of RFC 6455, 1.3.
const GOOD: [(&str, &str); 7] = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Origin", "http://example.com"),
    ("Sec-WebSocket-Protocol", "chat, superchat"),
    ("Sec-WebSocket-Version", "13"),
];

fn judge<'a>(line: &RequestLine, headers: &[(&'a str, &'a str)]) -> Result<Handshake<'a>, Refusal> {
    check(
        line,
        headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
    )
}

/// The good request with the lines of these names replaced.
fn with<'a>(lines: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let replaced = |name: &str| {
        lines
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let mut headers: Vec<_> = GOOD
        .into_iter()
        .filter(|(name, _)| !replaced(name))
        .collect();
    headers.extend_from_slice(lines);
    headers
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    GOOD.into_iter()
        .filter(|(other, _)| *other != name)
        .collect()
}

#[test]
fn the_rfcs_own_handshake_is_accepted() {
    let handshake = judge(&GET, &GOOD).unwrap();
    assert_eq!(&handshake.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(handshake.host(), Some(&b"server.example.com"[..]));
    assert_eq!(handshake.origin(), Some(&b"http://example.com"[..]));
    assert_eq!(
        handshake.subprotocols().collect::<Vec<_>>(),
        [&b"chat"[..], b"superchat"]
    );
    assert_eq!(handshake.extensions().count(), 0);
}

#[test]
fn what_the_rfcs_allow_is_accepted() {
    for lines in [
        &[("UPGRADE", "WebSocket"), ("connection", "upgrade")][..],
        &[("Upgrade", "h2c, websocket")],
        &[("Upgrade", "h2c"), ("Upgrade", "Websocket")],
        &[("Connection", "keep-alive, Upgrade")],
        &[("Connection", "keep-alive"), ("Connection", "\tUPGRADE ,")],
        &[("Sec-WebSocket-Version", "\t13 \t")],
        &[("Sec-WebSocket-Key", "\tdGhlIHNhbXBsZSBub25jZQ==\t")],
        // The key of RFC 6455, 4.1.
        &[("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEC==")],
        &[("Sec-WebSocket-Protocol", "")],
        &[("Sec-WebSocket-Protocol", "a,, b,")],
        &[(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; client_max_window_bits",
        )],
        &[("Sec-WebSocket-Extensions", "")],
        &[("Cookie", "a=b"), ("X", "")],
    ] {
        assert!(judge(&GET, &with(lines)).is_ok(), "{lines:?}");
    }
    for name in ["Host", "Origin", "Sec-WebSocket-Protocol"] {
        assert!(judge(&GET, &without(name)).is_ok(), "without {name}");
    }
}

#[test]
fn wrong_headers_are_refused_by_name() {
    for (lines, refusal) in [
        (&[("Upgrade", "h2c")][..], Refusal::NotUpgrade),
        (&[("Upgrade", "websockets")], Refusal::NotUpgrade),
        (&[("Connection", "keep-alive")], Refusal::NotUpgrade),
        (&[("Connection", "upgraded")], Refusal::NotUpgrade),
        (&[("Sec-WebSocket-Version", "8")], Refusal::Version),
        (&[("Sec-WebSocket-Version", "013")], Refusal::Version),
        (&[("Sec-WebSocket-Version", "13, 8")], Refusal::Version),
        (
            &[
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Version", "13"),
            ],
            Refusal::Version,
        ),
        (&[("Sec-WebSocket-Key", "")], Refusal::Key),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")],
            Refusal::Key,
        ),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=")],
            Refusal::Key,
        ),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j")],
            Refusal::Key,
        ),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZWQ=")],
            Refusal::Key,
        ),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZWVl")],
            Refusal::Key,
        ),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub2-jZQ==")],
            Refusal::Key,
        ),
        (
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBs ZSBub25jZQ==")],
            Refusal::Key,
        ),
        (
            &[
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
            Refusal::Key,
        ),
        (
            &[("Origin", "http://a"), ("Origin", "http://b")],
            Refusal::Origin,
        ),
        (&[("Sec-WebSocket-Protocol", "a b")], Refusal::Subprotocol),
        (
            &[
                ("Sec-WebSocket-Protocol", "a"),
                ("Sec-WebSocket-Protocol", "b;c"),
            ],
            Refusal::Subprotocol,
        ),
        (&[("Sec-WebSocket-Protocol", "\"a\"")], Refusal::Subprotocol),
        (
            &[("Sec-WebSocket-Extensions", "a; b=")],
            Refusal::Extensions,
        ),
        (&[("Sec-WebSocket-Extensions", "a b")], Refusal::Extensions),
    ] {
        assert_eq!(judge(&GET, &with(lines)).err(), Some(refusal), "{lines:?}");
    }
    for (name, refusal) in [
        ("Upgrade", Refusal::NotUpgrade),
        ("Connection", Refusal::NotUpgrade),
        ("Sec-WebSocket-Key", Refusal::Key),
        ("Sec-WebSocket-Version", Refusal::Version),
    ] {
        assert_eq!(
            judge(&GET, &without(name)).err(),
            Some(refusal),
            "without {name}"
        );
    }
}

#[test]
fn the_request_line_is_judged_before_the_headers() {
    use HttpVersion::*;
    for (method_is_get, version, has_body, upgrade, refusal, status) in [
        (true, V2, false, false, Refusal::Http2, 400),
        (false, V3, true, true, Refusal::Method, 405),
        (false, V11, false, false, Refusal::Method, 405),
        (false, V11, true, true, Refusal::Method, 405),
        (false, V10, false, true, Refusal::Method, 405),
        (true, V10, false, true, Refusal::OldHttp, 400),
        (true, V09, false, false, Refusal::OldHttp, 400),
        (true, V11, false, false, Refusal::NotUpgrade, 426),
        (true, V11, true, false, Refusal::NotUpgrade, 426),
        (true, V11, true, true, Refusal::Body, 400),
    ] {
        let line = RequestLine {
            method_is_get,
            version,
            has_body,
        };
        let headers = if upgrade {
            GOOD.to_vec()
        } else {
            without("Upgrade")
        };
        let got = judge(&line, &headers).unwrap_err();
        assert_eq!(
            (got, got.status()),
            (refusal, status),
            "{line:?} upgrade: {upgrade}"
        );
    }
}

#[test]
fn statuses_are_those_that_were_promised() {
    for (refusal, status) in [
        (Refusal::NotUpgrade, 426),
        (Refusal::Version, 426),
        (Refusal::Method, 405),
        (Refusal::Key, 400),
        (Refusal::Origin, 400),
        (Refusal::Subprotocol, 400),
        (Refusal::Extensions, 400),
    ] {
        assert_eq!(refusal.status(), status, "{refusal}");
        assert!(refusal.to_string().starts_with("client sent"), "{refusal}");
    }
}

#[test]
fn subprotocols_of_all_lines_keep_their_order() {
    let headers = with(&[
        ("Sec-WebSocket-Protocol", "b,\ta"),
        ("Sec-WebSocket-Protocol", "c"),
    ]);
    let handshake = judge(&GET, &headers).unwrap();
    let offered: Vec<_> = handshake.subprotocols().collect();
    assert_eq!(offered, [b"b", b"a", b"c"]);
}

#[test]
fn extensions_of_all_lines_keep_their_order() {
    let headers = with(&[
        (
            "Sec-WebSocket-Extensions",
            "permessage-deflate; server_max_window_bits=10, x",
        ),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ]);
    let handshake = judge(&GET, &headers).unwrap();
    let names: Vec<_> = handshake.extensions().map(|offer| offer.name()).collect();
    assert_eq!(
        names,
        [&b"permessage-deflate"[..], b"x", b"permessage-deflate"]
    );
}
