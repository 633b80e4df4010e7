//! Close codes (RFC 6455, 7.4).

/// A code that may be sent in a Close. 1004, 1005, 1006, 1015, and codes that neither the RFC,
/// IANA's registry nor an application may use, can't be built (RFC 6455, 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server is going down.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the client broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: this kind of message is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: the content does not match its kind, such as text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: refused by a policy that has no code of its own.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message or frame exceeds the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: an error of the server.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server restarts; reconnect soon.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: overload; reconnect later.
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
