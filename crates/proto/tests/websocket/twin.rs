//! The naive twin of `Connection`: the RFC read off word by word over the whole stream, with
//! copies everywhere. It shares no code with what it judges.

/// Something a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Where the stream leaves the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Between messages.
    Idle,
    /// Within a frame or message.
    Midway,
    /// The client said Close.
    Closed,
    /// The client is to be closed with this code.
    Misbehaved(u16),
}

/// What a client that sent `stream` has said so far.
pub fn judge(stream: &[u8], max_message: u64, max_frame: u64) -> (Vec<Said>, Ending) {
    let mut said = Vec::new();
    let ending = read(stream, max_message, max_frame, &mut said).unwrap_or_else(|ending| ending);
    (said, ending)
}

fn read(
    stream: &[u8],
    max_message: u64,
    max_frame: u64,
    said: &mut Vec<Said>,
) -> Result<Ending, Ending> {
    let mut rest = stream.iter().copied();
    // The opcode of the message under way, and its bytes.
    let mut message: Option<(u8, Vec<u8>)> = None;
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
        must(reserved == 0, 1002)?;
        must(control || (opcode == 0) == message.is_some(), 1002)?;
        let before = message.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        must(
            control || (length <= max_frame && before + length <= max_message),
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
        let (kind, bytes) = message.get_or_insert((opcode, Vec::new()));
        bytes.extend(payload);
        if *kind == 1 {
            let cut = arrived && fin;
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
            said.extend(message.take().map(|(kind, bytes)| match kind {
                1 => Said::Text(bytes),
                _ => Said::Binary(bytes),
            }));
        }
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
