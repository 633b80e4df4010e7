//! Wire form of a delivered message: how what Redis published becomes the bytes of a frame.
//!
//! | envelope | payload of the frame |
//! | --- | --- |
//! | off | the message as it is |
//! | json | `{"channel":"foo","data":"hello"}`, of a pattern `{"pattern":"f*","channel":"foo","data":"hello"}` |
//! | redis | `["message","foo","hello"]`, of a pattern `["pmessage","f*","foo","hello"]` |
//!
//! `data` is always a string, also when the message itself is JSON: what a publisher sends never
//! changes the envelope's shape. What is not UTF-8 can't stand in JSON; in its place, as name or as
//! data, stands `{"base64":"…"}`, unless the frame has to be text of what was published.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::websocket::frame::{self, Opcode};

/// What is told around a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// Nothing.
    #[default]
    Off,
    /// Its channel, and pattern, in an object.
    Json,
    /// What Redis itself pushes, as an array.
    Redis,
}

/// Which kind of frame carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Text if it is UTF-8, else binary.
    #[default]
    Auto,
    /// Text; what is not UTF-8 is not sent.
    Text,
    /// Binary.
    Binary,
}

/// A wire form: messages are framed once for each that some client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wire {
    /// What is told around a message.
    pub envelope: Envelope,
    /// Which kind of frame carries it.
    pub frame: FrameKind,
}

/// The frame must be text, and a name or the payload is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;

impl std::fmt::Display for NotText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("message is not UTF-8")
    }
}

impl std::error::Error for NotText {}

impl Wire {
    /// Appends a message as one whole frame. `utf8` keeps between calls whether `payload` is UTF-8,
    /// once that was asked: begin with `None`.
    ///
    /// # Errors
    /// [`FrameKind::Text`] and something that is not UTF-8; `out` is then as it was.
    pub fn append(
        self,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        let mut is_text = || *utf8.get_or_insert_with(|| is_utf8(payload));
        let names_are_text = || is_utf8(channel) && pattern.is_none_or(is_utf8);
        let opcode = match (self.envelope, self.frame) {
            (_, FrameKind::Binary) => Opcode::Binary,
            (Envelope::Off, FrameKind::Auto) if !is_text() => Opcode::Binary,
            (_, FrameKind::Auto) => Opcode::Text,
            (Envelope::Off, FrameKind::Text) if is_text() => Opcode::Text,
            (Envelope::Json | Envelope::Redis, FrameKind::Text)
                if is_text() && names_are_text() =>
            {
                Opcode::Text
            }
            (_, FrameKind::Text) => return Err(NotText),
        };
        match self.envelope {
            Envelope::Off => frame::append(out, opcode, payload),
            Envelope::Json => enclose(out, opcode, payload.len(), |out| {
                if let Some(pattern) = pattern {
                    out.extend_from_slice(b"{\"pattern\":");
                    put_string(out, pattern, is_utf8(pattern));
                    out.extend_from_slice(b",\"channel\":");
                } else {
                    out.extend_from_slice(b"{\"channel\":");
                }
                put_string(out, channel, is_utf8(channel));
                out.extend_from_slice(b",\"data\":");
                put_string(out, payload, is_text());
                out.push(b'}');
            }),
            Envelope::Redis => enclose(out, opcode, payload.len(), |out| {
                if let Some(pattern) = pattern {
                    out.extend_from_slice(b"[\"pmessage\",");
                    put_string(out, pattern, is_utf8(pattern));
                    out.push(b',');
                } else {
                    out.extend_from_slice(b"[\"message\",");
                }
                put_string(out, channel, is_utf8(channel));
                out.push(b',');
                put_string(out, payload, is_text());
                out.push(b']');
            }),
        }
        Ok(())
    }
}

/// A frame around what `body` appends, which will be a little more than `at_least` bytes.
fn enclose(out: &mut Vec<u8>, opcode: Opcode, at_least: usize, body: impl FnOnce(&mut Vec<u8>)) {
    const USUAL_NAMES: usize = 64;
    let start = out.len();
    let guess = frame::header_len(at_least + USUAL_NAMES);
    out.reserve(guess + at_least + 2 * USUAL_NAMES);
    out.resize(start + guess, 0);
    body(out);
    let (header, len) = frame::header(true, false, opcode, out.len() - start - guess);
    // A wrong guess moves the body by a few bytes.
    out.splice(start..start + guess, header[..len].iter().copied());
}

fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8], is_utf8: bool) {
    if is_utf8 {
        out.push(b'"');
        put_escaped(out, bytes);
        out.push(b'"');
    } else {
        out.extend_from_slice(b"{\"base64\":\"");
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

/// RFC 8259, 7: quotation mark, backslash and all below a space must be escaped, nothing else.
fn put_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let (clean, rest) = text.split_at(clean_prefix(text));
        out.extend_from_slice(clean);
        let Some((&byte, rest)) = rest.split_first() else {
            return;
        };
        text = rest;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 0xf)]);
            }
        }
    }
}

/// How many bytes at the start need no escape.
fn clean_prefix(text: &[u8]) -> usize {
    const LANES: usize = 32;
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without a branch per byte the compiler compares whole vectors.
    let is_clean = |lanes: &[u8; LANES]| !lanes.iter().fold(false, |any, &b| any | needs_escape(b));
    let (blocks, _) = text.as_chunks::<LANES>();
    let clean = LANES * blocks.iter().take_while(|block| is_clean(block)).count();
    let rest = &text[clean..];
    clean
        + rest
            .iter()
            .position(|&byte| needs_escape(byte))
            .unwrap_or(rest.len())
}
