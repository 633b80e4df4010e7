//! Input that tests a compressor. The fuzz target `deflate_out` uses it, too.

use crate::inflated::inflate;
use proto::websocket::deflate::Deflater;

/// Checks that a compressed message is smaller and inflates to the original. Returns it.
#[track_caller]
pub fn checked(deflater: &mut Deflater, window_bits: u8, message: &[u8]) -> Option<Vec<u8>> {
    let payload = deflater.message(message)?;
    assert!(payload.len() < message.len());
    let read = inflate(payload, window_bits);
    assert!(
        read == message,
        "{} bytes came back as others",
        message.len()
    );
    Some(payload.to_vec())
}

/// Sizes at which compressors begin something new: windows, blocks, buffers, a stored block's
/// length.
pub const BORDERS: [usize; 13] = [
    0,
    256,
    258,
    512,
    1 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    48 << 10,
    64 << 10,
    96 << 10,
    128 << 10,
];

/// Bytes that compress in different ways. Pieces of messages are cut from them.
pub struct Material {
    kinds: [Vec<u8>; 6],
}

/// Exceeds the largest of [`BORDERS`] by the largest window.
const BYTES: usize = 160 << 10;

impl Material {
    pub fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let noise: Vec<u8> = (0..BYTES).map(|_| (next(&mut state) >> 56) as u8).collect();
        let of_noise = |byte: fn(u8) -> u8| noise.iter().map(|&b| byte(b)).collect();
        let json = |i: usize| format!("{{\"id\":{i},\"price\":{}}},", i * 7919 % 10_007);
        let mut json: Vec<u8> = (0..BYTES / 16).flat_map(|i| json(i).into_bytes()).collect();
        json.truncate(BYTES);
        let hex: Vec<u8> = of_noise(|b| b"0123456789abcdef"[usize::from(b & 15)]);
        let letters = of_noise(|b| b'a' + b % 26);
        // DEFLATE's fixed code has nine bits for each of these.
        let high = of_noise(|b| 144 + b % 112);
        let runs = (0..BYTES).map(|i| (i >> 9) as u8).collect();
        Self {
            kinds: [noise, hex, letters, high, json, runs],
        }
    }

    /// Bytes of one kind. Any numbers are valid.
    pub fn piece(&self, kind: usize, at: usize, len: usize) -> &[u8] {
        let bytes = &self.kinds[kind % self.kinds.len()];
        let len = len.min(bytes.len());
        let at = at % (bytes.len() - len + 1);
        &bytes[at..at + len]
    }
}

/// Pseudo-random numbers; the high bits are the better ones.
pub fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state
}

/// A number below `bound`.
pub fn below(state: &mut u64, bound: usize) -> usize {
    (next(state) >> 33) as usize % bound
}
