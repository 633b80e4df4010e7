//! What clients send.

use std::fmt;

use proto::websocket::connection::MessageKind;
use proto::websocket::frame::{self, Opcode};
use proto::websocket::mask::Mask;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's byte stream, how it arrives, and the messages in it.
#[derive(Clone)]
pub struct Row {
    pub name: &'static str,
    pub stream: Vec<u8>,
    /// A read gives at most this many bytes.
    pub read_bytes: usize,
    pub messages: Vec<(MessageKind, Vec<u8>)>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A message in one frame, repeated to fill 16 KiB, at least once. The stream arrives in one read.
fn whole(name: &'static str, kind: MessageKind, payload: Vec<u8>) -> Row {
    let times = (16 << 10) / (payload.len() + 8);
    let messages = vec![(kind, payload); times.max(1)];
    let mut stream = Vec::new();
    for (kind, payload) in &messages {
        append_masked(&mut stream, 0x80 | opcode(*kind) as u8, payload);
    }
    Row {
        name,
        read_bytes: stream.len(),
        stream,
        messages,
    }
}

/// One message in this many frames.
fn fragmented(name: &'static str, kind: MessageKind, payload: Vec<u8>, fragments: usize) -> Row {
    let mut stream = Vec::new();
    let mut pieces = payload.chunks(payload.len().div_ceil(fragments)).peekable();
    let mut first = opcode(kind) as u8;
    while let Some(piece) = pieces.next() {
        let fin = if pieces.peek().is_none() { 0x80 } else { 0 };
        append_masked(&mut stream, fin | first, piece);
        first = Opcode::Continuation as u8;
    }
    Row {
        name,
        read_bytes: stream.len(),
        stream,
        messages: vec![(kind, payload)],
    }
}

/// Appends a masked frame with this first byte.
fn append_masked(stream: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let (mut header, len) = frame::header(true, false, Opcode::Text, payload.len());
    header[0] = first;
    header[1] |= 0x80;
    stream.extend_from_slice(&header[..len]);
    stream.extend_from_slice(&KEY);
    let begin = stream.len();
    stream.extend_from_slice(payload);
    Mask::new(KEY).apply(&mut stream[begin..]);
}

fn opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

/// This many bytes of English.
pub fn ascii(bytes: usize) -> Vec<u8> {
    let mut text = "The quick brown fox jumps over the lazy dog. ".repeat(bytes / 45 + 1);
    text.truncate(bytes);
    text.into()
}

/// This many bytes of Greek and Japanese.
pub fn multibyte(bytes: usize) -> Vec<u8> {
    let mut text = "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία. いろはにほへと ".repeat(bytes / 88 + 1);
    let end = (0..=bytes).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
    text.push_str(&"."[..].repeat(bytes - text.len()));
    text.into()
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect()
}

/// The rows of receiving.
pub fn receive_rows() -> Vec<Row> {
    let piecemeal = |name, row: Row| Row {
        name,
        read_bytes: 16 << 10,
        ..row
    };
    vec![
        whole("16 B text", MessageKind::Text, ascii(16)),
        whole("128 B text", MessageKind::Text, ascii(128)),
        whole("128 B binary", MessageKind::Binary, noise(128)),
        whole("4 KiB text", MessageKind::Text, ascii(4 << 10)),
        whole(
            "4 KiB multi-byte text",
            MessageKind::Text,
            multibyte(4 << 10),
        ),
        whole("4 KiB binary", MessageKind::Binary, noise(4 << 10)),
        whole("64 KiB text", MessageKind::Text, ascii(64 << 10)),
        whole(
            "64 KiB multi-byte text",
            MessageKind::Text,
            multibyte(64 << 10),
        ),
        whole("64 KiB binary", MessageKind::Binary, noise(64 << 10)),
        whole("1 MiB text", MessageKind::Text, ascii(1 << 20)),
        whole(
            "1 MiB multi-byte text",
            MessageKind::Text,
            multibyte(1 << 20),
        ),
        whole("1 MiB binary", MessageKind::Binary, noise(1 << 20)),
        fragmented(
            "64 fragments of 64 B text",
            MessageKind::Text,
            ascii(4 << 10),
            64,
        ),
        fragmented(
            "64 fragments of 1 KiB multi-byte text",
            MessageKind::Text,
            multibyte(64 << 10),
            64,
        ),
        piecemeal(
            "64 KiB text, 16 KiB reads",
            whole("", MessageKind::Text, ascii(64 << 10)),
        ),
        piecemeal(
            "256 KiB text, 16 KiB reads",
            whole("", MessageKind::Text, ascii(256 << 10)),
        ),
        piecemeal(
            "1 MiB binary, 16 KiB reads",
            whole("", MessageKind::Binary, noise(1 << 20)),
        ),
    ]
}

/// The rows of echoing.
pub fn echo_rows() -> Vec<Row> {
    vec![
        whole("128 B text", MessageKind::Text, ascii(128)),
        whole("16 KiB text", MessageKind::Text, ascii(16 << 10)),
        whole("64 KiB binary", MessageKind::Binary, noise(64 << 10)),
    ]
}

impl Row {
    /// The number of bytes in all payloads.
    pub fn payload_bytes(&self) -> usize {
        self.messages.iter().map(|(_, payload)| payload.len()).sum()
    }

    /// The same messages, as a server sends them.
    pub fn as_server_frames(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        for (kind, payload) in &self.messages {
            frame::append(&mut frames, opcode(*kind), payload);
        }
        frames
    }

    /// A text with one bad byte among good ones.
    pub fn of_one_text_that_is_not_utf8() -> Self {
        let mut text = ascii(300);
        text[200] = 0xff;
        whole("bad text", MessageKind::Text, text)
    }

    /// A browser's opening handshake, with the key of RFC 6455, 1.3.
    pub fn request() -> Self {
        let stream = b"GET /ws?channel=foo HTTP/1.1\r\n\
            Host: www.example.com\r\n\
            Connection: Upgrade\r\n\
            Pragma: no-cache\r\n\
            Cache-Control: no-cache\r\n\
            User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
            Upgrade: websocket\r\n\
            Origin: https://www.example.com\r\n\
            Sec-WebSocket-Version: 13\r\n\
            Accept-Encoding: gzip, deflate, br, zstd\r\n\
            Accept-Language: en-US,en;q=0.9\r\n\
            Cookie: session=0123456789abcdef0123456789abcdef\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            \r\n"
            .to_vec();
        Self {
            name: "request",
            read_bytes: stream.len(),
            stream,
            messages: Vec::new(),
        }
    }
}
