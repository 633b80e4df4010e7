//! permessage-deflate (RFC 7692): the agreement, one message's way in, one message's way out.
//!
//! Towards clients no context is ever kept: a message is compressed once, and the same bytes serve
//! all who agreed on the same window. A location has two at most, its own and the smallest, for all
//! clients that ask for less than its own.
//!
//! What clients send may refer to what they sent before ([`Context`]). It has to: the parameter
//! that forbids it is not offered by browsers, and of the clients that don't offer it some refuse an
//! answer that has it (Netty 4.1), others don't read it (Tornado 6, Mojolicious, Safari 15). An
//! answer has no parameter that was not offered. A client that has sent something compressed costs
//! its [`History`], the last 2^bits bytes that it sent, and nothing else: DEFLATE's state between
//! two messages is its window, and [`Inflater`], which all connections share, takes that back
//! before each message.
//!
//! zlib-rs does the work: it is pure Rust, maintained, takes windows from 9 bits on, and is the
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
//! zlib's state is only known to be good after a call that completed: what did not, in or out, is
//! not used again. `out` tells what happened otherwise.
//!
//! Below some hundred bytes compression saves next to nothing; level 3 is within a few percent of
//! 6 at half its time for large messages. A smaller window is no faster: what a message costs at
//! least is the clearing of the compressor's table, whose size is fixed. Taking back a history
//! adds to a message on its way in 0.05 µs with a window of 9 bits, 1 µs with one of 15.

use std::fmt;
use std::ops::RangeInclusive;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::connection::Kind;
use super::extension::Offer;
use super::misbehaved::Misbehaved;
use super::utf8::Utf8;

mod out;

pub use out::Deflater;

/// The name under which the extension is offered.
pub const NAME: &str = "permessage-deflate";
/// Windows that can be configured, in bits. zlib's raw compressor knows no window of 8.
pub const WINDOW_BITS: RangeInclusive<u8> = 9..=15;
/// Levels that can be configured.
pub const LEVELS: RangeInclusive<u8> = 1..=9;

const MAX_WINDOW_BITS: u8 = 15;
/// What a sender takes off the end of each message (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last, empty block: only where a block may begin does it end the stream.
const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Blocks with BFINAL in a message (RFC 7692, 7.2.3.4). A sender needs one per flush; each makes
/// the window be taken over, 32 KiB of copying for two bytes.
const MAX_FINAL_BLOCKS: usize = 64;
/// Bytes inflated at a time: they are checked and copied while the processor's cache has them.
const BLOCK: usize = 16 * 1024;

/// The window of all who ask for less than the operator configured: all of them can read it.
const SMALLEST_WINDOW_BITS: u8 = *WINDOW_BITS.start();

/// What the operator configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The window towards clients, in [`WINDOW_BITS`]. Who asks for less gets the smallest.
    pub server_window_bits: u8,
    /// What is kept of what a client has sent.
    pub context: Context,
}

/// What is kept of a client's messages, for its next compressed one to refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nobody reads its messages: nothing is kept, whatever they refer to.
    Unread,
    /// Nothing: who does not offer to refer to nothing is declined.
    Nothing,
    /// 2^bits bytes, in [`WINDOW_BITS`]: who may refer to more, and does not offer to be limited, is
    /// declined.
    Window(u8),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_window_bits: MAX_WINDOW_BITS,
            context: Context::Window(MAX_WINDOW_BITS),
        }
    }
}

/// What was agreed with a client; `Display` is the value of the answer's
/// `Sec-WebSocket-Extensions`. Towards the client no context is kept, whether that is told or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    asked: Asked,
    server_window_bits: u8,
    context_bits: u8,
}

/// The answer to the first offer that can be accepted; `None` declines them all.
///
/// An offer with a parameter that is unknown, twice there, or has a value that is not its own is
/// declined (RFC 7692, 7.1); so is `server_max_window_bits=8`, which zlib can't do, and one whose
/// client would need more of a [`Context`] than there is.
pub fn negotiate<'a>(
    mut offers: impl Iterator<Item = Offer<'a>>,
    settings: &Settings,
) -> Option<Agreed> {
    offers.find_map(|offer| Asked::read(&offer)?.accept(settings))
}

/// One well-formed offer's parameters (RFC 7692, 7.1.1 and 7.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window_bits: Option<u8>,
    client_window: ClientWindow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ClientWindow {
    /// The client may not know how to limit it, and must not be asked to.
    #[default]
    Fixed,
    /// It can be limited; the client will use no more than these bits in any case.
    UpTo(u8),
}

impl Asked {
    fn read(offer: &Offer<'_>) -> Option<Self> {
        if offer.name() != NAME.as_bytes() {
            return None;
        }
        let mut asked = Self::default();
        for (name, value) in offer.parameters() {
            let is_first = match (name, value) {
                (b"server_no_context_takeover", None) => {
                    !std::mem::replace(&mut asked.server_no_takeover, true)
                }
                (b"client_no_context_takeover", None) => {
                    !std::mem::replace(&mut asked.client_no_takeover, true)
                }
                (b"server_max_window_bits", Some(bits)) => asked
                    .server_window_bits
                    .replace(window_bits(bits)?)
                    .is_none(),
                (b"client_max_window_bits", bits) => {
                    let bits = bits.map_or(Some(MAX_WINDOW_BITS), window_bits)?;
                    let before =
                        std::mem::replace(&mut asked.client_window, ClientWindow::UpTo(bits));
                    matches!(before, ClientWindow::Fixed)
                }
                _ => false,
            };
            if !is_first {
                return None;
            }
        }
        Some(asked)
    }

    fn accept(self, settings: &Settings) -> Option<Agreed> {
        Some(Agreed {
            asked: self,
            server_window_bits: self.server_window(settings.server_window_bits)?,
            context_bits: self.context(settings.context)?,
        })
    }

    /// Of two windows the one that this client can read.
    fn server_window(&self, configured: u8) -> Option<u8> {
        let most = self.server_window_bits.unwrap_or(MAX_WINDOW_BITS);
        [configured, SMALLEST_WINDOW_BITS]
            .into_iter()
            .find(|&bits| bits <= most)
    }

    /// Bits of what is to be kept, 0 for nothing.
    fn context(&self, granted: Context) -> Option<u8> {
        match (granted, self.client_window) {
            (Context::Unread, _) => Some(0),
            _ if self.client_no_takeover => Some(0),
            (Context::Nothing, _) => None,
            (Context::Window(granted), window) => window.within(granted),
        }
    }
}

impl ClientWindow {
    /// The window that the client will use where so much is `granted`.
    fn within(self, granted: u8) -> Option<u8> {
        match self {
            Self::Fixed => (granted == MAX_WINDOW_BITS).then_some(granted),
            Self::UpTo(bits) => Some(granted.min(bits)),
        }
    }
}

/// "A decimal integer value without leading zeroes between 8 to 15" (RFC 7692, 7.1.2.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

impl Agreed {
    /// The window towards this client, in [`WINDOW_BITS`]: which [`Deflater`] serves it.
    pub fn server_window_bits(&self) -> u8 {
        self.server_window_bits
    }

    /// How much must be kept of what this client sends compressed, in bits; 0: nothing.
    pub fn context_bits(&self) -> u8 {
        self.context_bits
    }

    /// The window that the client has to be told to keep within. Its own it knows.
    fn limit(&self) -> Option<u8> {
        match self.asked.client_window {
            ClientWindow::UpTo(bits) if self.context_bits > 0 => {
                Some(self.context_bits).filter(|&limit| limit < bits)
            }
            ClientWindow::UpTo(_) | ClientWindow::Fixed => None,
        }
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.asked.server_no_takeover {
            write!(f, "; server_no_context_takeover")?;
        }
        if self.asked.server_window_bits.is_some() {
            write!(f, "; server_max_window_bits={}", self.server_window_bits)?;
        }
        if self.asked.client_no_takeover {
            write!(f, "; client_no_context_takeover")?;
        }
        if let Some(bits) = self.limit() {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

/// How much of one client's messages is kept, and what is.
#[derive(Debug)]
pub struct Takeover<'a> {
    /// What was [agreed](Agreed::context_bits); 0: nothing is kept.
    pub window_bits: u8,
    /// `None` until the client has sent something compressed.
    pub history: &'a mut Option<Box<History>>,
}

impl Takeover<'_> {
    fn past(&self) -> &[u8] {
        self.history
            .as_deref()
            .map_or(&[], |history| &history.bytes)
    }

    fn push(&mut self, message: &[u8]) {
        if self.window_bits == 0 || message.is_empty() {
            return;
        }
        let history = || Box::new(History::new(self.window_bits));
        self.history.get_or_insert_with(history).push(message);
    }
}

/// The end of what a client with context takeover has sent compressed, up to its window.
#[derive(Debug, PartialEq, Eq)]
pub struct History {
    bytes: Vec<u8>,
    window: usize,
}

impl History {
    // zlib's compressors take a window of 8 bits for one of 9.
    fn new(window_bits: u8) -> Self {
        Self {
            bytes: Vec::new(),
            window: 1 << window_bits.max(*WINDOW_BITS.start()),
        }
    }

    /// The heap that its box holds, in bytes: the window at most, and a few words.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    fn push(&mut self, message: &[u8]) {
        let message = &message[message.len().saturating_sub(self.window)..];
        let all = self.bytes.len() + message.len();
        self.bytes.drain(..all.saturating_sub(self.window));
        if all > self.bytes.capacity() {
            let room = (2 * all).min(self.window);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(message);
    }
}

/// A decompressor that any number of connections share: it keeps nothing from one message to the
/// next. 64 KB.
pub struct Inflater {
    zlib: Inflate,
    /// Its last message was read to the end.
    is_sound: bool,
    block: Box<[u8]>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// For all connections of a worker.
    pub fn new() -> Self {
        Self {
            zlib: Inflate::new(false, MAX_WINDOW_BITS),
            is_sound: true,
            block: vec![0; BLOCK].into(),
        }
    }

    /// One message (RFC 7692, 7.2.2). Nothing is inflated beyond `max_message` and one byte more.
    ///
    /// No byte at all is taken for the empty message, which should be `00` (7.2.3.6): of a client's
    /// zlib that was flushed before, nothing else comes.
    ///
    /// # Errors
    /// What is not DEFLATE, or ends within a block; a text that is not UTF-8; too much.
    pub(super) fn message(
        &mut self,
        compressed: &[u8],
        kind: Kind,
        max_message: u64,
        takeover: &mut Takeover<'_>,
    ) -> Result<Vec<u8>, Misbehaved> {
        if compressed.is_empty() {
            return Ok(Vec::new());
        }
        // After what was not read to the end, or a panic, its state is not relied on.
        if !std::mem::replace(&mut self.is_sound, false) {
            self.zlib = Inflate::new(false, MAX_WINDOW_BITS);
        }
        let before = takeover.past();
        let mut message = Inflated {
            bytes: Vec::new(),
            text: matches!(kind, Kind::Text).then(Utf8::default),
            max: usize::try_from(max_message).unwrap_or(usize::MAX),
            final_blocks: 0,
        };
        self.begin(before, &[])?;
        self.run(compressed, before, &mut message)?;
        let length = message.bytes.len();
        let at_end = self.run(&[&TAIL[..], &END].concat(), before, &mut message)?;
        // Otherwise the tail was taken for something else: the message ends within a block.
        if !at_end || message.bytes.len() != length {
            return Err(Misbehaved::InvalidDeflate);
        }
        if message.text.is_some_and(|text| !text.is_complete()) {
            return Err(Misbehaved::InvalidUtf8);
        }
        self.is_sound = true;
        takeover.push(&message.bytes);
        Ok(message.bytes)
    }

    /// A stream begins, which may refer to all that was there before.
    fn begin(&mut self, before: &[u8], message: &[u8]) -> Result<(), Misbehaved> {
        self.zlib.reset(false);
        for past in [before, message] {
            if !past.is_empty() {
                self.zlib
                    .set_dictionary(past)
                    .map_err(|_| Misbehaved::InvalidDeflate)?;
            }
        }
        Ok(())
    }

    /// Inflates all of `input`: whether a stream ends with it.
    fn run(
        &mut self,
        mut input: &[u8],
        before: &[u8],
        message: &mut Inflated,
    ) -> Result<bool, Misbehaved> {
        loop {
            let room = message.room().min(self.block.len());
            let (read, written) = (self.zlib.total_in(), self.zlib.total_out());
            let status = self
                .zlib
                .decompress(input, &mut self.block[..room], InflateFlush::NoFlush)
                .map_err(|_| Misbehaved::InvalidDeflate)?;
            input = &input[(self.zlib.total_in() - read) as usize..];
            let written = (self.zlib.total_out() - written) as usize;
            message.take(&self.block[..written])?;
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(true),
                Status::StreamEnd => {
                    message.final_block()?;
                    self.begin(before, &message.bytes)?;
                }
                // With room left, all that the input has is out.
                Status::Ok | Status::BufError if written < room => return Ok(false),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

/// A message as far as it is inflated.
struct Inflated {
    bytes: Vec<u8>,
    text: Option<Utf8>,
    max: usize,
    final_blocks: usize,
}

impl Inflated {
    /// One more than may come: that tells that it is too much.
    fn room(&self) -> usize {
        (self.max - self.bytes.len()).saturating_add(1)
    }

    fn take(&mut self, block: &[u8]) -> Result<(), Misbehaved> {
        if block.len() >= self.room() {
            return Err(Misbehaved::MessageInflatesTooBig {
                limit: self.max as u64,
            });
        }
        if let Some(text) = &mut self.text {
            text.feed(block)?;
        }
        self.bytes.extend_from_slice(block);
        Ok(())
    }

    fn final_block(&mut self) -> Result<(), Misbehaved> {
        self.final_blocks += 1;
        if self.final_blocks > MAX_FINAL_BLOCKS {
            return Err(Misbehaved::InvalidDeflate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zlib_rs::{Deflate, DeflateFlush};

    #[test]
    fn a_bomb_is_not_inflated_beyond_its_limit() {
        let mut zlib = Deflate::new(6, false, 15);
        let mut bomb = vec![0; 1 << 20];
        zlib.compress(&vec![0; 64 << 20], &mut bomb, DeflateFlush::SyncFlush)
            .unwrap();
        bomb.truncate(zlib.total_out() as usize - TAIL.len());
        assert!(bomb.len() < 70_000);
        let mut inflater = Inflater::new();
        for limit in [0, 1, BLOCK as u64 - 1, BLOCK as u64, 100_000, 1 << 20] {
            for kind in [Kind::Text, Kind::Binary] {
                let mut nothing = Takeover {
                    window_bits: 0,
                    history: &mut None,
                };
                let outcome = inflater.message(&bomb, kind, limit, &mut nothing);
                assert_eq!(outcome, Err(Misbehaved::MessageInflatesTooBig { limit }));
                assert_eq!(inflater.zlib.total_out(), limit + 1);
            }
        }
    }

    #[test]
    fn a_bad_message_leaves_nothing_for_the_next() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let mut inflater = Inflater::new();
        let mut kept = None;
        let mut read = |message: &[u8], keeps: bool| {
            let (window_bits, history) = if keeps {
                (9, &mut kept)
            } else {
                (0, &mut None)
            };
            let mut takeover = Takeover {
                window_bits,
                history,
            };
            inflater.message(message, Kind::Text, 100, &mut takeover)
        };
        assert_eq!(read(&hello, true).unwrap(), b"Hello");
        for bad in [&[0x06][..], &hello[..3], &again] {
            assert_eq!(read(bad, false), Err(Misbehaved::InvalidDeflate));
            assert_eq!(read(&hello, false).unwrap(), b"Hello");
            assert_eq!(read(&again, true).unwrap(), b"Hello");
        }
    }

    #[test]
    fn a_history_is_the_end_of_all_that_was_said() {
        let said: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for step in [1, 7, 100, 511, 512, 513, 600, 2000] {
            let mut history = History::new(9);
            let mut end = 0;
            for message in said.chunks(step) {
                history.push(message);
                end += message.len();
                assert_eq!(history.bytes, said[end.saturating_sub(512)..end], "{step}");
                assert!(history.bytes.capacity() <= 512, "{step}");
            }
        }
    }
}
