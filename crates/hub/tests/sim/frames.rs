//! Frames as a client reads and writes them. The parser is separate from the module's, so that the
//! module's code does not check itself.

/// A frame that a server sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub is_compressed: bool,
    /// Inflated.
    pub payload: Vec<u8>,
}

/// The first frame of `bytes` and its length; `None`: it is not all there.
///
/// # Errors
/// What is wrong with it.
pub fn first(bytes: &[u8]) -> Result<Option<(Frame, usize)>, String> {
    let [head, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if second & 0x80 != 0 {
        return Err("a server's frame is masked".to_owned());
    }
    if head & 0xb0 != 0x80 {
        return Err(format!(
            "a frame begins with {head:#x}: fragmented, or a bit that means nothing"
        ));
    }
    let (length, at) = match second {
        126 if rest.len() >= 2 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), 4),
        127 if rest.len() >= 8 => {
            let bytes = rest[..8].try_into().expect("eight bytes");
            (u64::from_be_bytes(bytes), 10)
        }
        126 | 127 => return Ok(None),
        &length => (u64::from(length), 2),
    };
    if length > 16 << 20 {
        return Err(format!("a frame of {length} bytes"));
    }
    let end = at + length as usize;
    let Some(payload) = bytes.get(at..end) else {
        return Ok(None);
    };
    let is_compressed = head & 0x40 != 0;
    let payload = match is_compressed {
        true => inflate(payload)?,
        false => payload.to_vec(),
    };
    let opcode = head & 0x0f;
    Ok(Some((
        Frame {
            opcode,
            is_compressed,
            payload,
        },
        end,
    )))
}

fn inflate(payload: &[u8]) -> Result<Vec<u8>, String> {
    // The end of a flush that RFC 7692 leaves out, and a last, empty block.
    let whole = [payload, &[0, 0, 0xff, 0xff, 0x03, 0x00]].concat();
    miniz_oxide::inflate::decompress_to_vec(&whole).map_err(|error| format!("inflate: {error}"))
}

/// Appends a client's frame.
pub fn append(out: &mut Vec<u8>, first: u8, mask: u32, payload: &[u8]) {
    let mask = mask.to_be_bytes();
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0xfe);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xff);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
}

/// A message as permessage-deflate has it, in stored blocks.
pub fn stored(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 16);
    for block in payload.chunks(0xffff) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.push(0);
    out
}
