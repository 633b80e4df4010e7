//! Any headers: no panic, an accepted handshake keeps its promises, and permessage-deflate is
//! agreed within what the client and the settings allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::websocket::deflate::{Context, Settings, WINDOW_BITS, negotiate};
use proto::websocket::handshake::{Handshake, HttpVersion, RequestLine, check};
use proto::websocket::origin::Policy;

// The lines of a request as on the wire. If the first byte is even, everything that a handshake
// must have is added, so that the fuzzer gets further.
fuzz_target!(|input: &[u8]| {
    let [complete, lines @ ..] = input else {
        return;
    };
    let line = RequestLine {
        method_is_get: true,
        version: HttpVersion::V11,
        has_body: false,
    };
    let needed: &[(&[u8], &[u8])] = &[
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let needed = if complete % 2 == 0 { needed } else { &[] };
    let given = lines.split(|&byte| byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    });
    let Ok(handshake) = check(&line, needed.iter().copied().chain(given)) else {
        return;
    };
    assert!(handshake.accept().is_ascii());
    for name in handshake.subprotocols() {
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
    }
    for offer in handshake.extensions() {
        let texts = offer
            .parameters()
            .flat_map(|(name, value)| [Some(name), value])
            .flatten();
        for text in texts.chain([offer.name()]) {
            assert!(!text.is_empty() && text.iter().all(u8::is_ascii_graphic));
        }
    }
    check_deflate(&handshake);
    let (origin, host) = (handshake.origin(), handshake.host());
    let same = Policy::Same.allows(origin, host, true);
    assert!(
        !same || Policy::Same.allows(origin, host, false),
        "TLS only ever forbids more"
    );
    if let Some(pattern) = origin.and_then(|origin| std::str::from_utf8(origin).ok())
        && let Ok(list @ Policy::List(_)) = Policy::parse(&[pattern])
        && pattern.contains("://")
        && !pattern.contains(['*', '['])
    {
        assert!(
            list.allows(origin, None, false),
            "an origin does not match itself"
        );
    }
});

fn check_deflate(handshake: &Handshake<'_>) {
    let contexts = [
        Context::Unread,
        Context::Nothing,
        Context::Window(9),
        Context::Window(15),
    ];
    for context in contexts {
        for server_window_bits in WINDOW_BITS {
            let settings = Settings {
                server_window_bits,
                context,
            };
            let Some(agreed) = negotiate(handshake.extensions(), &settings) else {
                continue;
            };
            let bits = agreed.server_window_bits();
            assert!(bits == server_window_bits || bits == *WINDOW_BITS.start());
            match context {
                Context::Unread | Context::Nothing => assert_eq!(agreed.context_bits(), 0),
                Context::Window(granted) => assert!(agreed.context_bits() <= granted),
            }
            check_answer(handshake, &agreed.to_string());
        }
    }
}

/// Checks that some offer has each parameter of the answer.
fn check_answer(handshake: &Handshake<'_>, answer: &str) {
    let mut parts = answer.split("; ");
    assert_eq!(parts.next(), Some("permessage-deflate"), "{answer}");
    let told: Vec<&[u8]> = parts
        .map(|part| part.split('=').next().unwrap_or_default().as_bytes())
        .collect();
    let is_offered = handshake.extensions().any(|offer| {
        let has = |name: &&[u8]| offer.parameters().any(|(offered, _)| offered == *name);
        told.iter().all(has)
    });
    assert!(is_offered, "{answer}");
}
