//! What a client is told of a message, however it is framed: the message itself, or an envelope
//! around it.
//!
//! | envelope | payload |
//! | --- | --- |
//! | off | the message as it is |
//! | json | `{"channel":"foo","data":"hello"}`, of a pattern `{"pattern":"f*","channel":"foo","data":"hello"}` |
//! | redis | `["message","foo","hello"]`, of a pattern `["pmessage","f*","foo","hello"]` |
//!
//! `data` is always a string, even if the message itself is JSON: what a publisher sends never
//! changes the envelope's shape. Bytes that are not UTF-8 cannot be part of JSON, so such a name or
//! payload becomes `{"base64":"…"}`.
//!
//! `framing` defines how payloads are delimited, and how a client is told why its stream ends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What surrounds a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Envelope {
    /// Nothing.
    #[default]
    Off,
    /// An object with the channel, and the pattern if there is one.
    Json,
    /// An array like the one that Redis pushes.
    Redis,
}

/// A published message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The channel it was published to.
    pub channel: &'a [u8],
    /// The pattern that matched.
    pub pattern: Option<&'a [u8]>,
    /// What was published.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// Whether the payload is UTF-8. `utf8` caches the answer between calls; start with `None`.
    #[inline(always)]
    pub fn is_text(self, utf8: &mut Option<bool>) -> bool {
        *utf8.get_or_insert_with(|| is_utf8(self.payload))
    }

    /// Whether its names are UTF-8.
    pub fn has_text_names(self) -> bool {
        is_utf8(self.channel) && self.pattern.is_none_or(is_utf8)
    }
}

impl Envelope {
    /// Appends what a client is told of a message.
    #[inline]
    pub fn append(self, message: Message<'_>, utf8: &mut Option<bool>, out: &mut Vec<u8>) {
        match self {
            Envelope::Off => out.extend_from_slice(message.payload),
            Envelope::Json => OBJECT.put(message, utf8, out),
            Envelope::Redis => ARRAY.put(message, utf8, out),
        }
    }
}

/// Usual space for an envelope's names and the punctuation around them.
pub const USUAL_NAMES: usize = 64;

/// What stands around the strings of an envelope.
struct Punctuation {
    /// Before the channel, without a pattern.
    begin: &'static [u8],
    /// Before the pattern, and after it.
    pattern: [&'static [u8]; 2],
    /// Before the payload.
    payload: &'static [u8],
    end: &'static [u8],
}

const OBJECT: Punctuation = Punctuation {
    begin: b"{\"channel\":",
    pattern: [b"{\"pattern\":", b",\"channel\":"],
    payload: b",\"data\":",
    end: b"}",
};

const ARRAY: Punctuation = Punctuation {
    begin: b"[\"message\",",
    pattern: [b"[\"pmessage\",", b","],
    payload: b",",
    end: b"]",
};

impl Punctuation {
    fn put(&self, message: Message<'_>, utf8: &mut Option<bool>, out: &mut Vec<u8>) {
        if let Some(pattern) = message.pattern {
            out.extend_from_slice(self.pattern[0]);
            put_string(out, pattern, is_utf8(pattern));
            out.extend_from_slice(self.pattern[1]);
        } else {
            out.extend_from_slice(self.begin);
        }
        put_string(out, message.channel, is_utf8(message.channel));
        out.extend_from_slice(self.payload);
        put_string(out, message.payload, message.is_text(utf8));
        out.extend_from_slice(self.end);
    }
}

#[inline(always)]
fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Appends a JSON string, or the object that replaces one that is not UTF-8.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8], is_utf8: bool) {
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

/// RFC 8259, 7: only the quotation mark, the backslash and all bytes below a space must be escaped.
///
/// Text is processed in blocks. A block without such a byte is copied. In any other block every
/// byte is replaced by its [`ESCAPED`] entry, without testing whether it needs that: in JSON within
/// a string, escapes are too close together for a search from one to the next to pay.
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

/// `text` is at most one block.
fn put_replaced(out: &mut Vec<u8>, text: &[u8]) {
    let mut replaced = [0; BLOCK * LONGEST_ESCAPE + 8];
    let mut len = 0;
    for &byte in text {
        let entry = ESCAPED[usize::from(byte)];
        // Copies all eight bytes. The next entry overwrites those beyond the length.
        replaced[len..len + 8].copy_from_slice(&entry);
        len += usize::from(entry[7]);
    }
    out.extend_from_slice(&replaced[..len]);
}

const LONGEST_ESCAPE: usize = 6;

/// The replacement of each byte in a JSON string. The last of the eight bytes is the length.
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
    }
}
