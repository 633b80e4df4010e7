//! What one read from a client said, taken apart in place.

use std::ops::Range;

use proto::websocket::close::CloseReceived;
use proto::websocket::connection::{Event, Kind, Payload};
use proto::websocket::frame::{self, ControlFrame, Opcode};
use proto::websocket::misbehaved::Misbehaved;

use super::Session;

/// How a client's input ends.
#[derive(Debug)]
pub enum End {
    /// It said goodbye.
    Close(CloseReceived),
    /// It broke the protocol.
    Misbehaved(Misbehaved),
}

/// The messages of one read, in order. Kept between reads for its memory; bodies lie in the buffer
/// that was read into, or were collected from several reads.
#[derive(Default)]
pub struct Inbox {
    /// Whole messages.
    pub messages: Vec<(Kind, Payload)>,
    /// The answer to the newest ping: older ones need none (RFC 6455, 5.5.3).
    pub pong: Option<ControlFrame>,
    /// What came last, if nothing can follow.
    pub end: Option<End>,
    /// A frame was completed: a sign of life.
    pub heard: bool,
}

impl Inbox {
    /// Takes `buf`, just received, apart. The session's parser keeps what is not whole yet.
    pub fn fill(&mut self, session: &mut Session, buf: &mut [u8]) {
        let limits = session.location.limits();
        self.messages.clear();
        (self.pong, self.end, self.heard) = (None, None, false);
        let mut at = 0;
        loop {
            match session.connection.receive(buf, &mut at, &limits) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    self.heard = true;
                    match event {
                        Event::Message { kind, payload } => self.messages.push((kind, payload)),
                        Event::Ping(payload) => {
                            self.pong = Some(ControlFrame::pong(payload.bytes(buf)));
                        }
                        Event::Pong(_) => {}
                        Event::Close(close) => {
                            self.end = Some(End::Close(close));
                            break;
                        }
                    }
                }
                Err(misbehaved) => {
                    self.end = Some(End::Misbehaved(misbehaved));
                    break;
                }
            }
        }
    }

    /// Turns the messages into frames that go back. A server's header is at least four bytes
    /// shorter than the client's, so whole messages move together within `buf`, and the range that
    /// they fill comes back; with a collected one among them, `spare` takes all.
    pub fn echo<'a>(&self, buf: &'a mut [u8], spare: &'a mut Vec<u8>) -> &'a [u8] {
        spare.clear();
        let whole = self
            .messages
            .iter()
            .all(|(_, payload)| matches!(payload, Payload::InPlace(_)));
        if whole {
            let filled = self.echo_in_place(buf);
            return &buf[filled];
        }
        for (kind, payload) in &self.messages {
            frame::append(spare, opcode(*kind), payload.bytes(buf));
        }
        spare
    }

    fn echo_in_place(&self, buf: &mut [u8]) -> Range<usize> {
        // The first frame stays: its header is written right before its payload.
        let mut filled: Option<Range<usize>> = None;
        for (kind, payload) in &self.messages {
            let Payload::InPlace(body) = payload else {
                continue;
            };
            let (header, header_len) = frame::header(true, false, opcode(*kind), body.len());
            let start = filled
                .as_ref()
                .map_or(body.start - header_len, |range| range.end);
            let body_at = start + header_len;
            buf[start..body_at].copy_from_slice(&header[..header_len]);
            if body_at != body.start {
                buf.copy_within(body.clone(), body_at);
            }
            let first = filled.map_or(start, |range| range.start);
            filled = Some(first..body_at + body.len());
        }
        filled.unwrap_or(0..0)
    }
}

fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Location;

    fn session() -> Session {
        Session::new(Box::leak(Box::new(Location::default())), None, 0)
    }

    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            n @ 0..=125 => bytes.push(0x80 | n as u8),
            n => bytes.extend([0xfe, (n >> 8) as u8, n as u8]),
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(
            payload
                .iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(b, m)| b ^ m),
        );
        bytes
    }

    fn expected(messages: &[(Opcode, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        messages
            .iter()
            .for_each(|(opcode, body)| frame::append(&mut out, *opcode, body));
        out
    }

    #[test]
    fn frames_of_one_read_are_echoed_in_one_piece_in_place() {
        let messages = [
            (Opcode::Text, b"hello".to_vec()),
            (Opcode::Binary, vec![7; 125]),
            (Opcode::Binary, vec![9; 126]),
            (Opcode::Text, vec![b'x'; 4000]),
            (Opcode::Text, vec![]),
        ];
        let mut buf: Vec<u8> = Vec::new();
        for (opcode, body) in &messages {
            let first = if *opcode == Opcode::Text { 0x81 } else { 0x82 };
            buf.extend(client_frame(first, body));
            buf.extend(client_frame(0x8a, b"unsolicited pong"));
        }
        let (mut inbox, mut spare) = (Inbox::default(), Vec::new());
        inbox.fill(&mut session(), &mut buf);
        assert_eq!(inbox.echo(&mut buf, &mut spare), expected(&messages));
        assert!(spare.is_empty());
    }

    #[test]
    fn a_message_of_several_reads_is_echoed_with_those_after_it() {
        let mut stream = client_frame(0x81, &[b'a'; 300]);
        stream.extend(client_frame(0x82, b"b"));
        let messages = [
            (Opcode::Text, vec![b'a'; 300]),
            (Opcode::Binary, b"b".to_vec()),
        ];
        for cut in 1..300 {
            let (mut inbox, mut spare, mut session) = (Inbox::default(), Vec::new(), session());
            let (mut first, mut second) = (stream[..cut].to_vec(), stream[cut..].to_vec());
            inbox.fill(&mut session, &mut first);
            assert!(inbox.messages.is_empty());
            inbox.fill(&mut session, &mut second);
            assert_eq!(inbox.echo(&mut second, &mut spare), expected(&messages));
            assert_eq!(session.held_bytes(), 0);
        }
    }

    #[test]
    fn the_newest_ping_is_answered_and_nothing_after_a_close_is_read() {
        let mut buf = client_frame(0x89, b"1");
        buf.extend(client_frame(0x89, b"2"));
        buf.extend(client_frame(0x88, &[0x03, 0xe8]));
        buf.extend(client_frame(0x81, b"late"));
        let mut inbox = Inbox::default();
        inbox.fill(&mut session(), &mut buf);
        assert_eq!(inbox.pong.as_deref(), Some(&b"\x8a\x012"[..]));
        assert!(
            matches!(inbox.end, Some(End::Close(close)) if close.reply()[..] == b"\x88\x02\x03\xe8"[..])
        );
        assert!(inbox.messages.is_empty() && inbox.heard);
    }
}
