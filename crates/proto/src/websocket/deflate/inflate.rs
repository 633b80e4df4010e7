//! Decompression of incoming messages.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::super::message::MessageKind;
use super::super::misbehaved::Misbehaved;
use super::super::utf8::Utf8;
use super::parameters::{BLOCK, END, MAX_FINAL_BLOCKS, MAX_WINDOW_BITS, TAIL, WINDOW_BITS};

/// The history kept of one client's messages, and its limit.
#[derive(Debug)]
pub struct Takeover<'a> {
    /// The [agreed](super::Agreed::context_bits) window. 0: nothing is kept.
    pub window_bits: u8,
    /// `None` until the client has sent a compressed message.
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

/// The last bytes, up to its window, of what a client with context takeover has sent compressed.
#[derive(Debug, PartialEq, Eq)]
pub struct History {
    bytes: Vec<u8>,
    window: usize,
}

impl History {
    // zlib's compressors replace a window of 8 bits by one of 9.
    fn new(window_bits: u8) -> Self {
        Self {
            bytes: Vec::new(),
            window: 1 << window_bits.max(*WINDOW_BITS.start()),
        }
    }

    /// The heap held by its box, in bytes: at most the window and a few words.
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

/// A decompressor that any number of connections share. It keeps nothing from one message to the
/// next. It takes 64 KB.
pub struct Inflater {
    zlib: Inflate,
    /// Whether the last message was read to its end.
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
    /// Creates the decompressor for all connections of a worker.
    pub fn new() -> Self {
        Self {
            zlib: Inflate::new(false, MAX_WINDOW_BITS),
            is_sound: true,
            block: vec![0; BLOCK].into(),
        }
    }

    /// Inflates one message (RFC 7692, 7.2.2). At most one byte beyond `max_message` is inflated.
    ///
    /// Empty input is accepted as the empty message, which should be `00` (7.2.3.6): a client's
    /// zlib writes nothing else if it was flushed just before.
    ///
    /// # Errors
    /// The message is not DEFLATE, ends within a block, is text that is not UTF-8, or is too big.
    pub(in crate::websocket) fn message(
        &mut self,
        compressed: &[u8],
        kind: MessageKind,
        max_message: u64,
        takeover: &mut Takeover<'_>,
    ) -> Result<Vec<u8>, Misbehaved> {
        if compressed.is_empty() {
            return Ok(Vec::new());
        }
        // After a panic, or a message that was not read to its end, zlib's state is unreliable.
        if !std::mem::replace(&mut self.is_sound, false) {
            self.zlib = Inflate::new(false, MAX_WINDOW_BITS);
        }
        let before = takeover.past();
        let mut message = Inflated {
            bytes: Vec::new(),
            text: matches!(kind, MessageKind::Text).then(Utf8::default),
            max: usize::try_from(max_message).unwrap_or(usize::MAX),
            final_blocks: 0,
        };
        self.begin(before, &[])?;
        self.run(compressed, before, &mut message)?;
        let length = message.bytes.len();
        let at_end = self.run(&[&TAIL[..], &END].concat(), before, &mut message)?;
        // Otherwise the tail was decoded as something else: the message ends within a block.
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

    /// Begins a stream, which may refer to all bytes before it.
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

    /// Inflates all of `input`. Returns whether a stream ends with it.
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
                // Room is left, so all output of the input is written.
                Status::Ok | Status::BufError if written < room => return Ok(false),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

/// The inflated part of a message.
struct Inflated {
    bytes: Vec<u8>,
    text: Option<Utf8>,
    max: usize,
    final_blocks: usize,
}

impl Inflated {
    /// One byte more than allowed. Filling it shows that the message is too big.
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
            for kind in [MessageKind::Text, MessageKind::Binary] {
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
            inflater.message(message, MessageKind::Text, 100, &mut takeover)
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
