//! The naive twin of `Connection`: it follows the RFC word by word over the whole stream, and
//! copies everything. It shares no code with what it judges, and inflates with another library.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// Something a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// Compressed, and not read.
    Unread,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// The state of the connection at the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Between messages.
    Idle,
    /// Within a frame or message.
    Midway,
    /// The client has sent a Close.
    Closed,
    /// The client must be closed with this code.
    Misbehaved(u16),
}

/// What a client that sent `stream` has said so far.
pub fn judge(stream: &[u8], max_message: u64, max_frame: u64) -> (Vec<Said>, Ending) {
    judge_by(stream, max_message, max_frame, None)
}

/// The same with permessage-deflate, and with context takeover if `window` is not 0.
pub fn judge_deflated(
    stream: &[u8],
    max_message: u64,
    max_frame: u64,
    window: usize,
) -> (Vec<Said>, Ending) {
    let context = Context {
        past: Vec::new(),
        window,
    };
    judge_by(stream, max_message, max_frame, Some(context))
}

fn judge_by(
    stream: &[u8],
    max_message: u64,
    max_frame: u64,
    mut context: Option<Context>,
) -> (Vec<Said>, Ending) {
    let mut said = Vec::new();
    let ending = read(stream, max_message, max_frame, &mut context, &mut said);
    (said, ending.unwrap_or_else(|ending| ending))
}

fn read(
    stream: &[u8],
    max_message: u64,
    max_frame: u64,
    context: &mut Option<Context>,
    said: &mut Vec<Said>,
) -> Result<Ending, Ending> {
    let mut rest = stream.iter().copied();
    // The opcode of the message in progress, whether it is compressed, and its bytes.
    let mut message: Option<(u8, bool, Vec<u8>)> = None;
    loop {
        let Some(first) = rest.next() else {
            return Ok(if message.is_some() {
                Ending::Midway
            } else {
                Ending::Idle
            });
        };
        let (fin, reserved, opcode) = (first >> 7 == 1, first >> 4 & 7, first & 15);
        let control = opcode >= 8;
        must(
            reserved & 3 == 0 && matches!(opcode, 0..=2 | 8..=10) && (fin || !control),
            1002,
        )?;
        let second = rest.next().ok_or(Ending::Midway)?;
        must(second >> 7 == 1 && (!control || second & 127 <= 125), 1002)?;
        let length = match second & 127 {
            126 => number(&mut rest, 2)?,
            127 => number(&mut rest, 8)?,
            short => short.into(),
        };
        must(length >> 63 == 0, 1002)?;
        must(second & 127 != 126 || length > 125, 1002)?;
        must(second & 127 != 127 || length > 65535, 1002)?;
        let key = number(&mut rest, 4)?.to_be_bytes();
        let may_compress = context.is_some() && matches!(opcode, 1 | 2);
        must(reserved == 0 || may_compress, 1002)?;
        must(control || (opcode == 0) == message.is_some(), 1002)?;
        let before = message.as_ref();
        let compressed = before.map_or(reserved == 4, |(_, compressed, _)| *compressed);
        let before = before.map_or(0, |(_, _, bytes)| bytes.len() as u64);
        let most = |limit: u64| limit + if compressed { limit / 8 + 64 } else { 0 };
        must(
            control || (length <= most(max_frame) && before + length <= most(max_message)),
            1009,
        )?;

        let payload: Vec<u8> = (0..length)
            .map_while(|i| Some(rest.next()? ^ key[4 + (i % 4) as usize]))
            .collect();
        let arrived = payload.len() as u64 == length;
        if control {
            if !arrived {
                return Ok(Ending::Midway);
            }
            match opcode {
                8 => said.push(Said::Close(close(&payload)?)),
                9 => said.push(Said::Ping(payload)),
                _ => said.push(Said::Pong(payload)),
            }
            if opcode == 8 {
                return Ok(Ending::Closed);
            }
            continue;
        }
        let (kind, compressed, bytes) = message.get_or_insert((opcode, reserved == 4, Vec::new()));
        bytes.extend(payload);
        let cut = arrived && fin;
        if let (true, true, Some(context)) = (*compressed, cut, context.as_mut()) {
            *bytes = context.inflate(bytes, max_message as usize)?;
        }
        if *kind == 1 && (cut || !*compressed) {
            let error = std::str::from_utf8(bytes).err();
            must(
                error.is_none_or(|error| error.error_len().is_none() && !cut),
                1007,
            )?;
        }
        if !arrived {
            return Ok(Ending::Midway);
        }
        if fin {
            said.extend(message.take().map(|(kind, _, bytes)| match kind {
                1 => Said::Text(bytes),
                _ => Said::Binary(bytes),
            }));
        }
    }
}

/// The content of the compressed messages so far.
struct Context {
    past: Vec<u8>,
    window: usize,
}

impl Context {
    fn inflate(&mut self, compressed: &[u8], max: usize) -> Result<Vec<u8>, Ending> {
        if compressed.is_empty() {
            return Ok(Vec::new());
        }
        let begin = self.past.len();
        let mut out = self.past.clone();
        out.resize(begin + max + 1, 0);
        let mut stream = Box::<DecompressorOxide>::default();
        let (mut written, mut ended) = (begin, false);
        let mut feed = |mut input: &[u8]| {
            loop {
                let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
                    | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
                let (status, read, more) = decompress(&mut stream, input, &mut out, written, flags);
                (input, written) = (&input[read..], written + more);
                must(written <= begin + max, 1009)?;
                ended = status == TINFLStatus::Done;
                must(ended || status == TINFLStatus::NeedsMoreInput, 1007)?;
                if ended {
                    *stream = DecompressorOxide::default();
                }
                if input.is_empty() {
                    return Ok((written, ended));
                }
            }
        };
        let (length, _) = feed(compressed)?;
        // RFC 7692, 7.2.2. The block after it shows that a new one could begin here.
        feed(&[0, 0, 0xff, 0xff])?;
        must(feed(&[1, 0, 0, 0xff, 0xff])? == (length, true), 1007)?;
        out.truncate(length);
        let message = out[begin..].to_vec();
        self.past = out[length.saturating_sub(self.window)..].to_vec();
        Ok(message)
    }
}

fn must(holds: bool, code: u16) -> Result<(), Ending> {
    if holds {
        Ok(())
    } else {
        Err(Ending::Misbehaved(code))
    }
}

fn number(rest: &mut impl Iterator<Item = u8>, bytes: usize) -> Result<u64, Ending> {
    (0..bytes).try_fold(0, |number, _| {
        rest.next()
            .map(|byte| number << 8 | u64::from(byte))
            .ok_or(Ending::Midway)
    })
}

fn close(body: &[u8]) -> Result<Option<u16>, Ending> {
    must(body.len() != 1, 1002)?;
    if body.is_empty() {
        return Ok(None);
    }
    let code = u16::from(body[0]) << 8 | u16::from(body[1]);
    let forbidden = [1004, 1005, 1006, 1015].contains(&code);
    must(
        (1000..5000).contains(&code) && !forbidden && !(1016..3000).contains(&code),
        1002,
    )?;
    must(std::str::from_utf8(&body[2..]).is_ok(), 1007)?;
    Ok(Some(code))
}
