//! Messages as server-sent events (WHATWG HTML, 9.2).
//!
//! A reader of the stream ends a line at LF, CR LF or a lone CR. So a payload is split at each of
//! them, and every line gets its own `data:`; otherwise a payload could add fields of its own. The
//! client receives LF in their place.

use crate::payload::{Envelope, Message, USUAL_NAMES};
use crate::websocket::close::CloseCode;

use super::ending_object;
use super::not_text::NotText;

/// Appends a message as one event.
///
/// # Errors
/// The payload, or a name in its envelope, is not UTF-8, which an event stream must be. `out` is
/// then unchanged.
pub(super) fn append(
    envelope: Envelope,
    message: Message<'_>,
    utf8: &mut Option<bool>,
    out: &mut Vec<u8>,
) -> Result<(), NotText> {
    if envelope == Envelope::Off {
        if !message.is_text(utf8) {
            return Err(NotText);
        }
        put_data(message.payload, out);
    } else {
        // JSON contains no line end: control characters are escaped.
        out.reserve(message.payload.len() + 2 * USUAL_NAMES);
        out.extend_from_slice(b"data: ");
        envelope.append(message, utf8, out);
        out.push(b'\n');
    }
    out.push(b'\n');
    Ok(())
}

fn put_data(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 16);
    let mut rest = text;
    loop {
        out.extend_from_slice(b"data: ");
        let end = memchr::memchr2(b'\n', b'\r', rest);
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else {
            return;
        };
        let ending = if rest[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = &rest[end + ending..];
    }
}

/// A comment. Clients ignore it, but it passes through every proxy.
pub(super) const KEEP_ALIVE: &[u8] = b":\n\n";

/// An event `close` with code and reason, the last of the stream.
pub(super) fn ending(code: CloseCode, reason: &str) -> Vec<u8> {
    let mut out = b"event: close\ndata: ".to_vec();
    ending_object::put(code, reason, &mut out);
    out.extend_from_slice(b"\n\n");
    out
}
