//! Any bytes as compressed messages, in any pieces: what is read is what another library inflates,
//! and never more than the limit.
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

// The first byte is the size of the pieces, the second the window; the others are messages, each
// behind its length.
fuzz_target!(|input: &[u8]| {
    let [size, window, messages @ ..] = input else {
        return;
    };
    let window_bits = 8 + window % 8;
    let (deflating, window) = match window_bits {
        8 => (Deflating::without_takeover(), 0),
        bits => (Deflating::with_takeover(bits), 1 << bits),
    };
    let bytes = support::stream(&frames(messages));
    let pieces = bytes.chunks(usize::from(*size).max(1));
    let (ours, our_end) = support::run_on(Peer::deflating(LIMITS, deflating), pieces);
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
    let mut frames = Vec::new();
    while let [len, rest @ ..] = messages {
        let (message, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let first = if len % 2 == 0 { 0xc1 } else { 0xc2 };
        frames.push(Frame::raw(first, message.to_vec()));
        messages = rest;
    }
    frames
}
