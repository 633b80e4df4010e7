//! Protocol violations of a connected client, and the Close that answers each.

use std::fmt;

use super::close_code::CloseCode;
use super::utf8::InvalidUtf8;

/// A client's violation. The connection can only be closed, with [`Misbehaved::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaved {
    /// RSV1, RSV2 or RSV3 without an extension that defines it (RFC 6455, 5.2), or RSV1 on a frame
    /// other than a message's first (RFC 7692, 6).
    ReservedBits,
    /// An opcode of 3 to 7 or 11 to 15 (5.2).
    ReservedOpcode(u8),
    /// A client's frame without a mask (5.1).
    Unmasked,
    /// A length in more bytes than needed, or of 2^63 or more (5.2).
    BadLength,
    /// A control frame of more than 125 bytes (5.5).
    LongControl,
    /// A control frame without FIN (5.5).
    FragmentedControl,
    /// A continuation frame outside a message (5.4).
    LoneContinuation,
    /// A new message within another (5.4).
    InterleavedMessage,
    /// A Close whose body is a single byte (5.5.1).
    ShortClose,
    /// A Close with a code that must not be sent (7.4).
    BadCloseCode(u16),
    /// A text, or a Close's reason, that is not UTF-8 (8.1).
    InvalidUtf8,
    /// A frame that announces more bytes than `max_frame` (10.4).
    FrameTooBig {
        /// The announced size in bytes.
        announced: u64,
    },
    /// A message that would exceed `max_message` bytes (10.4).
    MessageTooBig {
        /// The message's bytes so far plus those that the header announces.
        announced: u64,
    },
    /// A compressed message that inflates to more bytes than `max_message` (10.4).
    MessageInflatesTooBig {
        /// `max_message`. Nothing beyond it was inflated.
        limit: u64,
    },
    /// A compressed message that is not DEFLATE, or is incomplete DEFLATE (RFC 7692, 7.2.2).
    InvalidDeflate,
}

impl Misbehaved {
    /// The code of the Close in reply (RFC 6455, 7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::BadLength
            | Self::LongControl
            | Self::FragmentedControl
            | Self::LoneContinuation
            | Self::InterleavedMessage
            | Self::ShortClose
            | Self::BadCloseCode(_) => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::INVALID_DATA,
            Self::FrameTooBig { .. }
            | Self::MessageTooBig { .. }
            | Self::MessageInflatesTooBig { .. } => CloseCode::TOO_BIG,
        }
    }
}

impl fmt::Display for Misbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("client sent frame with reserved bits"),
            Self::ReservedOpcode(opcode) => {
                write!(f, "client sent frame with reserved opcode {opcode}")
            }
            Self::Unmasked => f.write_str("client sent unmasked frame"),
            Self::BadLength => f.write_str("client sent frame with invalid length"),
            Self::LongControl => f.write_str("client sent too long control frame"),
            Self::FragmentedControl => f.write_str("client sent fragmented control frame"),
            Self::LoneContinuation => f.write_str("client sent continuation of no message"),
            Self::InterleavedMessage => f.write_str("client sent message within another"),
            Self::ShortClose => f.write_str("client sent close frame of one byte"),
            Self::BadCloseCode(code) => write!(f, "client sent invalid close code {code}"),
            Self::InvalidUtf8 => f.write_str("client sent text that is not UTF-8"),
            Self::FrameTooBig { announced } => {
                write!(
                    f,
                    "client intended to send too large frame: {announced} bytes"
                )
            }
            Self::MessageTooBig { announced } => {
                write!(
                    f,
                    "client intended to send too large message: {announced} bytes"
                )
            }
            Self::MessageInflatesTooBig { limit } => {
                write!(
                    f,
                    "client sent compressed message of more than {limit} bytes"
                )
            }
            Self::InvalidDeflate => f.write_str("client sent message that can't be inflated"),
        }
    }
}

impl std::error::Error for Misbehaved {}

impl From<InvalidUtf8> for Misbehaved {
    fn from(InvalidUtf8: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}
