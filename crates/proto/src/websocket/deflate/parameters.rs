//! The numbers of permessage-deflate.

use std::ops::RangeInclusive;

/// The name under which the extension is offered.
pub const NAME: &str = "permessage-deflate";
/// Windows that can be configured, in bits. zlib's raw compressor knows no window of 8.
pub const WINDOW_BITS: RangeInclusive<u8> = 9..=15;
/// Levels that can be configured.
pub const LEVELS: RangeInclusive<u8> = 1..=9;

pub(super) const MAX_WINDOW_BITS: u8 = 15;
/// What a sender takes off the end of each message (RFC 7692, 7.2.1).
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last, empty block: only where a block may begin does it end the stream.
pub(super) const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Blocks with BFINAL in a message (RFC 7692, 7.2.3.4). A sender needs one per flush; each makes
/// the window be taken over, 32 KiB of copying for two bytes.
pub(super) const MAX_FINAL_BLOCKS: usize = 64;
/// Bytes inflated at a time: they are checked and copied while the processor's cache has them.
pub(super) const BLOCK: usize = 16 * 1024;

/// The window of all who ask for less than the operator configured: all of them can read it.
pub(super) const SMALLEST_WINDOW_BITS: u8 = *WINDOW_BITS.start();
