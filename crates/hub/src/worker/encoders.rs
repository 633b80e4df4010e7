//! The formats in which clients receive messages, and the zlib state that compresses and inflates
//! them.

use fanout::FormatId;
use proto::framing::{Compression, MessageFormat, NotText};
use proto::payload::Message;
use proto::websocket::deflate::{Deflater, Inflater};

use crate::guard::{self, Panic};

/// How messages are compressed for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// zlib's level.
    pub level: u8,
    /// The window agreed with the client, in bits.
    pub window_bits: u8,
    /// Shorter messages are not compressed.
    pub min_length: usize,
}

/// A distinct format of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Envelope and framing.
    pub message: MessageFormat,
    /// Compression, for clients that agreed to it.
    pub deflate: Option<Deflate>,
}

/// Messages that could not be framed in some format, and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dropped {
    /// They were not UTF-8, and the format needs text.
    pub not_text: u64,
    /// Framing panicked.
    pub unframed: u64,
}

impl Dropped {
    /// The sum.
    #[inline]
    pub fn total(self) -> u64 {
        self.not_text + self.unframed
    }
}

/// The formats in use, by the numbers under which the registry knows them; one compressor per level
/// and window; one decompressor for all clients of the worker.
#[derive(Default)]
pub struct Encoders {
    formats: Vec<Format>,
    deflaters: Vec<(u8, u8, Deflater)>,
    inflater: Option<Box<Inflater>>,
    /// Messages compressed.
    deflated: u64,
    dropped: Dropped,
    /// The newest panic, until it is taken.
    panic: Option<Panic>,
}

impl Encoders {
    /// The number of a format. A new format gets one.
    pub fn variant(&mut self, format: Format) -> FormatId {
        let known = self.formats.iter().position(|&other| other == format);
        FormatId(known.unwrap_or_else(|| {
            self.formats.push(format);
            self.formats.len() - 1
        }) as u32)
    }

    /// Appends a message in a format. `utf8` remembers from one format to the next whether the
    /// message is UTF-8. `false`: the message is dropped and counted; `out` is as before.
    ///
    /// A panic costs only the message, because framing leaves nothing half done: `out` is cut back;
    /// the formats are only read; a compressor whose call did not complete is not used again;
    /// `utf8` is an answer, or `None`.
    #[inline(always)]
    pub fn append(
        &mut self,
        variant: FormatId,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> bool {
        match guard::append(out, |out| self.frame(variant, message, utf8, out)) {
            Ok(framed) => {
                self.dropped.not_text += u64::from(framed.is_err());
                framed.is_ok()
            }
            Err(panic) => {
                self.dropped.unframed += 1;
                self.panic = Some(panic);
                false
            }
        }
    }

    #[inline(always)]
    fn frame(
        &mut self,
        variant: FormatId,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        let Format {
            message: format,
            deflate,
        } = self.formats[variant.0 as usize];
        let framed = match deflate {
            None => format.append(message, utf8, out),
            Some(deflate) => self.append_deflated(format, deflate, message, utf8, out),
        };
        #[cfg(feature = "test-panic")]
        assert!(
            !message.payload.starts_with(b"panic, please"),
            "asked for by a message"
        );
        framed
    }

    #[inline(always)]
    fn append_deflated(
        &mut self,
        format: MessageFormat,
        deflate: Deflate,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        // Only the address of a copy is taken, so the caller's stays in a register.
        let mut known = *utf8;
        let compression = self.compression(deflate);
        let appended = format.append_deflated(message, &mut known, compression, out);
        *utf8 = known;
        appended
    }

    /// How often a message was dropped, counted once per format.
    #[inline]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// A panic since the last call, to be logged.
    pub fn take_panic(&mut self) -> Option<Panic> {
        self.panic.take()
    }

    /// How often a message was compressed.
    pub fn deflated(&self) -> u64 {
        self.deflated
    }

    /// The compressor of a client, created at its first use.
    pub fn compression(&mut self, deflate: Deflate) -> Compression<'_> {
        let Deflate {
            level,
            window_bits,
            min_length,
        } = deflate;
        let known = self
            .deflaters
            .iter()
            .position(|&(l, w, _)| (l, w) == (level, window_bits));
        let index = known.unwrap_or_else(|| {
            self.deflaters
                .push((level, window_bits, Deflater::new(level, window_bits)));
            self.deflaters.len() - 1
        });
        Compression {
            deflater: &mut self.deflaters[index].2,
            min_length,
            count: &mut self.deflated,
        }
    }

    /// The decompressor of all clients, created at its first use.
    pub fn inflater(&mut self) -> &mut Inflater {
        self.inflater.get_or_insert_default()
    }
}
