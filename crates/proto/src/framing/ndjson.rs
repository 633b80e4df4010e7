//! Messages as lines of JSON, for `fetch` and for programs.

use crate::payload::{Envelope, Message, USUAL_NAMES, put_string};
use crate::websocket::close::CloseCode;

use super::ending_object;

/// Appends a message as one line. Without an envelope it is a string, or `{"base64":"…"}` if it is
/// not UTF-8. JSON contains no line end.
pub(super) fn append(
    envelope: Envelope,
    message: Message<'_>,
    utf8: &mut Option<bool>,
    out: &mut Vec<u8>,
) {
    out.reserve(message.payload.len() + 2 * USUAL_NAMES);
    match envelope {
        Envelope::Off => put_string(out, message.payload, message.is_text(utf8)),
        Envelope::Json | Envelope::Redis => envelope.append(message, utf8, out),
    }
    out.push(b'\n');
}

/// An empty line, sent to a silent client.
pub(super) const KEEP_ALIVE: &[u8] = b"\n";

/// The last line: `{"close":{"code":…,"reason":"…"}}`.
pub(super) fn ending(code: CloseCode, reason: &str) -> Vec<u8> {
    let mut out = b"{\"close\":".to_vec();
    ending_object::put(code, reason, &mut out);
    out.extend_from_slice(b"}\n");
    out
}
