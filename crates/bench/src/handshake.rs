//! The opening handshake, as short as each side can make it (RFC 6455, 4).
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to `KEY`: the example of RFC 6455, 1.3.
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const END: &[u8] = b"\r\n\r\n";

/// A client's request for `path`, with `extra` header lines, each ended by CRLF.
pub fn request(path: &str, extra: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
    )
    .into_bytes()
}

/// Appends a server's 101 for a request. `None` if it has no key.
pub fn answer(request: &[u8], out: &mut Vec<u8>) -> Option<()> {
    const NAME: &[u8] = b"Sec-WebSocket-Key: ";
    let key = memchr::memmem::find(request, NAME)? + NAME.len();
    let mut hash = Sha1::new();
    hash.update(request.get(key..key + 24)?);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    STANDARD.encode_slice(hash.finalize(), &mut accept).ok()?;
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept);
    out.extend_from_slice(END);
    Some(())
}

/// Whether a request is complete.
pub fn is_whole(request: &[u8]) -> bool {
    request.ends_with(END)
}

/// The length of the head of a server's answer. `Ok(None)` while it is incomplete.
///
/// # Errors
/// The answer is not the 101 to [`request`]. The error has its first line.
pub fn head_len(answer: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memmem::find(answer, END) else {
        return Ok(None);
    };
    if answer.starts_with(b"HTTP/1.1 101") && memchr::memmem::find(answer, ACCEPT).is_some() {
        return Ok(Some(end + END.len()));
    }
    let line = answer
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    Err(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_loops_is_what_the_load_expects() {
        let request = request("/ws", "Cookie: a=b\r\n");
        assert!(is_whole(&request));
        let mut bytes = Vec::new();
        answer(&request, &mut bytes).unwrap();
        assert_eq!(head_len(&bytes), Ok(Some(bytes.len())));
        assert_eq!(head_len(&bytes[..bytes.len() - 1]), Ok(None));
    }

    #[test]
    fn another_status_or_accept_is_an_error() {
        let refused = b"HTTP/1.1 503 Service Temporarily Unavailable\r\n\r\n";
        assert_eq!(
            head_len(refused),
            Err("HTTP/1.1 503 Service Temporarily Unavailable".to_owned())
        );
        assert!(head_len(b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: x\r\n\r\n").is_err());
    }
}
