//! The masking of a client's payload (RFC 6455, 5.3).
//!
//! Unmasking touches each byte of a text anyway, so it also detects whether all bytes are ASCII,
//! which then needs no further check. Long payloads are unmasked with the widest vectors that the
//! processor has (AVX2, NEON).

use std::sync::LazyLock;

use fearless_simd::{Level, dispatch};

/// The processor's vector level, detected at run time.
static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);

/// From this many bytes on, wide vectors gain more than selecting them costs.
const LONG: usize = 256;
/// Stores with this alignment never straddle two cache lines.
const ALIGNMENT: usize = 64;
/// The highest bit of each of eight bytes. ASCII has none of them set.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// A frame's masking key, rotated so that its first byte is for the payload's next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask([u8; 4]);

impl Mask {
    /// Takes the key as written in the frame's header.
    pub fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Masks or unmasks `bytes` in place. The next call continues where this one ended.
    #[inline]
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.apply_and_tell_ascii(bytes);
    }

    /// [`apply`](Self::apply). Returns whether all resulting bytes are ASCII.
    #[inline]
    pub(super) fn apply_and_tell_ascii(&mut self, bytes: &mut [u8]) -> bool {
        let seen = if bytes.len() < LONG {
            self.apply_in_blocks::<8>(bytes)
        } else {
            self.apply_in_vectors(bytes)
        };
        seen & HIGH_BITS == 0
    }

    fn apply_in_vectors(&mut self, bytes: &mut [u8]) -> u64 {
        let before = bytes.as_ptr().align_offset(ALIGNMENT).min(bytes.len());
        let (before, aligned) = bytes.split_at_mut(before);
        let seen = self.apply_in_blocks::<8>(before);
        let level = *LEVEL;
        seen | dispatch!(level, _ => self.apply_in_blocks::<16>(aligned))
    }

    /// Returns the OR of all resulting bytes, in eight lanes. The compiler turns a block of `WORDS`
    /// words into vectors, without a scalar loop before and after.
    #[inline(always)]
    fn apply_in_blocks<const WORDS: usize>(&mut self, bytes: &mut [u8]) -> u64 {
        let [a, b, c, d] = self.0;
        let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let unmask = |word: &mut [u8; 8], seen: &mut u64| {
            let unmasked = u64::from_ne_bytes(*word) ^ key;
            *word = unmasked.to_ne_bytes();
            *seen |= unmasked;
        };
        let mut seen = [0; WORDS];
        let (words, rest) = bytes.as_chunks_mut::<8>();
        let (blocks, words) = words.as_chunks_mut::<WORDS>();
        for block in blocks {
            for (word, seen) in block.iter_mut().zip(&mut seen) {
                unmask(word, seen);
            }
        }
        let mut seen = seen.into_iter().fold(0, |all, seen| all | seen);
        for word in words {
            unmask(word, &mut seen);
        }
        for (byte, key) in rest.iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= key;
            seen |= u64::from(*byte);
        }
        // Whole words do not change the key's phase.
        self.0.rotate_left(rest.len() % 4);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(key: [u8; 4], bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ key[i % 4])
            .collect()
    }

    #[test]
    fn rfc_example_of_5_7_is_hello() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        Mask::new([0x37, 0xfa, 0x21, 0x3d]).apply(&mut payload);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn every_length_and_every_split_agree_with_the_naive_twin() {
        let key = [0x11, 0x72, 0xa3, 0xf4];
        for len in 0..70u8 {
            let plain: Vec<u8> = (0..len).map(|i| i.wrapping_mul(37)).collect();
            let want = naive(key, &plain);
            for split in 0..=plain.len() {
                let mut got = plain.clone();
                let (head, tail) = got.split_at_mut(split);
                let mut mask = Mask::new(key);
                mask.apply(head);
                mask.apply(tail);
                assert_eq!(got, want, "length {len}, split at {split}");
            }
        }
    }

    #[test]
    fn one_byte_beyond_ascii_is_told_wherever_it_stands() {
        let key = [0x91, 0x72, 0xa3, 0xf4];
        for len in [1, 7, 8, 9, 63, 64, 100, LONG - 1, LONG, LONG + 77, 1000] {
            for skip in [0, 1, 6, 8, 14] {
                let mut masked = naive(key, &vec![0x7f; len]);
                masked.splice(0..0, vec![0; skip]);
                let tells =
                    |mut bytes: Vec<u8>| Mask::new(key).apply_and_tell_ascii(&mut bytes[skip..]);
                assert!(tells(masked.clone()), "length {len}");
                for at in skip..masked.len() {
                    let mut bad = masked.clone();
                    bad[at] ^= 0x80;
                    assert!(!tells(bad), "length {len}, {at}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn unaligned_payloads_agree_with_the_naive_twin(
            key: [u8; 4],
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            skip in 0usize..16,
        ) {
            let skip = skip.min(bytes.len());
            let mut got = bytes.clone();
            Mask::new(key).apply(&mut got[skip..]);
            prop_assert_eq!(&got[skip..], naive(key, &bytes[skip..]));
            prop_assert_eq!(&got[..skip], &bytes[..skip]);
        }
    }
}
