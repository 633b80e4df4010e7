//! permessage-deflate (RFC 7692): negotiation, decompression and compression.
//!
//! No context is kept towards clients: a message is compressed once, and the same bytes serve all
//! clients that agreed on the same window. A location has at most two windows: its own, and the
//! smallest for all clients that ask for less than its own.
//!
//! Clients' messages may refer to their earlier ones ([`Context`]). This cannot be avoided:
//! browsers do not offer the parameter that forbids it. Of the clients that do not offer it, some
//! refuse a response that has it (Netty 4.1), others do not read it (Tornado 6, Mojolicious, Safari
//! 15). A response has no parameter that was not offered. A client that has sent something
//! compressed costs its [`History`], the last 2^bits bytes that it sent, and nothing else:
//! DEFLATE's state between two messages is its window, and [`Inflater`], which all connections
//! share, loads it before each message.
//!
//! zlib-rs does the work. It is pure Rust, maintained, takes windows from 9 bits on, and is the
//! fastest at inflating. Microseconds per message of JSON, each by itself, on one core:
//!
//! | | level | 128 B | | 1 KiB | | 16 KiB | |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | | | deflate | inflate | deflate | inflate | deflate | inflate |
//! | zlib-rs 0.6.8 | 1 | 2.3 to 104 B | 0.3 | 3.6 to 424 B | 1.0 | 24 to 4937 B | 11 |
//! | | 3 | 6.3 to 100 B | 1.1 | 10 to 324 B | 2.0 | 53 to 3214 B | 11 |
//! | | 6 | 6.3 to 100 B | 1.1 | 11 to 309 B | 2.0 | 105 to 3019 B | 10 |
//! | | 9 | 6.3 to 100 B | 0.3 | 12 to 301 B | 1.9 | 147 to 2869 B | 10 |
//! | zlib 1.2.13 (C) | 1 | 3.6 to 101 B | 0.3 | 6.7 to 346 B | 2.4 | 37 to 3767 B | 15 |
//! | | 6 | 3.8 to 100 B | 0.3 | 8.1 to 301 B | 2.3 | 110 to 2868 B | 14 |
//! | miniz_oxide 0.9.1 | 1 | 14 to 104 B | 2.3 | 16 to 362 B | 3.3 | 42 to 3989 B | 18 |
//! | | 6 | 15 to 103 B | 2.3 | 19 to 301 B | 3.1 | 212 to 2864 B | 13 |
//!
//! zlib's state is only known to be good after a completed call. A compressor or decompressor that
//! did not complete one is not used again. `out` documents what happens otherwise.
//!
//! Below some hundred bytes compression saves next to nothing. For large messages level 3 is within
//! a few percent of level 6 at half its time. A smaller window is no faster: the minimum cost of a
//! message is clearing the compressor's table, whose size is fixed. Loading a history adds 0.05 µs
//! to an incoming message with a window of 9 bits, 1 µs with one of 15.

mod agree;
mod inflate;
mod out;
mod parameters;

pub use agree::{Agreed, Context, Settings, negotiate};
pub use inflate::{History, Inflater, Takeover};
pub use out::{Deflater, append_frame};
pub use parameters::{LEVELS, NAME, WINDOW_BITS};
