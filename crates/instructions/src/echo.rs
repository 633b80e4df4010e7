//! From the bytes of a client's frames to events, in place.

use std::hint::black_box;

use proto::websocket::connection::{Connection, Event, Limits};

/// The payload of a message.
const BYTES: usize = 128;

/// Each round receives one text message.
pub fn run(rounds: usize) {
    let limits = Limits {
        max_message: 64 << 10,
        max_frame: 64 << 10,
    };
    let mut connection = Connection::default();
    let mut frame = vec![0x81, 0xfe, 0, BYTES as u8, 1, 2, 3, 4];
    frame.extend((0..BYTES).map(|at| b'x' ^ [1, 2, 3, 4][at % 4]));
    let (mut buffer, mut heard) = (frame.clone(), 0);
    for _ in 0..rounds {
        buffer.copy_from_slice(&frame);
        let mut at = 0;
        while let Ok(Some(event)) = connection.receive(&mut buffer, &mut at, &limits) {
            if let Event::Message { payload, .. } = black_box(event) {
                heard += payload.bytes(&buffer).len();
            }
        }
    }
    assert_eq!(heard, rounds * BYTES);
}
