//! The code and reason of an end, for framings without a Close.

use crate::payload::put_string;
use crate::websocket::close::CloseCode;

/// Appends `{"code":…,"reason":"…"}`.
pub(super) fn put(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"code\":{},\"reason\":", code.get()).as_bytes());
    put_string(out, reason.as_bytes(), true);
    out.push(b'}');
}
