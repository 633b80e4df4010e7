//! An independent decompressor that checks what a server has compressed. The fuzz target
//! `deflate_out` and the end-to-end tests use it, too.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// Inflates a server's compressed payload with no more window than was agreed.
///
/// # Panics
/// If it is not DEFLATE, or refers to more than that.
pub fn inflate(compressed: &[u8], window_bits: u8) -> Vec<u8> {
    let input = [compressed, &[0, 0, 0xff, 0xff]].concat();
    let mut window = vec![0; 1 << window_bits];
    let (mut read, mut at, mut message) = (0, 0, Vec::new());
    let mut stream = DecompressorOxide::new();
    loop {
        let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
        let (status, more_read, written) =
            decompress(&mut stream, &input[read..], &mut window, at, flags);
        read += more_read;
        message.extend_from_slice(&window[at..at + written]);
        at = (at + written) % window.len();
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read, input.len());
    message
}
