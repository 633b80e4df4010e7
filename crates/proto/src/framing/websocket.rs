//! Messages as WebSocket frames (RFC 6455).

use crate::payload::{Envelope, Message, USUAL_NAMES};
use crate::websocket::close::{self, CloseCode};
use crate::websocket::deflate::{Deflater, append_frame};
use crate::websocket::frame::{self, ControlFrame, Opcode};

use super::not_text::NotText;

/// The kind of frame that carries a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Text if the payload is UTF-8, else binary.
    #[default]
    Auto,
    /// Text. A payload that is not UTF-8 is not sent.
    Text,
    /// Binary.
    Binary,
}

/// How a feed's frames are compressed.
#[derive(Debug)]
pub struct Compression<'a> {
    /// The compressor of the feed's level and window.
    pub deflater: &'a mut Deflater,
    /// Payloads of fewer bytes are sent uncompressed, and so are those that compression makes no
    /// smaller.
    pub min_length: usize,
    /// Counts the payloads given to the compressor, whether or not it made them smaller.
    pub count: &'a mut u64,
}

impl Compression<'_> {
    /// Appends a payload as one whole frame, compressed if that makes it smaller.
    pub fn append(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        *self.count += u64::from(payload.len() >= self.min_length);
        append_frame(out, opcode, payload, self.deflater, self.min_length);
    }
}

impl FrameKind {
    /// Appends a message as one whole frame. `utf8`: see [`Message::is_text`].
    ///
    /// # Errors
    /// The kind is [`FrameKind::Text`] and something is not UTF-8. `out` is then unchanged.
    #[inline(always)]
    pub(super) fn append(
        self,
        envelope: Envelope,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        if envelope != Envelope::Off {
            // Only the address of a copy is passed on, so the caller's value stays in a register.
            let mut known = *utf8;
            let appended = self.append_enclosed(envelope, message, &mut known, out);
            *utf8 = known;
            return appended;
        }
        let opcode = self.opcode(envelope, message, utf8)?;
        frame::append(out, opcode, message.payload);
        Ok(())
    }

    #[inline(never)]
    fn append_enclosed(
        self,
        envelope: Envelope,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        let opcode = self.opcode(envelope, message, utf8)?;
        enclose(out, opcode, message.payload.len(), |out| {
            envelope.append(message, utf8, out);
        });
        Ok(())
    }

    /// The same for clients that agreed on permessage-deflate. The frame is compressed if
    /// `compression` says so for its payload, envelope included.
    ///
    /// # Errors
    /// Those of [`FrameKind::append`].
    pub(super) fn append_deflated(
        self,
        envelope: Envelope,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        mut compression: Compression<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        let opcode = self.opcode(envelope, message, utf8)?;
        let mut enclosed = Vec::new();
        let body = match envelope {
            Envelope::Off => message.payload,
            Envelope::Json | Envelope::Redis => {
                enclosed.reserve(message.payload.len() + 2 * USUAL_NAMES);
                envelope.append(message, utf8, &mut enclosed);
                &enclosed
            }
        };
        compression.append(out, opcode, body);
        Ok(())
    }

    #[inline]
    fn opcode(
        self,
        envelope: Envelope,
        message: Message<'_>,
        utf8: &mut Option<bool>,
    ) -> Result<Opcode, NotText> {
        let mut is_text = || message.is_text(utf8);
        Ok(match (envelope, self) {
            (_, FrameKind::Binary) => Opcode::Binary,
            (Envelope::Off, FrameKind::Auto) if !is_text() => Opcode::Binary,
            (_, FrameKind::Auto) => Opcode::Text,
            (Envelope::Off, FrameKind::Text) if is_text() => Opcode::Text,
            (Envelope::Json | Envelope::Redis, FrameKind::Text)
                if is_text() && message.has_text_names() =>
            {
                Opcode::Text
            }
            (_, FrameKind::Text) => return Err(NotText),
        })
    }
}

/// A Ping. The client's Pong shows that it is alive.
pub(super) fn keep_alive() -> ControlFrame {
    ControlFrame::ping(b"")
}

/// A Close with this code and reason.
pub(super) fn ending(code: CloseCode, reason: &str) -> ControlFrame {
    close::frame(code, reason)
}

/// Appends a frame around what `body` appends, which will be slightly more than `at_least` bytes.
fn enclose(out: &mut Vec<u8>, opcode: Opcode, at_least: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let guess = frame::header_len(at_least + USUAL_NAMES);
    out.reserve(guess + at_least + 2 * USUAL_NAMES);
    out.resize(start + guess, 0);
    body(out);
    let (header, len) = frame::header(true, false, opcode, out.len() - start - guess);
    // If the guess was wrong, this moves the body by a few bytes.
    out.splice(start..start + guess, header[..len].iter().copied());
}
