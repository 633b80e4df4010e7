//! WebSocket frames for the loops and the load: unfragmented text, with the shortest length form.

/// Offset of the payload in a server's frame of `len` payload bytes (RFC 6455, 5.2).
fn head_len(len: usize) -> usize {
    match len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Writes the head of a server's text frame just before `at`, where its payload begins. Returns
/// where the frame begins.
pub fn write_head_before(buffer: &mut [u8], at: usize, len: usize) -> usize {
    let start = at - head_len(len);
    buffer[start] = 0x81;
    match len {
        0..126 => buffer[start + 1] = len as u8,
        126..=0xffff => {
            buffer[start + 1] = 126;
            buffer[start + 2..at].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            buffer[start + 1] = 127;
            buffer[start + 2..at].copy_from_slice(&(len as u64).to_be_bytes());
        }
    }
    start
}

/// Appends a server's text frame.
pub fn push_server(out: &mut Vec<u8>, payload: &[u8]) {
    let mut head = [0; 10];
    let start = write_head_before(&mut head, 10, payload.len());
    out.extend_from_slice(&head[start..]);
    out.extend_from_slice(payload);
}

/// Appends a client's frame with this opcode.
pub fn push_client(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    let mut head = [0; 10];
    let start = write_head_before(&mut head, 10, payload.len());
    head[start] = 0x80 | opcode;
    head[start + 1] |= 0x80;
    out.extend_from_slice(&head[start..]);
    out.extend_from_slice(&mask);
    let masked = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, key)| byte ^ key);
    out.extend(masked);
}

/// A whole frame at the beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: FIN, the reserved bits and the opcode.
    pub first: u8,
    /// Where the payload begins.
    pub at: usize,
    /// The payload's length in bytes.
    pub len: usize,
    /// The masking key of a client's frame.
    pub mask: Option<[u8; 4]>,
}

impl Frame {
    /// The frame at the beginning of `bytes`, once it is complete.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (mut at, len) = match second & 0x7f {
            126 => (4, u16::from_be_bytes(*bytes[2..].first_chunk()?) as usize),
            127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk()?) as usize),
            short => (2, short as usize),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            mask = Some(*bytes[at..].first_chunk()?);
            at += 4;
        }
        (bytes.len() >= at + len).then_some(Self {
            first,
            at,
            len,
            mask,
        })
    }

    /// Where the next frame begins.
    pub fn end(&self) -> usize {
        self.at + self.len
    }
}

/// RFC 6455, 5.3, written so that the compiler turns it into vector instructions.
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3],
    ]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
    // At most seven bytes are left, the key has four.
    if let Some(last) = rest.get_mut(4..) {
        for (byte, key) in last.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_read_back_at_each_length_form() {
        for len in [0, 1, 5, 7, 125, 126, 4096, 0xffff, 0x1_0000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut bytes = Vec::new();
            push_client(&mut bytes, 1, &payload, [1, 2, 3, 4]);
            for cut in (0..bytes.len()).step_by(1 + len / 64) {
                assert_eq!(
                    Frame::parse(&bytes[..cut]),
                    None,
                    "{len} bytes cut at {cut}"
                );
            }
            let frame = Frame::parse(&bytes).unwrap();
            assert_eq!(
                (frame.first, frame.len, frame.end()),
                (0x81, len, bytes.len())
            );
            unmask(&mut bytes[frame.at..], frame.mask.unwrap());
            assert_eq!(bytes[frame.at..], payload);
        }
    }

    #[test]
    fn a_server_frame_written_in_place_is_the_one_that_is_appended() {
        for len in [0, 125, 126, 0xffff, 0x1_0000] {
            let payload = vec![b'x'; len];
            let mut appended = Vec::new();
            push_server(&mut appended, &payload);
            let mut in_place = vec![0; 14 + len];
            in_place[14..].copy_from_slice(&payload);
            let start = write_head_before(&mut in_place, 14, len);
            assert_eq!(in_place[start..], appended);
        }
    }
}
