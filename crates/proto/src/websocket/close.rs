//! The close handshake (RFC 6455, 5.5.1 and 7.4).

pub use super::close_code::CloseCode;
use super::frame::{ControlFrame, MAX_CONTROL, Opcode};
use super::misbehaved::Misbehaved;

/// A Close with `code` and as much of `reason` as fits: 123 bytes, cut between code points.
pub fn frame(code: CloseCode, reason: &str) -> ControlFrame {
    let cut = (0..=reason.len().min(MAX_CONTROL - 2))
        .rev()
        .find(|&at| reason.is_char_boundary(at));
    let reason = &reason.as_bytes()[..cut.unwrap_or(0)];
    let mut body = [0; MAX_CONTROL];
    body[..2].copy_from_slice(&code.get().to_be_bytes());
    body[2..2 + reason.len()].copy_from_slice(reason);
    ControlFrame::new(Opcode::Close, &body[..2 + reason.len()])
}

/// The content of a client's Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReceived {
    /// The code. `None` if the body was empty, which RFC 6455, 7.1.5 calls 1005.
    pub code: Option<CloseCode>,
}

impl CloseReceived {
    /// Parses the unmasked body of a Close.
    ///
    /// # Errors
    /// The body has one byte, a code that must not be sent, or a reason that is not UTF-8.
    pub fn parse(body: &[u8]) -> Result<Self, Misbehaved> {
        let Some((&code, reason)) = body.split_first_chunk() else {
            return if body.is_empty() {
                Ok(Self { code: None })
            } else {
                Err(Misbehaved::ShortClose)
            };
        };
        let code = u16::from_be_bytes(code);
        let code = CloseCode::new(code).ok_or(Misbehaved::BadCloseCode(code))?;
        simdutf8::basic::from_utf8(reason).map_err(|_| Misbehaved::InvalidUtf8)?;
        Ok(Self { code: Some(code) })
    }

    /// The Close in reply: its code, or an empty body (RFC 6455, 5.5.1).
    pub fn reply(self) -> ControlFrame {
        match self.code {
            Some(code) => frame(code, ""),
            None => ControlFrame::new(Opcode::Close, &[]),
        }
    }
}
