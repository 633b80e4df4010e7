//! A client's stream in any pieces, through a buffer or in place: the events and the end equal
//! those of the naive twin. With permessage-deflate agreed they are the same for any pieces, and
//! equal the twin's as long as no frame is compressed.
#![no_main]

#[path = "../../crates/proto/tests/websocket/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../crates/proto/tests/websocket/twin.rs"]
#[allow(dead_code)]
mod twin;

use libfuzzer_sys::fuzz_target;
use proto::websocket::connection::Limits;
use support::{Deflating, Peer};

// The first two bytes are the sizes of the pieces, in turn. The next two select the limits.
fuzz_target!(|input: &[u8]| {
    let [odd, even, message, frame, bytes @ ..] = input else {
        return;
    };
    let limits = Limits {
        max_message: u64::from(*message) * 8,
        max_frame: u64::from(*frame) * 8,
    };
    let splits = [
        vec![bytes],
        pieces(bytes, [1, 1]),
        pieces(bytes, [*odd, *even].map(usize::from)),
    ];
    let expected = twin::judge(bytes, limits.max_message, limits.max_frame);
    for split in &splits {
        assert_eq!(support::run(limits, split.iter().copied()), expected);
        let in_place = support::run_in_place(Peer::new(limits), split.iter().copied());
        assert_eq!(in_place, expected);
    }
    let deflating = || Peer::deflating(limits, Deflating::without_takeover());
    let mut outcomes = splits.iter().flat_map(|split| {
        let buffered = support::run_on(deflating(), split.iter().copied());
        let in_place = support::run_in_place(deflating(), split.iter().copied());
        [buffered, in_place]
    });
    let whole = outcomes.next().expect("the first of all splits");
    for other in outcomes {
        assert_eq!(other, whole);
    }
    let refused_as_compressed = expected.1 == twin::Ending::Misbehaved(1002);
    assert!(refused_as_compressed || whole == expected);
});

fn pieces(mut bytes: &[u8], sizes: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for size in sizes.into_iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size.max(1).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
