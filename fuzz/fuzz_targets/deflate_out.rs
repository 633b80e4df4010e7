//! Any messages in succession through one compressor of any level and window, including
//! incompressible ones and sizes around its blocks. Another library and our own read each of them
//! back.
#![no_main]

#[path = "../../crates/proto/tests/websocket/compressed.rs"]
#[allow(dead_code)]
mod compressed;
#[path = "../../crates/proto/tests/websocket/inflated.rs"]
mod inflated;
#[path = "../../crates/proto/tests/websocket/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../crates/proto/tests/websocket/twin.rs"]
#[allow(dead_code)]
mod twin;

use std::sync::LazyLock;

use compressed::{BORDERS, Material, checked};
use libfuzzer_sys::fuzz_target;
use proto::websocket::deflate::{Deflater, LEVELS, WINDOW_BITS};
use support::{Deflating, Frame, Peer, ROOMY};
use twin::Said;

static MATERIAL: LazyLock<Material> = LazyLock::new(Material::new);

/// Bytes compressed per input. More would take seconds.
const BYTES: usize = 1 << 20;

const RAW: u8 = 6;

// The first byte is the level, the second the window. The rest are pieces of messages. The first
// byte of a piece gives its kind, how its length is meant, whether its message ends with it, and
// how often the message is then sent. Two more give the length, and one where the piece is cut
// from. Raw pieces follow as they are.
fuzz_target!(|input: &[u8]| {
    let [level, window, rest @ ..] = input else {
        return;
    };
    let level = LEVELS.start() + level % (LEVELS.end() - LEVELS.start() + 1);
    let window_bits = WINDOW_BITS.start() + window % (WINDOW_BITS.end() - WINDOW_BITS.start() + 1);
    let mut deflater = Deflater::new(level, window_bits);
    let mut peer = Peer::deflating(ROOMY, Deflating::without_takeover());
    let mut left = BYTES;
    for message in messages(rest) {
        left = left.saturating_sub(message.len().max(16));
        if left == 0 {
            break;
        }
        if let Some(payload) = checked(&mut deflater, window_bits, &message) {
            peer.send(Frame::raw(0xc2, payload));
            assert!(peer.said.pop() == Some(Said::Binary(message)));
        }
    }
});

fn messages(mut pieces: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = vec![Vec::new()];
    let mut bytes = 0;
    while let [form, low, high, at, rest @ ..] = pieces {
        if bytes > BYTES {
            break;
        }
        pieces = rest;
        let len = if form & 0x10 == 0 {
            usize::from(u16::from_le_bytes([*low, *high])) & 0xfff
        } else {
            let border = BORDERS[usize::from(*high) % BORDERS.len()];
            (border + usize::from(*low)).saturating_sub(128)
        };
        let piece = if form & 7 == RAW {
            let (raw, rest) = pieces.split_at(len.min(pieces.len()));
            pieces = rest;
            raw
        } else {
            MATERIAL.piece(usize::from(form & 7), usize::from(*at) << 9, len)
        };
        if let Some(message) = messages.last_mut() {
            message.extend_from_slice(piece);
        }
        if form & 8 == 0 {
            let message = messages.pop().unwrap_or_default();
            // Some faults need a hundred messages of a kind in succession.
            let times = 1 << (form >> 5);
            bytes += times * message.len();
            messages.resize(messages.len() + times, message);
            messages.push(Vec::new());
        }
    }
    messages
}
