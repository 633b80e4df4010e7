//! Wire form of a delivered message: how what Redis published becomes the bytes of a frame.
//!
//! | envelope | payload of the frame |
//! | --- | --- |
//! | off | the message as it is |
//! | json | `{"channel":"foo","data":"hello"}`, of a pattern `{"pattern":"f*","channel":"foo","data":"hello"}` |
//! | redis | `["message","foo","hello"]`, of a pattern `["pmessage","f*","foo","hello"]` |
//!
//! `data` is always a string, also when the message itself is JSON: what a publisher sends never
//! changes the envelope's shape. Bytes that are not UTF-8 can't stand in JSON: in place of such a
//! name or payload stands `{"base64":"…"}`, or with [`FrameKind::Text`] the message is not sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::websocket::deflate::{Deflater, append_frame};
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

/// How a feed's frames are compressed.
#[derive(Debug)]
pub struct Compression<'a> {
    /// The compressor of the feed's level and window.
    pub deflater: &'a mut Deflater,
    /// Payloads of less bytes go as they are, and so do those that compression makes no smaller.
    pub min_length: usize,
    /// Grows by each payload that is compressed, smaller then or not.
    pub count: &'a mut u64,
}

impl Compression<'_> {
    /// Appends a payload as one whole frame, compressed if that pays.
    pub fn append(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        *self.count += u64::from(payload.len() >= self.min_length);
        append_frame(out, opcode, payload, self.deflater, self.min_length);
    }
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
    #[inline(always)]
    pub fn append(
        self,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        if self.envelope != Envelope::Off {
            // The address of a copy: the caller's stays in a register.
            let mut known = *utf8;
            let appended = self.append_enclosed(channel, pattern, payload, &mut known, out);
            *utf8 = known;
            return appended;
        }
        let opcode = self.opcode(channel, pattern, payload, utf8)?;
        frame::append(out, opcode, payload);
        Ok(())
    }

    #[inline(never)]
    fn append_enclosed(
        self,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        let opcode = self.opcode(channel, pattern, payload, utf8)?;
        let put = match self.envelope {
            Envelope::Redis => put_array,
            Envelope::Off | Envelope::Json => put_object,
        };
        enclose(out, opcode, payload.len(), |out| {
            put(channel, pattern, payload, utf8, out);
        });
        Ok(())
    }

    /// [`append`](Self::append) for clients with which permessage-deflate was agreed: the frame is
    /// compressed if `compression` says so of its payload, envelope included.
    ///
    /// # Errors
    /// Those of `append`.
    pub fn append_deflated(
        self,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
        utf8: &mut Option<bool>,
        mut compression: Compression<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        let opcode = self.opcode(channel, pattern, payload, utf8)?;
        let mut enclosed = Vec::new();
        let body = match self.envelope {
            Envelope::Off => payload,
            Envelope::Json => {
                enclosed.reserve(payload.len() + 2 * USUAL_NAMES);
                put_object(channel, pattern, payload, utf8, &mut enclosed);
                &enclosed
            }
            Envelope::Redis => {
                enclosed.reserve(payload.len() + 2 * USUAL_NAMES);
                put_array(channel, pattern, payload, utf8, &mut enclosed);
                &enclosed
            }
        };
        compression.append(out, opcode, body);
        Ok(())
    }

    #[inline]
    fn opcode(
        self,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
        utf8: &mut Option<bool>,
    ) -> Result<Opcode, NotText> {
        let mut is_text = || is_text(payload, utf8);
        let names_are_text = || is_utf8(channel) && pattern.is_none_or(is_utf8);
        Ok(match (self.envelope, self.frame) {
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
        })
    }
}

/// Room for the names of an envelope, and what stands between them.
const USUAL_NAMES: usize = 64;

#[inline(always)]
fn is_text(payload: &[u8], utf8: &mut Option<bool>) -> bool {
    *utf8.get_or_insert_with(|| is_utf8(payload))
}

fn put_object(
    channel: &[u8],
    pattern: Option<&[u8]>,
    payload: &[u8],
    utf8: &mut Option<bool>,
    out: &mut Vec<u8>,
) {
    if let Some(pattern) = pattern {
        out.extend_from_slice(b"{\"pattern\":");
        put_string(out, pattern, is_utf8(pattern));
        out.extend_from_slice(b",\"channel\":");
    } else {
        out.extend_from_slice(b"{\"channel\":");
    }
    put_string(out, channel, is_utf8(channel));
    out.extend_from_slice(b",\"data\":");
    put_string(out, payload, is_text(payload, utf8));
    out.push(b'}');
}

fn put_array(
    channel: &[u8],
    pattern: Option<&[u8]>,
    payload: &[u8],
    utf8: &mut Option<bool>,
    out: &mut Vec<u8>,
) {
    if let Some(pattern) = pattern {
        out.extend_from_slice(b"[\"pmessage\",");
        put_string(out, pattern, is_utf8(pattern));
        out.push(b',');
    } else {
        out.extend_from_slice(b"[\"message\",");
    }
    put_string(out, channel, is_utf8(channel));
    out.push(b',');
    put_string(out, payload, is_text(payload, utf8));
    out.push(b']');
}

/// A frame around what `body` appends, which will be a little more than `at_least` bytes.
fn enclose(out: &mut Vec<u8>, opcode: Opcode, at_least: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let guess = frame::header_len(at_least + USUAL_NAMES);
    out.reserve(guess + at_least + 2 * USUAL_NAMES);
    out.resize(start + guess, 0);
    body(out);
    let (header, len) = frame::header(true, false, opcode, out.len() - start - guess);
    // A wrong guess moves the body by a few bytes.
    out.splice(start..start + guess, header[..len].iter().copied());
}

#[inline(always)]
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
///
/// Text goes by blocks. A block without any such byte is copied. In another each byte is replaced
/// by what [`ESCAPED`] says, without asking whether it needs it: in JSON within a string, escapes
/// are too near each other for a search from one to the next to pay.
fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    let mut done = 0;
    for (i, block) in blocks.iter().enumerate() {
        // Without a branch per byte the compiler compares whole vectors.
        if block
            .iter()
            .fold(false, |any, &byte| any | needs_escape(byte))
        {
            out.extend_from_slice(&text[done..i * BLOCK]);
            put_replaced(out, block);
            done = (i + 1) * BLOCK;
        }
    }
    out.extend_from_slice(&text[done..text.len() - rest.len()]);
    put_replaced(out, rest);
}

const BLOCK: usize = 32;

/// `text` is a block or less.
fn put_replaced(out: &mut Vec<u8>, text: &[u8]) {
    let mut replaced = [0; BLOCK * LONGEST_ESCAPE + 8];
    let mut len = 0;
    for &byte in text {
        let entry = ESCAPED[usize::from(byte)];
        // All eight, of which the next byte's overwrite those that don't count.
        replaced[len..len + 8].copy_from_slice(&entry);
        len += usize::from(entry[7]);
    }
    out.extend_from_slice(&replaced[..len]);
}

const LONGEST_ESCAPE: usize = 6;

/// What stands for a byte within a JSON string; the last of the eight is how many count.
const ESCAPED: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = escaped(byte as u8);
        byte += 1;
    }
    table
};

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

const fn escaped(byte: u8) -> [u8; 8] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if !needs_escape(byte) {
        return [byte, 0, 0, 0, 0, 0, 0, 1];
    }
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        _ => {
            let (high, low) = (HEX[(byte >> 4) as usize], HEX[(byte & 0xf) as usize]);
            return [b'\\', b'u', b'0', b'0', high, low, 0, 6];
        }
    };
    [b'\\', letter, 0, 0, 0, 0, 0, 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    type Framed = Result<(u8, Vec<u8>), NotText>;

    /// The opcode and payload of the one frame that is appended behind what was there.
    fn framed(wire: Wire, channel: &[u8], pattern: Option<&[u8]>, payload: &[u8]) -> Framed {
        let mut out = b"before".to_vec();
        let outcome = wire.append(channel, pattern, payload, &mut None, &mut out);
        let frame = out.strip_prefix(b"before").unwrap();
        if let Err(refused) = outcome {
            assert_eq!(frame, b"", "a refused message left bytes");
            return Err(refused);
        }
        let (header_len, len) = match frame[1] {
            127 => (
                10,
                u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
            ),
            126 => (
                4,
                u16::from_be_bytes(frame[2..4].try_into().unwrap()).into(),
            ),
            short => (2, short.into()),
        };
        assert_eq!(frame[0] & 0xf0, 0x80);
        assert_eq!(frame.len(), header_len + len);
        assert_eq!(header_len, frame::header_len(len));
        Ok((frame[0] & 0xf, frame[header_len..].to_vec()))
    }

    fn wire(envelope: Envelope, frame: FrameKind) -> Wire {
        Wire { envelope, frame }
    }

    const FRAMES: [FrameKind; 3] = [FrameKind::Auto, FrameKind::Text, FrameKind::Binary];

    #[test]
    fn off_sends_the_payload_as_the_kind_of_frame_says() {
        for (frame, payload, want) in [
            (FrameKind::Auto, "hé".as_bytes(), Ok(1)),
            (FrameKind::Auto, b"\xff", Ok(2)),
            (FrameKind::Auto, b"", Ok(1)),
            (FrameKind::Text, "hé".as_bytes(), Ok(1)),
            (FrameKind::Text, b"\xc3", Err(NotText)),
            (FrameKind::Binary, b"h", Ok(2)),
            (FrameKind::Binary, b"\xff", Ok(2)),
        ] {
            let got = framed(wire(Envelope::Off, frame), b"\xff", None, payload);
            assert_eq!(
                got,
                want.map(|opcode| (opcode, payload.to_vec())),
                "{frame:?} {payload:?}"
            );
        }
    }

    #[test]
    fn envelopes_are_as_documented() {
        for (envelope, pattern, want) in [
            (Envelope::Json, None, r#"{"channel":"foo","data":"hello"}"#),
            (
                Envelope::Json,
                Some("f*"),
                r#"{"pattern":"f*","channel":"foo","data":"hello"}"#,
            ),
            (Envelope::Redis, None, r#"["message","foo","hello"]"#),
            (
                Envelope::Redis,
                Some("f*"),
                r#"["pmessage","f*","foo","hello"]"#,
            ),
        ] {
            for (frame, opcode) in FRAMES.into_iter().zip([1, 1, 2]) {
                let pattern = pattern.map(str::as_bytes);
                let got = framed(wire(envelope, frame), b"foo", pattern, b"hello");
                assert_eq!(got, Ok((opcode, want.into())), "{envelope:?} {frame:?}");
            }
        }
    }

    #[test]
    fn json_in_the_payload_stays_a_string() {
        let (_, got) = framed(
            wire(Envelope::Json, FrameKind::Auto),
            b"c",
            None,
            br#"{"a":7}"#,
        )
        .unwrap();
        assert_eq!(got, br#"{"channel":"c","data":"{\"a\":7}"}"#);
    }

    #[test]
    fn what_is_not_utf8_is_base64_unless_the_frame_must_be_text() {
        for (channel, pattern, payload, want) in [
            (
                &b"c"[..],
                None,
                &b"\xff"[..],
                r#"["message","c",{"base64":"/w=="}]"#,
            ),
            (b"\xff", None, b"x", r#"["message",{"base64":"/w=="},"x"]"#),
            (
                b"c",
                Some(&b"\xff*"[..]),
                b"x",
                r#"["pmessage",{"base64":"/yo="},"c","x"]"#,
            ),
        ] {
            let framed = |frame| framed(wire(Envelope::Redis, frame), channel, pattern, payload);
            assert_eq!(framed(FrameKind::Auto), Ok((1, want.into())));
            assert_eq!(framed(FrameKind::Binary), Ok((2, want.into())));
            assert_eq!(framed(FrameKind::Text), Err(NotText));
        }
    }

    #[test]
    fn the_cached_answer_is_kept_and_trusted() {
        let (mut utf8, mut out) = (None, Vec::new());
        let auto = Wire::default();
        auto.append(b"c", None, b"\xff", &mut utf8, &mut out)
            .unwrap();
        assert_eq!(utf8, Some(false));
        let text = wire(Envelope::Off, FrameKind::Text);
        assert_eq!(
            text.append(b"c", None, b"\xff", &mut utf8, &mut out),
            Err(NotText)
        );
        let binary = wire(Envelope::Off, FrameKind::Binary);
        let mut unasked = None;
        binary
            .append(b"c", None, b"\xff", &mut unasked, &mut out)
            .unwrap();
        assert_eq!(unasked, None, "a binary frame needs no check");
    }

    #[test]
    fn every_length_around_a_longer_header_is_framed_right() {
        for len in (0..300).chain(65_440..65_540) {
            // Escapes lengthen the body beyond what was guessed.
            for filling in ["x", "\"", "\u{1}"] {
                let payload = filling.repeat(len);
                let auto = wire(Envelope::Redis, FrameKind::Auto);
                let (_, got) = framed(auto, b"c", None, payload.as_bytes()).unwrap();
                if len % 50 == 0 {
                    let got: Value = serde_json::from_slice(&got).unwrap();
                    assert_eq!(got, json!(["message", "c", payload]));
                }
            }
        }
    }

    #[test]
    fn every_ascii_character_is_escaped_as_serde_json_does_at_every_place() {
        for byte in 0..0x80u8 {
            for at in [0, 1, 31, 32, 33, 64, 70] {
                let text = format!("{}{}{}", "a".repeat(at), char::from(byte), "z".repeat(40));
                let mut out = Vec::new();
                put_string(&mut out, text.as_bytes(), true);
                assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{byte:#x} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_escaped_as_serde_json_does(text in any::<String>()) {
            let mut out = Vec::new();
            put_string(&mut out, text.as_bytes(), true);
            prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }

        #[test]
        fn any_message_can_be_read_back_from_its_envelope(
            channel in prop::collection::vec(any::<u8>(), 1..8),
            pattern in prop::option::of("\\PC{1,8}"),
            payload in prop_oneof![
                "\\PC{0,200}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
        ) {
            let form = |bytes: &[u8]| match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
            };
            let mut want = json!({ "channel": form(&channel), "data": form(&payload) });
            if let Some(pattern) = &pattern {
                want["pattern"] = json!(pattern);
            }
            let auto = wire(Envelope::Json, FrameKind::Auto);
            let pattern = pattern.as_deref().map(str::as_bytes);
            let (opcode, got) = framed(auto, &channel, pattern, &payload).unwrap();
            prop_assert_eq!(opcode, 1);
            prop_assert_eq!(serde_json::from_slice::<Value>(&got).unwrap(), want);
        }
    }
}
