//! What tries a compressor. The fuzz target `deflate_out` has it from here, too.

use crate::inflated::inflate;
use proto::websocket::deflate::Deflater;

/// What is compressed is smaller, and is read back; what is returned, too.
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

/// Sizes at which compressors begin something new: windows, blocks, buffers, a stored block's length.
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

/// Bytes that compress in different ways, to cut pieces of messages from.
pub struct Material {
    kinds: [Vec<u8>; 6],
}

/// More than the largest of [`BORDERS`], by more than any window.
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
        // Nine bits each in DEFLATE's fixed code.
        let high = of_noise(|b| 144 + b % 112);
        let runs = (0..BYTES).map(|i| (i >> 9) as u8).collect();
        Self {
            kinds: [noise, hex, letters, high, json, runs],
        }
    }

    /// Bytes of a kind; any numbers will do.
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

/// One that is below `bound`.
pub fn below(state: &mut u64, bound: usize) -> usize {
    (next(state) >> 33) as usize % bound
}
