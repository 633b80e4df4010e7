//! What one read from a client contains, parsed in place.

use std::ops::Range;

use proto::framing::Compression;
use proto::websocket::close::CloseReceived;
use proto::websocket::connection::{Event, MessageKind, Payload};
use proto::websocket::deflate::Inflater;
use proto::websocket::frame::{self, ControlFrame, Opcode};
use proto::websocket::misbehaved::Misbehaved;

use super::state::Session;
use super::work;

/// How a client's input ends.
#[derive(Debug)]
pub enum End {
    /// The client sent a Close.
    Close(CloseReceived),
    /// The client broke the protocol.
    Misbehaved(Misbehaved),
}

/// A portion ends with the message that brings the bytes outside of the buffer to this number.
const PORTION: usize = 64 << 10;

/// A portion also ends after this many inflated messages, however small: each costs inflater time.
const MOST_INFLATED: usize = 64;

/// A portion of what a client sent, in order. It is reused for the next portion, to keep its
/// memory. Bodies lie in the buffer that was read into, or were assembled from several reads, or
/// inflated.
#[derive(Default)]
pub struct Inbox {
    /// Whole messages, and pings in the form of the pongs that answer them.
    items: Vec<(Opcode, Payload)>,
    /// Whole messages among `items`.
    pub messages: u64,
    /// The last thing received, if nothing can follow it.
    pub end: Option<End>,
    /// A frame was completed: a sign of life.
    pub heard: bool,
    /// Bytes of messages that do not lie in the buffer.
    own: usize,
    /// How many of these messages may have been inflated.
    inflated: usize,
}

impl Inbox {
    /// Parses the next portion of `buf[*at..]` and moves `at` behind it: to the end of `buf`,
    /// unless the portion is full or nothing can follow. The session's parser keeps what is
    /// incomplete.
    ///
    /// `inflater` is needed if permessage-deflate was agreed and messages are read. Without it,
    /// compressed messages are only counted.
    pub fn fill(
        &mut self,
        session: &mut Session,
        buf: &mut [u8],
        at: &mut usize,
        mut inflater: Option<&mut Inflater>,
    ) {
        self.empty();
        while *at < buf.len() && self.end.is_none() && !self.is_full() {
            let received = session.receive(buf, at, inflater.as_deref_mut());
            match received {
                Ok(None) => break,
                Ok(Some(event)) => self.note(event, inflater.is_some()),
                Err(misbehaved) => self.end = Some(End::Misbehaved(misbehaved)),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.own >= PORTION || self.inflated >= MOST_INFLATED
    }

    /// What the portion costs, besides the reading of its bytes, in [units](work). Messages of at
    /// least `compressed_from` bytes go back compressed.
    pub fn work(&self, compressed_from: Option<usize>) -> usize {
        let inflating = match self.inflated {
            0 => 0,
            count => count * work::INFLATED + self.own * work::INFLATED_BYTE,
        };
        let each = self.items.len() * work::MESSAGE;
        let deflating = compressed_from.map_or(0, |least| {
            let messages = self.items.iter().filter(|(opcode, _)| !opcode.is_control());
            let lengths = messages.map(|(_, payload)| payload.len());
            lengths
                .filter(|&len| len >= least)
                .map(work::deflated)
                .sum()
        });
        each + inflating + deflating
    }

    /// Clears the portion after its messages have been handled.
    pub fn empty(&mut self) {
        self.items.clear();
        (self.messages, self.end, self.heard) = (0, None, false);
        (self.own, self.inflated) = (0, 0);
    }

    fn note(&mut self, event: Event, may_be_inflated: bool) {
        self.heard = true;
        match event {
            Event::Message { kind, payload } => {
                self.messages += 1;
                if let Payload::Assembled(bytes) = &payload {
                    self.own += bytes.len();
                    self.inflated += usize::from(may_be_inflated);
                }
                self.items.push((opcode(kind), payload));
            }
            Event::Unread => self.messages += 1,
            Event::Ping(payload) => self.items.push((Opcode::Pong, payload)),
            Event::Pong(_) => {}
            Event::Close(close) => self.end = Some(End::Close(close)),
        }
    }

    /// True if there is nothing to answer and nothing to pass on.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bodies of the messages.
    pub fn bodies<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let messages = self.items.iter().filter(|(opcode, _)| !opcode.is_control());
        messages.map(|(_, payload)| payload.bytes(buf))
    }

    /// The pong to the newest ping, if there were only pings: while a client does not take its
    /// pongs, older ones need not be sent (RFC 6455, 5.5.3).
    pub fn only_pong(&self, buf: &[u8]) -> Option<ControlFrame> {
        let (_, payload) = self.items.last().filter(|_| self.messages == 0)?;
        Some(ControlFrame::pong(payload.bytes(buf)))
    }

    /// The frames to send back, in order: pongs and, with `echo`, the messages. A server's header
    /// is at least four bytes shorter than the client's, so frames that arrived whole are moved
    /// together within `buf`. If one of them was assembled, or with `compression`, all go to
    /// `spare`.
    pub fn replies<'a>(
        &self,
        echo: bool,
        compression: Option<Compression<'_>>,
        buf: &'a mut [u8],
        spare: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        spare.clear();
        let due = |(opcode, _): &&(Opcode, Payload)| echo || opcode.is_control();
        let whole = |(_, payload): &(_, Payload)| matches!(payload, Payload::InPlace(_));
        if let Some(mut compression) = compression {
            for (opcode, payload) in self.items.iter().filter(due) {
                let body = payload.bytes(buf);
                if opcode.is_control() {
                    frame::append(spare, *opcode, body);
                } else {
                    compression.append(spare, *opcode, body);
                }
            }
            return spare;
        }
        if self.items.iter().all(whole) {
            let filled = in_place(self.items.iter().filter(due), buf);
            return &buf[filled];
        }
        for (opcode, payload) in self.items.iter().filter(due) {
            frame::append(spare, *opcode, payload.bytes(buf));
        }
        spare
    }
}

fn in_place<'a>(
    items: impl Iterator<Item = &'a (Opcode, Payload)>,
    buf: &mut [u8],
) -> Range<usize> {
    // The first frame is not moved: its header is written right before its payload.
    let mut filled: Option<Range<usize>> = None;
    for (opcode, payload) in items {
        let Payload::InPlace(body) = payload else {
            continue;
        };
        let (header, header_len) = frame::header(true, false, *opcode, body.len());
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

fn opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

/// Panics in a session on request, for the test that a panic costs only that session.
#[cfg(feature = "test-panic")]
pub fn panic_if_asked(inbox: &Inbox, input: &[u8]) {
    assert!(
        !inbox.bodies(input).any(|body| body == b"panic, please"),
        "asked for by a client"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Location;

    fn session() -> Session {
        Session::new(Box::leak(Box::new(Location::default())), None, None, 0)
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
        inbox.fill(&mut session(), &mut buf, &mut 0, None);
        assert_eq!(
            inbox.replies(true, None, &mut buf, &mut spare),
            expected(&messages)
        );
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
            inbox.fill(&mut session, &mut first, &mut 0, None);
            assert_eq!(inbox.messages, 0);
            inbox.fill(&mut session, &mut second, &mut 0, None);
            assert_eq!(
                inbox.replies(true, None, &mut second, &mut spare),
                expected(&messages)
            );
            assert_eq!(session.weight().messages, 0);
        }
    }

    #[test]
    fn pings_are_answered_where_they_stood_and_nothing_after_a_close_is_read() {
        let mut buf = client_frame(0x89, b"1");
        buf.extend(client_frame(0x82, b"between"));
        buf.extend(client_frame(0x89, b"2"));
        buf.extend(client_frame(0x88, &[0x03, 0xe8]));
        buf.extend(client_frame(0x81, b"late"));
        let (mut inbox, mut spare) = (Inbox::default(), Vec::new());
        inbox.fill(&mut session(), &mut buf, &mut 0, None);
        assert_eq!((inbox.messages, inbox.heard), (1, true));
        assert_eq!(inbox.bodies(&buf).collect::<Vec<_>>(), [b"between"]);
        assert!(inbox.only_pong(&buf).is_none());
        assert!(
            matches!(&inbox.end, Some(End::Close(close)) if close.reply()[..] == b"\x88\x02\x03\xe8"[..])
        );
        let mut again = buf.clone();
        assert_eq!(
            inbox.replies(false, None, &mut again, &mut spare),
            b"\x8a\x011\x8a\x012"
        );
        let all = b"\x8a\x011\x82\x07between\x8a\x012";
        assert_eq!(inbox.replies(true, None, &mut buf, &mut spare), all);
    }

    #[test]
    fn of_pings_alone_the_newest_is_enough() {
        let mut buf = [client_frame(0x89, b"1"), client_frame(0x89, b"2")].concat();
        let mut inbox = Inbox::default();
        inbox.fill(&mut session(), &mut buf, &mut 0, None);
        assert_eq!(inbox.only_pong(&buf).as_deref(), Some(&b"\x8a\x012"[..]));
    }

    /// A binary message that may be compressed; masked with zeros.
    fn compressed(deflated: &[u8]) -> Vec<u8> {
        [&[0xc2, 0x80 | deflated.len() as u8, 0, 0, 0, 0], deflated].concat()
    }

    /// A fixed block of `runs` runs of the letter "a", preceded by a stored block with `head`.
    fn letters(head: u8, runs: usize) -> (Vec<u8>, Vec<u8>) {
        let mut deflated = vec![0, 1, 0, 0xfe, 0xff, head];
        // As bits, lowest first: a block of fixed codes with "a", lengths of 258 at distance 1 and
        // its end; then the empty stored block of a flush, without its lengths.
        let mut bits = "010".to_owned() + "10010001";
        (0..runs).for_each(|_| bits += "1100010100000");
        bits += "0000000000";
        for byte in bits.as_bytes().chunks(8) {
            let set = byte.iter().enumerate().filter(|(_, bit)| **bit == b'1');
            deflated.push(set.map(|(at, _)| 1 << at).sum());
        }
        let body = [vec![head], vec![b'a'; 1 + 258 * runs]].concat();
        (compressed(&deflated), body)
    }

    /// The messages of each portion.
    fn portions(session: &mut Session, input: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let (mut inflater, mut inbox) = (Inflater::new(), Inbox::default());
        let (mut buf, mut at, mut portions) = (input.to_vec(), 0, Vec::new());
        while at < buf.len() {
            inbox.fill(session, &mut buf, &mut at, Some(&mut inflater));
            assert!(inbox.end.is_none(), "{:?}", inbox.end);
            portions.push(inbox.bodies(&buf).map(<[u8]>::to_vec).collect());
        }
        portions
    }

    #[test]
    fn what_inflates_to_much_comes_in_portions_and_nothing_is_lost_between() {
        // 30 bytes that become 15 KB.
        let (input, bodies): (Vec<_>, Vec<_>) = (0..100).map(|head| letters(head, 60)).unzip();
        let input = input.concat();
        let found = portions(&mut session(), &input);
        assert_eq!(found.concat(), bodies);
        assert!(found.len() == 20 && found.iter().all(|portion| portion.len() == 5));
    }

    #[test]
    fn small_messages_that_were_inflated_fill_a_portion_by_their_number() {
        let (input, bodies): (Vec<_>, Vec<_>) = (0..200).map(|head| letters(head, 0)).unzip();
        let found = portions(&mut session(), &input.concat());
        assert_eq!(found.concat(), bodies);
        let sizes: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 64, 64, 8]);
    }

    #[test]
    fn work_grows_with_what_is_done() {
        let mut inbox = Inbox::default();
        let mut fill = |session: &mut Session, input: &[u8]| {
            let mut inflater = Inflater::new();
            let mut buf = input.to_vec();
            inbox.fill(session, &mut buf, &mut 0, Some(&mut inflater));
            [None, Some(1000), Some(0)].map(|least| inbox.work(least))
        };
        let [plain, large, all] = fill(&mut session(), &client_frame(0x82, &[7; 100]));
        assert!(plain == large && large < all, "{plain} {large} {all}");
        let [inflated, echoed, _] = fill(&mut session(), &letters(0, 60).0);
        assert!(
            inflated > 60 * 258 && echoed > 3 * inflated,
            "{inflated} {echoed}"
        );
    }
}
