//! The formats in which messages go to clients, and the zlib that makes and reads them.

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
    /// Shorter messages go as they are.
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

/// Messages that were not framed in some format, and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dropped {
    /// They were no text for a format that has to be.
    pub not_text: u64,
    /// A panic came between.
    pub unframed: u64,
}

impl Dropped {
    /// All of them.
    #[inline]
    pub fn total(self) -> u64 {
        self.not_text + self.unframed
    }
}

/// The formats in use, by the numbers that the registry knows them by, and one compressor per level
/// and window and one decompressor for all clients of the worker.
#[derive(Default)]
pub struct Encoders {
    formats: Vec<Format>,
    deflaters: Vec<(u8, u8, Deflater)>,
    inflater: Option<Box<Inflater>>,
    /// Messages compressed.
    deflated: u64,
    dropped: Dropped,
    /// The newest panic that nobody has taken yet.
    panic: Option<Panic>,
}

impl Encoders {
    /// The number of a format.
    pub fn variant(&mut self, format: Format) -> FormatId {
        let known = self.formats.iter().position(|&other| other == format);
        FormatId(known.unwrap_or_else(|| {
            self.formats.push(format);
            self.formats.len() - 1
        }) as u32)
    }

    /// Appends a message in a format. `utf8` keeps between formats whether it is UTF-8.
    /// `false`: it is dropped, and counted; `out` is as before.
    ///
    /// A panic costs the message and no more: nothing that framing touches is left halfway. `out` is
    /// cut back; the formats are only read; a compressor that did not complete its call is not used
    /// again; `utf8` is an answer, or none.
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
        // The address of a copy: the caller's stays in a register.
        let mut known = *utf8;
        let compression = self.compression(deflate);
        let appended = format.append_deflated(message, &mut known, compression, out);
        *utf8 = known;
        appended
    }

    /// How often a message was dropped, once for each format.
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

    /// The compressor of a client, made when it is first needed.
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

    /// The decompressor of all clients, made when it is first needed.
    pub fn inflater(&mut self) -> &mut Inflater {
        self.inflater.get_or_insert_default()
    }
}
