//! Any bytes as compressed messages, in any fragments and any pieces, with plain messages and pings
//! between them. The result is what another library inflates, and never exceeds the limit.
#![no_main]

#[path = "../../crates/proto/tests/websocket/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../crates/proto/tests/websocket/twin.rs"]
#[allow(dead_code)]
mod twin;

use libfuzzer_sys::fuzz_target;
use proto::websocket::connection::Limits;
use support::{Deflating, Frame, Peer};
use twin::{Ending, Said};

const LIMITS: Limits = Limits {
    max_message: 20_000,
    max_frame: 20_000,
};

// The first byte is the size of the pieces, the second the window. The rest are messages, each
// after a byte that gives its form and its length.
fuzz_target!(|input: &[u8]| {
    let [size, window, messages @ ..] = input else {
        return;
    };
    let window_bits = 8 + window % 8;
    let deflating = || match window_bits {
        8 => Deflating::without_takeover(),
        bits => Deflating::with_takeover(bits),
    };
    let window = if window_bits == 8 {
        0
    } else {
        1 << window_bits
    };
    let bytes = support::stream(&frames(messages));
    let run = |size: usize| {
        let pieces = bytes.chunks(size.max(1));
        support::run_on(Peer::deflating(LIMITS, deflating()), pieces)
    };
    let (ours, our_end) = run(usize::from(*size));
    assert_eq!((ours.clone(), our_end), run(bytes.len()), "in one piece");
    let (theirs, their_end) =
        twin::judge_deflated(&bytes, LIMITS.max_message, LIMITS.max_frame, window);
    for said in &ours {
        if let Said::Text(message) | Said::Binary(message) = said {
            assert!(message.len() as u64 <= LIMITS.max_message);
        }
    }
    // Libraries differ in which incomplete codes they refuse, so one may end before the other.
    let both = ours.len().min(theirs.len());
    assert_eq!(ours[..both], theirs[..both]);
    let fine = |end| !matches!(end, Ending::Misbehaved(_));
    if fine(our_end) && fine(their_end) {
        assert_eq!((ours, our_end), (theirs, their_end));
    }
});

fn frames(mut messages: &[u8]) -> Vec<Frame> {
    const FIN: u8 = 0x80;
    const COMPRESSED: u8 = 0x40;
    let mut frames = Vec::new();
    while let [form, len, rest @ ..] = messages {
        let (message, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let kind = if form & 1 == 0 { 1 } else { 2 };
        let first = if form & 2 == 0 {
            kind | COMPRESSED
        } else {
            kind
        };
        if form & 4 == 0 {
            frames.push(Frame::raw(first | FIN, message.to_vec()));
        } else {
            let (begin, end) = message.split_at(usize::from(form >> 3).min(message.len()));
            frames.push(Frame::raw(first, begin.to_vec()));
            frames.push(support::ping("between"));
            frames.push(Frame::raw(FIN, end.to_vec()));
        }
        messages = rest;
    }
    frames
}
