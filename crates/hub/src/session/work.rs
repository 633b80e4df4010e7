//! What it costs to do what a client sends, in one unit: a byte that is read and sent on. That is
//! about half a nanosecond, the kernel's part included, measured on one core of a server of 2023. A
//! budget needs only the order of magnitude.
//!
//! A few bytes can ask for much: 84 compressed ones are 64 KiB, as an echo they are compressed
//! again. So budgets count what is done, not what came.

/// A read that finds something, and the write or publish that follows.
pub const READ: usize = 8 << 10;
/// A message, however short: parsed, framed or made a command, its answer read.
pub const MESSAGE: usize = 256;
/// A message inflated, beside its bytes.
pub const INFLATED: usize = 2 << 10;
/// A byte inflated, copied and sent on.
pub const INFLATED_BYTE: usize = 3;
/// A message compressed, beside its bytes: the compressor's table is cleared.
const DEFLATED: usize = 16 << 10;
/// A byte compressed.
const DEFLATED_BYTE: usize = 8;

/// A client's turn, a quarter of a millisecond. It ends with the read or portion that exceeds it.
pub const TURN: usize = 512 << 10;
/// All clients together between two looks at the other sockets, about four milliseconds.
pub const ROUND: usize = 8 << 20;

/// A message of `len` bytes that is compressed.
pub fn deflated(len: usize) -> usize {
    DEFLATED + len * DEFLATED_BYTE
}
