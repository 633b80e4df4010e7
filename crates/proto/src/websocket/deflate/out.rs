//! Compression of outgoing messages.
//!
//! zlib-rs 0.6.8 keeps parts of its state over `reset` after a call that ran out of room. Bytes of
//! its buffer stay lost, so that it panics some messages later, and at level 1 the next message
//! lacks its block's header (`docs/zlib-rs.md`). Compressors are shared, so a broken one breaks
//! other clients' messages. So each call gets room for the worst case, and a compressor that did
//! not complete a call, or panicked in it, is not used again.
//!
//! With these rules, over a million messages on long-lived compressors, at all levels and windows,
//! were read back correctly by another library. `tests/websocket/way_out.rs` and the fuzz target
//! `deflate_out` continue this test.

use std::fmt;

use zlib_rs::{Deflate, DeflateFlush};

use super::super::frame::{Opcode, append, header};
use super::parameters::{LEVELS, TAIL, WINDOW_BITS};

/// A compressor's buffer larger than this is freed after its message ([`Deflater::shrink`]).
const KEPT_BUFFER: usize = 256 * 1024;

/// A compressor for all messages of one level and window. It keeps nothing from one message to the
/// next. It takes 251 KB with a window of 9 bits, 380 KB with one of 15.
pub struct Deflater {
    zlib: Deflate,
    level: u8,
    window_bits: u8,
    /// Whether the last call completed.
    is_sound: bool,
    buffer: Vec<u8>,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// `level` and `window_bits` are clamped to [`LEVELS`] and [`WINDOW_BITS`].
    pub fn new(level: u8, window_bits: u8) -> Self {
        let level = level.clamp(*LEVELS.start(), *LEVELS.end());
        let window_bits = window_bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        Self {
            zlib: Deflate::new(level.into(), false, window_bits),
            level,
            window_bits,
            is_sound: true,
            buffer: Vec::new(),
        }
    }

    /// Compresses one message (RFC 7692, 7.2.1). `None` if that makes it no smaller. The result is
    /// in a buffer that [`shrink`](Self::shrink) frees.
    pub fn message(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let room = most_deflated(payload.len());
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let written = self.run(|zlib, buffer| deflate_all(zlib, payload, &mut buffer[..room]))?;
        let compressed = self.buffer[..written].strip_suffix(&TAIL)?;
        (compressed.len() < payload.len()).then_some(compressed)
    }

    /// Frees the buffer of a large message.
    pub fn shrink(&mut self) {
        if self.buffer.len() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
    }

    /// Runs one call for a message. If it returns `None` or panics, the next message gets a new
    /// zlib.
    fn run<R>(&mut self, call: impl FnOnce(&mut Deflate, &mut [u8]) -> Option<R>) -> Option<R> {
        if std::mem::replace(&mut self.is_sound, false) {
            self.zlib.reset();
        } else {
            self.zlib = Deflate::new(self.level.into(), false, self.window_bits);
        }
        let done = call(&mut self.zlib, &mut self.buffer);
        self.is_sound = done.is_some();
        done
    }
}

/// Appends a server's whole frame, compressed (RFC 7692, 6.1) unless its payload has fewer than
/// `min_length` bytes or compression makes it no smaller.
pub fn append_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    payload: &[u8],
    deflater: &mut Deflater,
    min_length: usize,
) {
    let worthy = payload.len() >= min_length;
    match worthy.then(|| deflater.message(payload)).flatten() {
        None => append(out, opcode, payload),
        Some(deflated) => {
            let (bytes, len) = header(true, true, opcode, deflated.len());
            out.reserve(len + deflated.len());
            out.extend_from_slice(&bytes[..len]);
            out.extend_from_slice(deflated);
        }
    }
    deflater.shrink();
}

/// The most bytes that a message of `len` bytes takes with its flush: zlib's `deflateBound` for any
/// window, and some bytes more, so that a completed call leaves room.
fn most_deflated(len: usize) -> usize {
    len + len / 8 + len / 64 + 64
}

/// How much of `room` the whole of `payload` takes. `None`: the call did not complete.
fn deflate_all(zlib: &mut Deflate, payload: &[u8], room: &mut [u8]) -> Option<usize> {
    zlib.compress(payload, room, DeflateFlush::SyncFlush).ok()?;
    let written = zlib.total_out() as usize;
    // A flush that fills its room may have more to write.
    (written < room.len() && zlib.total_in() == payload.len() as u64).then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random bytes, different in each call.
    fn noise(state: &mut u64, len: usize) -> Vec<u8> {
        let mut next = || {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (*state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// What a new compressor makes of `payload`.
    fn fresh(level: u8, window_bits: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let mut deflater = Deflater::new(level, window_bits);
        deflater.message(payload).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_message_that_does_not_fit_is_forgotten() {
        let text = "some text of a message, ".repeat(40);
        let noise = noise(&mut 1, 900);
        for level in LEVELS {
            for window_bits in WINDOW_BITS {
                let mut deflater = Deflater::new(level, window_bits);
                deflater.buffer.resize(2000, 0);
                // As many as broke zlib-rs, whose buffer of 64 KB each one shrinks by some bytes.
                for _ in 0..150 {
                    let fits = deflater.run(|zlib, buffer| {
                        deflate_all(zlib, &noise, &mut buffer[..noise.len() - 1])
                    });
                    assert_eq!((fits, deflater.is_sound), (None, false));
                }
                let after = deflater.message(text.as_bytes()).map(<[u8]>::to_vec);
                assert_eq!(after, fresh(level, window_bits, text.as_bytes()));
                assert!(deflater.is_sound && after.is_some());
            }
        }
    }

    #[test]
    fn a_panic_in_a_message_is_forgotten() {
        let text = "some text of a message, ".repeat(40);
        let mut deflater = Deflater::new(1, 15);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            deflater.run::<()>(|zlib, _| {
                let (input, mut room) = (noise(&mut 1, 900), [0; 500]);
                zlib.compress(&input, &mut room, DeflateFlush::SyncFlush)
                    .unwrap();
                panic!("within zlib");
            })
        }));
        assert!(panicked.is_err() && !deflater.is_sound);
        let after = deflater.message(text.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(after, fresh(1, 15, text.as_bytes()));
    }

    #[test]
    fn the_worst_case_has_room() {
        // These bytes take nine bits in DEFLATE's fixed code, which level 1 always uses.
        let nine_bits = |len: usize| (0..len).map(|i| 144 + (i * i % 111) as u8).collect();
        let mut state = 1;
        for level in LEVELS {
            for window_bits in WINDOW_BITS {
                let mut deflater = Deflater::new(level, window_bits);
                for len in [
                    0, 1, 2, 63, 512, 16_383, 16_384, 32_768, 65_535, 65_536, 200_000,
                ] {
                    let payloads: [Vec<u8>; 2] = [nine_bits(len), noise(&mut state, len)];
                    for payload in payloads {
                        deflater.message(&payload);
                        assert!(deflater.is_sound, "{level} {window_bits} {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_buffer_does_not_outlive_its_message() {
        let mut deflater = Deflater::new(1, 15);
        let large = vec![b'x'; 2 * KEPT_BUFFER];
        for payload in [&large, &noise(&mut 1, 2 * KEPT_BUFFER)] {
            let mut out = Vec::new();
            append_frame(&mut out, Opcode::Binary, payload, &mut deflater, 0);
            assert_eq!(deflater.buffer.capacity(), 0);
        }
        deflater.message(b"x");
        deflater.shrink();
        assert!(deflater.buffer.capacity() > 0);
    }
}
