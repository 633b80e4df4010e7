//! The cost of serving what a client sends, in one unit: a byte that is read and sent on. That is
//! about half a nanosecond, the kernel's part included, measured on one core of a server of 2023. A
//! budget needs only the order of magnitude.
//!
//! A few bytes can ask for much work: 84 compressed bytes become 64 KiB, and as an echo these are
//! compressed again. So budgets count the work done, not the bytes received.

/// A read that finds something, and the write or publish that follows.
pub const READ: usize = 8 << 10;
/// A message, however short: parsing it, framing it or making a command of it, reading the answer.
pub const MESSAGE: usize = 256;
/// An inflated message, besides its bytes.
pub const INFLATED: usize = 2 << 10;
/// A byte inflated, copied and sent on.
pub const INFLATED_BYTE: usize = 3;
/// A compressed message, besides its bytes: the compressor's table is cleared.
const DEFLATED: usize = 16 << 10;
/// A byte compressed.
const DEFLATED_BYTE: usize = 8;

/// One turn of a client, a quarter of a millisecond. It ends with the read or portion that exceeds
/// it.
pub const TURN: usize = 512 << 10;
/// All clients together between two polls of the other sockets, about four milliseconds.
pub const ROUND: usize = 8 << 20;

/// A message of `len` bytes that is compressed.
pub fn deflated(len: usize) -> usize {
    DEFLATED + len * DEFLATED_BYTE
}
