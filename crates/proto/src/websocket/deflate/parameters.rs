//! Constants of permessage-deflate.

use std::ops::RangeInclusive;

/// The name of the extension.
pub const NAME: &str = "permessage-deflate";
/// The windows that can be configured, in bits. zlib's raw compressor has no window of 8 bits.
pub const WINDOW_BITS: RangeInclusive<u8> = 9..=15;
/// The levels that can be configured.
pub const LEVELS: RangeInclusive<u8> = 1..=9;

pub(super) const MAX_WINDOW_BITS: u8 = 15;
/// The bytes that a sender removes from the end of each message (RFC 7692, 7.2.1).
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last, empty block. It ends the stream only where a block may begin.
pub(super) const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// The most blocks with BFINAL in a message (RFC 7692, 7.2.3.4). A sender needs one per flush. Each
/// costs a copy of the window: 32 KiB for two bytes of input.
pub(super) const MAX_FINAL_BLOCKS: usize = 64;
/// Bytes inflated at a time. They are checked and copied while they are in the processor's cache.
pub(super) const BLOCK: usize = 16 * 1024;

/// The window for all clients that ask for less than configured. All of them can read it.
pub(super) const SMALLEST_WINDOW_BITS: u8 = *WINDOW_BITS.start();
