//! One HTTP/2 request with prior knowledge (RFC 9113, 3.3), to learn the status of its response.

use super::stream::Stream;
use std::io::{Read, Write};
use std::net::SocketAddr;

/// Sends a GET with these header fields and returns the status of the response.
///
/// # Panics
/// If the response is not an HTTP/2 response.
pub fn get(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> u16 {
    request(address, "GET", path, fields, b"").0
}

/// The same, with the body of the response.
///
/// # Panics
/// As [`get`].
pub fn get_body(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let (status, mut stream) = request(address, "GET", path, fields, b"");
    let mut body = Vec::new();
    loop {
        let (kind, flags, payload) = next_frame(&mut stream);
        if kind == DATA {
            body.extend(payload);
            if flags & END_STREAM != 0 {
                return (status, String::from_utf8(body).expect("UTF-8"));
            }
        }
    }
}

/// The same for a POST. Its length is sent only if `fields` contains it. The body must not exceed
/// what a server accepts before it reads: 65,535 bytes (RFC 9113, 6.9.2).
///
/// # Panics
/// As [`get`].
pub fn post(address: SocketAddr, path: &str, fields: &[(&str, &str)], body: &[u8]) -> u16 {
    request(address, "POST", path, fields, body).0
}

/// The status, and the stream from which the rest of the response can be read.
fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> (u16, Stream) {
    let mut stream = Stream::plain(address).expect("a connection");
    let mut block = Vec::new();
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost"),
    ];
    for (name, value) in pseudo.iter().chain([(":path", path)].iter()).chain(fields) {
        literal(&mut block, name, value);
    }
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    let ends = |is_last| if is_last { END_STREAM } else { 0 };
    frame(
        &mut out,
        HEADERS,
        END_HEADERS | ends(body.is_empty()),
        1,
        &block,
    );
    let mut pieces = body.chunks(MAX_FRAME).peekable();
    while let Some(piece) = pieces.next() {
        frame(&mut out, DATA, ends(pieces.peek().is_none()), 1, piece);
    }
    stream.write_all(&out).expect("a request");
    loop {
        let (kind, _, payload) = next_frame(&mut stream);
        match kind {
            HEADERS => return (status(&payload), stream),
            RST_STREAM | GOAWAY => panic!("refused by frame type {kind}: {payload:?}"),
            _ => {}
        }
    }
}

/// The default `SETTINGS_MAX_FRAME_SIZE` (RFC 9113, 6.5.2).
const MAX_FRAME: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A field without indexing and without Huffman coding (RFC 7541, 6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    assert!(
        name.len() < 127 && value.len() < 127,
        "one length byte each"
    );
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Kind, flags, payload.
fn next_frame(stream: &mut Stream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame of HTTP/2");
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream
        .read_exact(&mut payload)
        .expect("the frame's payload");
    (head[3], head[4], payload)
}

/// The first field is `:status`, possibly after a table size update. It is either fully indexed
/// (RFC 7541, appendix A), or has an indexed name and three literal digits.
fn status(block: &[u8]) -> u16 {
    let begin = block.iter().position(|byte| *byte & 0xe0 != 0x20);
    let block = &block[begin.expect("a header block")..];
    if let [0x08 | 0x48, 3, digits @ ..] = block {
        let digits = std::str::from_utf8(&digits[..3]).expect("digits");
        return digits.parse().expect("a status");
    }
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => panic!("another status: {block:02x?}"),
    }
}
