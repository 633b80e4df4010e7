//! Frame headers (RFC 6455, 5.2): parsing those of clients, writing those of the server.

use std::ops::Deref;

use super::mask::Mask;
use super::misbehaved::Misbehaved;

/// The longest header of a client's frame: two bytes, a 64-bit length, the mask.
pub const MAX_CLIENT_HEADER: usize = 14;
/// The longest header of a server's frame: two bytes, a 64-bit length.
pub const MAX_SERVER_HEADER: usize = 10;
/// The longest payload of a control frame (RFC 6455, 5.5).
pub const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// The type of a frame (RFC 6455, 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of the current message.
    Continuation = 0,
    /// A message of UTF-8 text, or its first part.
    Text = 1,
    /// A message of bytes, or its first part.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A request for a Pong.
    Ping = 9,
    /// The answer to a Ping, or an unsolicited keep-alive.
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is a Close, Ping or Pong, which may come between a message's fragments (RFC 6455,
    /// 5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// RSV1, an extension's bit. The caller checks it.
    pub rsv1: bool,
    /// The type of the frame.
    pub opcode: Opcode,
    /// The payload's length in bytes, below 2^63.
    pub payload: u64,
    /// The mask, at the payload's first byte.
    pub mask: Mask,
}

impl Header {
    /// Parses a client's header at the start of `bytes`. Returns the header and its own length, or
    /// `None` if more bytes are needed. Each byte is checked as soon as it is there.
    ///
    /// A length in more bytes than needed is refused: "the minimal number of bytes MUST be used"
    /// (RFC 6455, 5.2). Browsers refuse such frames from a server, too.
    ///
    /// # Errors
    /// The violation in the bytes so far.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Misbehaved> {
        match Self::parse_usual(bytes) {
            Some(parsed) => Ok(Some(parsed)),
            None => Self::parse_any(bytes),
        }
    }

    /// [`parse`](Self::parse) for most headers: no error, a payload below 64 KiB, and eight bytes
    /// available.
    #[inline(always)]
    pub(super) fn parse_usual(bytes: &[u8]) -> Option<(Self, usize)> {
        // One load and shifts of it: parts that go through memory would stall.
        let begin = u64::from_le_bytes(*bytes.first_chunk()?);
        let (first, second) = (begin as u8, (begin >> 8) as u8);
        let (fin, opcode) = (first & FIN != 0, Opcode::from_bits(first & 0x0f)?);
        let is_control = opcode.is_control();
        if second & MASKED == 0 || first & RSV2_RSV3 != 0 || (is_control && !fin) {
            return None;
        }
        let header = |payload, mask: u64| Self {
            fin,
            rsv1: first & RSV1 != 0,
            opcode,
            payload,
            mask: Mask::new((mask as u32).to_le_bytes()),
        };
        let short = second & !MASKED;
        if short < 126 {
            return Some((header(short.into(), begin >> 16), 6));
        }
        let payload = ((begin >> 16) as u16).swap_bytes();
        let is_right = short == 126 && payload >= 126 && !is_control;
        is_right.then(|| (header(payload.into(), begin >> 32), 8))
    }

    /// [`parse`](Self::parse) without its fast path.
    pub(super) fn parse_any(bytes: &[u8]) -> Result<Option<(Self, usize)>, Misbehaved> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (fin, opcode) = first_byte(first)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(Misbehaved::Unmasked);
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Misbehaved::LongControl);
        }
        let Some((payload, length_bytes)) = length(short, &bytes[2..])? else {
            return Ok(None);
        };
        let Some(&mask) = bytes[2 + length_bytes..].first_chunk() else {
            return Ok(None);
        };
        let header = Self {
            fin,
            rsv1: first & RSV1 != 0,
            opcode,
            payload,
            mask: Mask::new(mask),
        };
        Ok(Some((header, 2 + length_bytes + mask.len())))
    }
}

fn first_byte(byte: u8) -> Result<(bool, Opcode), Misbehaved> {
    if byte & RSV2_RSV3 != 0 {
        return Err(Misbehaved::ReservedBits);
    }
    let bits = byte & 0x0f;
    let opcode = Opcode::from_bits(bits).ok_or(Misbehaved::ReservedOpcode(bits))?;
    let fin = byte & FIN != 0;
    if opcode.is_control() && !fin {
        return Err(Misbehaved::FragmentedControl);
    }
    Ok((fin, opcode))
}

/// The payload's length, and how many bytes of `extended` encode it.
fn length(short: u8, extended: &[u8]) -> Result<Option<(u64, usize)>, Misbehaved> {
    let (payload, least, bytes) = match short {
        126 => match extended.first_chunk() {
            Some(&two) => (u16::from_be_bytes(two).into(), 126, 2),
            None => return Ok(None),
        },
        127 => match extended.first_chunk() {
            Some(&eight) => (u64::from_be_bytes(eight), 1 << 16, 8),
            None => return Ok(None),
        },
        _ => (short.into(), 0, 0),
    };
    if payload < least || payload >= 1 << 63 {
        return Err(Misbehaved::BadLength);
    }
    Ok(Some((payload, bytes)))
}

/// A server's header for a payload of `len` bytes, and the header's own length.
#[inline]
pub fn header(
    fin: bool,
    rsv1: bool,
    opcode: Opcode,
    len: usize,
) -> ([u8; MAX_SERVER_HEADER], usize) {
    let mut bytes = [0; MAX_SERVER_HEADER];
    bytes[0] = if fin { FIN } else { 0 } | if rsv1 { RSV1 } else { 0 } | opcode as u8;
    let long = len as u64;
    if let Ok(short @ ..126) = u8::try_from(long) {
        bytes[1] = short;
    } else if let Ok(two) = u16::try_from(long) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&two.to_be_bytes());
    } else {
        bytes[1] = 127;
        bytes[2..].copy_from_slice(&long.to_be_bytes());
    }
    (bytes, header_len(len))
}

/// The length of a server's header for a payload of `len` bytes.
#[inline]
pub fn header_len(len: usize) -> usize {
    match len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => MAX_SERVER_HEADER,
    }
}

/// Appends a server's whole frame to `out`.
#[inline(always)]
pub fn append(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (bytes, len) = header(true, false, opcode, payload.len());
    let begin = out.len();
    out.reserve(bytes.len() + payload.len());
    // A copy of constant length compiles to a few moves. The excess bytes are overwritten.
    out.extend_from_slice(&bytes);
    out.truncate(begin + len);
    out.extend_from_slice(payload);
}

/// A server's whole control frame, without heap. It dereferences to its bytes.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; 2 + MAX_CONTROL],
    len: u8,
}

impl ControlFrame {
    /// A Ping with the first 125 bytes of `payload`.
    pub fn ping(payload: &[u8]) -> Self {
        Self::new(Opcode::Ping, payload)
    }

    /// The answer to a Ping, with the same payload (RFC 6455, 5.5.3).
    pub fn pong(payload: &[u8]) -> Self {
        Self::new(Opcode::Pong, payload)
    }

    pub(super) fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let payload = &payload[..payload.len().min(MAX_CONTROL)];
        let mut bytes = [0; 2 + MAX_CONTROL];
        let (header, header_len) = header(true, false, opcode, payload.len());
        let len = header_len + payload.len();
        bytes[..header_len].copy_from_slice(&header[..header_len]);
        bytes[header_len..len].copy_from_slice(payload);
        Self {
            bytes,
            len: len as u8,
        }
    }
}

impl Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl std::fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_cut_says_of_every_header_what_the_long_road_says() {
        for (first, second) in (0..=255).flat_map(|first| (0..=255).map(move |b| (first, b))) {
            for extended in [[0, 0], [0, 125], [0, 126], [1, 0], [0xff, 0xff]] {
                let mut bytes = [7; MAX_CLIENT_HEADER];
                bytes[..4].copy_from_slice(&[first, second, extended[0], extended[1]]);
                for len in [0, 1, 2, 5, 6, 7, 8, 9, MAX_CLIENT_HEADER] {
                    let bytes = &bytes[..len];
                    assert_eq!(
                        Header::parse(bytes),
                        Header::parse_any(bytes),
                        "{bytes:02x?}"
                    );
                }
            }
        }
    }
}
