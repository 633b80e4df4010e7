//! The events equal those of the naive twin, however the stream is cut into reads and wherever the
//! reads are stored.

use proptest::prelude::*;
use proto::websocket::connection::Limits;

use crate::support::{
    Frame, Peer, ROOMY, binary, close, cont, hex, ping, run_in_place, run_on, stream, text,
};
use crate::twin::judge;

fn check(limits: Limits, bytes: &[u8], pieces: &[&[u8]]) {
    let want = judge(bytes, limits.max_message, limits.max_frame);
    let buffered = run_on(Peer::new(limits), pieces.iter().copied());
    let in_place = run_in_place(Peer::new(limits), pieces.iter().copied());
    for got in [buffered, in_place] {
        assert_eq!(
            got,
            want,
            "{bytes:02x?} in pieces of {:?}",
            pieces.iter().map(|p| p.len())
        );
    }
}

/// Tries the stream whole, byte by byte, and cut at every one and every two places. Each beginning
/// of it must end like the twin's, too: a misdeed may end a stream early.
fn check_every_split(limits: Limits, bytes: &[u8]) {
    for end in 0..=bytes.len() {
        check(limits, &bytes[..end], &[&bytes[..end]]);
        check(
            limits,
            &bytes[..end],
            &bytes[..end].chunks(1).collect::<Vec<_>>(),
        );
    }
    for first in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(first);
        for second in 0..=tail.len() {
            let (middle, tail) = tail.split_at(second);
            check(limits, bytes, &[head, middle, tail]);
        }
    }
}

#[test]
fn a_long_conversation_is_the_same_at_every_split() {
    let frames = [
        text("Hé"),
        ping("p"),
        text("κό").more(),
        ping(""),
        cont("").more(),
        cont("σμε"),
        binary(&[0xff; 130]),
        text(""),
        close(1000, "bye"),
        text("late"),
    ];
    check_every_split(ROOMY, &stream(&frames));
}

#[test]
fn misdeeds_are_the_same_at_every_split() {
    let before = stream(&[text("a"), text("b").more(), ping("c")]);
    for tail in [
        "80 83 00000000 eda080 81 80",
        "81 80 00000000",
        "c0 80 00000000",
        "80 fe 0040 00000000",
        "80 ff 8000000000000000",
        "80 87 00000000 41414141414141",
        "88 81 00000000 00",
        "88 83 00000000 03e8 ff",
        "0a 80",
        "83 00",
        "00 00",
    ] {
        let bytes = [&before[..], &hex(tail)].concat();
        check_every_split(
            Limits {
                max_message: 7,
                max_frame: 6,
            },
            &bytes,
        );
    }
}

#[test]
fn large_frames_are_the_same_at_splits_around_blocks() {
    let long = "aé漢𝄞".repeat(7000);
    let bytes = stream(&[text(&long), text(&long[..3]).more(), cont(&long[3..])]);
    for size in [1, 7, 4095, 4096, 4097, 16384, 65536, bytes.len()] {
        check(ROOMY, &bytes, &bytes.chunks(size).collect::<Vec<_>>());
    }
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        8 => "\\PC{0,40}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => "\\PC{100,300}".prop_map(String::into_bytes),
    ];
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81, 0x82, 0x89, 0x8a]),
        4 => prop::sample::select(vec![0x01, 0x02, 0x00, 0x80]),
        1 => any::<u8>(),
    ];
    (first, any::<[u8; 4]>(), payload)
        .prop_map(|(first, key, payload)| Frame::raw(first, payload).masked(key))
}

fn pieces<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #[test]
    fn any_frames_in_any_pieces_are_as_the_twin_says(
        frames in prop::collection::vec(frames(), 0..12),
        sizes in prop::collection::vec(1usize..200, 1..8),
        max_message in 0u64..500,
        max_frame in 0u64..500,
    ) {
        let bytes = frames.concat();
        check(Limits { max_message, max_frame }, &bytes, &pieces(&bytes, &sizes));
    }

    #[test]
    fn any_bytes_in_any_pieces_are_as_the_twin_says(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        sizes in prop::collection::vec(1usize..20, 1..4),
    ) {
        check(ROOMY, &bytes, &pieces(&bytes, &sizes));
    }
}
