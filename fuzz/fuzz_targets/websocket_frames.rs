//! A client's stream in any pieces: the events and the end are those of the naive twin.
#![no_main]

#[path = "../../crates/proto/tests/websocket/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../crates/proto/tests/websocket/twin.rs"]
#[allow(dead_code)]
mod twin;

use libfuzzer_sys::fuzz_target;
use proto::websocket::connection::Limits;

// The first byte is the size of the pieces, the next two choose the limits.
fuzz_target!(|input: &[u8]| {
    let [size, message, frame, bytes @ ..] = input else {
        return;
    };
    let limits = Limits {
        max_message: u64::from(*message) * 8,
        max_frame: u64::from(*frame) * 8,
    };
    let size = usize::from(*size).max(1);
    let got = support::run(limits, bytes.chunks(size));
    assert_eq!(
        got,
        twin::judge(bytes, limits.max_message, limits.max_frame)
    );
});
