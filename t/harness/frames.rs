//! Frames of RFC 6455, 5.2, written and parsed by hand: independent of every library, and able to
//! be wrong in each field.

/// Opcodes (RFC 6455, 5.2).
pub const CONTINUATION: u8 = 0;
/// Text.
pub const TEXT: u8 = 1;
/// Binary.
pub const BINARY: u8 = 2;
/// Close.
pub const CLOSE: u8 = 8;
/// Ping.
pub const PING: u8 = 9;
/// Pong.
pub const PONG: u8 = 10;

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends its message.
    pub fin: bool,
    /// The three reserved bits, RSV1 highest.
    pub rsv: u8,
    /// The opcode.
    pub opcode: u8,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame with FIN.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// The same without FIN.
    pub fn more(mut self) -> Self {
        self.fin = false;
        self
    }

    /// The same with reserved bits set.
    pub fn rsv(mut self, bits: u8) -> Self {
        self.rsv = bits;
        self
    }

    /// The bytes as a client sends them: masked.
    pub fn wire(&self) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut wire = self.head(0x80);
        wire.extend_from_slice(&mask);
        wire.extend(
            self.payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        wire
    }

    /// The bytes as a server sends them: not masked.
    pub fn unmasked(&self) -> Vec<u8> {
        let mut wire = self.head(0);
        wire.extend_from_slice(&self.payload);
        wire
    }

    /// The code of a Close frame, if it has one.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The first frame of `bytes` from a server, and its length in bytes.
    ///
    /// # Panics
    /// If it is masked, or a length is not in its shortest form (RFC 6455, 5.1 and 5.2).
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        assert!(
            second & 0x80 == 0,
            "a server must not mask: {:02x?}",
            &bytes[..2]
        );
        let (start, length) = match second {
            126 => (
                4,
                u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            ),
            127 => (
                10,
                u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()),
            ),
            short => (2, u64::from(short)),
        };
        assert!(
            start == 2 || length >= if start == 4 { 126 } else { 65536 },
            "a longer length"
        );
        let end = start + usize::try_from(length).expect("a length");
        let payload = bytes.get(start..end)?.to_vec();
        let (fin, rsv) = (first & 0x80 != 0, (first >> 4) & 7);
        Some((
            Self {
                fin,
                rsv,
                opcode: first & 0x0f,
                payload,
            },
            end,
        ))
    }

    fn head(&self, mask_bit: u8) -> Vec<u8> {
        let mut head = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        match self.payload.len() {
            n @ 0..126 => head.push(mask_bit | n as u8),
            n @ 126..65536 => {
                head.push(mask_bit | 126);
                head.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                head.push(mask_bit | 127);
                head.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        head
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.opcode {
            CONTINUATION => "cont",
            TEXT => "text",
            BINARY => "binary",
            CLOSE => "close",
            PING => "ping",
            PONG => "pong",
            _ => "reserved",
        };
        write!(f, "{name}({} bytes", self.payload.len())?;
        match self.close_code().filter(|_| self.opcode == CLOSE) {
            Some(code) => write!(
                f,
                ", {code} {:?})",
                String::from_utf8_lossy(&self.payload[2..])
            )?,
            None => write!(f, ", {:.40?})", self.text())?,
        }
        if !self.fin {
            write!(f, ".more()")?;
        }
        if self.rsv != 0 {
            write!(f, ".rsv({})", self.rsv)?;
        }
        Ok(())
    }
}

/// A whole text message.
pub fn text(payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(TEXT, payload)
}

/// A whole binary message.
pub fn binary(payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(BINARY, payload)
}

/// The last continuation of a message.
pub fn cont(payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(CONTINUATION, payload)
}

/// A Ping.
pub fn ping(payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(PING, payload)
}

/// A Pong.
pub fn pong(payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(PONG, payload)
}

/// A Close with code and reason.
pub fn close(code: u16, reason: &str) -> Frame {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    Frame::new(CLOSE, payload)
}

/// A Close without a code.
pub fn close_empty() -> Frame {
    Frame::new(CLOSE, [])
}

/// Bytes from hexadecimal digits; blanks are skipped.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex digits"))
        .collect()
}
