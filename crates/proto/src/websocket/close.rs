//! The close handshake (RFC 6455, 5.5.1 and 7.4).

use super::frame::{ControlFrame, MAX_CONTROL, Opcode};
use super::misbehaved::Misbehaved;

/// A code that may stand in a Close. 1004, 1005, 1006, 1015, and all that neither the RFC, IANA's
/// registry nor an application may use, can't be built (RFC 6455, 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: its purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the client broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of message that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: the content is not what its kind says, as text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: refused by a rule that has no code of its own.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message or frame beyond the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the server's own fault.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server restarts; come back soon.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: too much load; come back later.
    pub const TRY_AGAIN: Self = Self(1013);

    /// The code, if it may be sent.
    pub fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A Close with `code` and as much of `reason` as fits: 123 bytes, cut between code points.
pub fn frame(code: CloseCode, reason: &str) -> ControlFrame {
    let cut = (0..=reason.len().min(MAX_CONTROL - 2))
        .rev()
        .find(|&at| reason.is_char_boundary(at));
    let reason = &reason.as_bytes()[..cut.unwrap_or(0)];
    let mut body = [0; MAX_CONTROL];
    body[..2].copy_from_slice(&code.0.to_be_bytes());
    body[2..2 + reason.len()].copy_from_slice(reason);
    ControlFrame::new(Opcode::Close, &body[..2 + reason.len()])
}

/// What a client's Close said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReceived {
    /// The code; `None` if the body was empty, what RFC 6455, 7.1.5 calls 1005.
    pub code: Option<CloseCode>,
}

impl CloseReceived {
    /// Reads the unmasked body of a Close.
    ///
    /// # Errors
    /// A body of one byte, a code that must not be sent, a reason that is not UTF-8.
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

    /// The Close that answers it: its code, or an empty body (RFC 6455, 5.5.1).
    pub fn reply(self) -> ControlFrame {
        match self.code {
            Some(code) => frame(code, ""),
            None => ControlFrame::new(Opcode::Close, &[]),
        }
    }
}
