//! Builders of a client's frames, and a peer that feeds them to a `Connection`.

use proto::websocket::connection::{Connection, Event, Limits, MessageKind, Misbehaved, Payload};
use proto::websocket::deflate::{self, Agreed, Context, History, Inflater, Settings, Takeover};
use proto::websocket::frame;
use proto::websocket::handshake::{self, HttpVersion, RequestLine};

use crate::twin::{Ending, Said};

pub const ROOMY: Limits = Limits {
    max_message: 1 << 20,
    max_frame: 1 << 20,
};

/// A client's frame before it is encoded.
#[derive(Clone, Debug)]
pub struct Frame {
    first: u8,
    payload: Vec<u8>,
}

pub fn text(payload: &str) -> Frame {
    Frame {
        first: 0x81,
        payload: payload.into(),
    }
}

pub fn binary(payload: &[u8]) -> Frame {
    Frame {
        first: 0x82,
        payload: payload.into(),
    }
}

pub fn cont(payload: &str) -> Frame {
    Frame {
        first: 0x80,
        payload: payload.into(),
    }
}

pub fn ping(payload: &str) -> Frame {
    Frame {
        first: 0x89,
        payload: payload.into(),
    }
}

pub fn close(code: u16, reason: &str) -> Frame {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    Frame {
        first: 0x88,
        payload,
    }
}

impl Frame {
    /// Any first byte, valid or not.
    pub fn raw(first: u8, payload: Vec<u8>) -> Self {
        Self { first, payload }
    }

    /// Not the message's last frame.
    pub fn more(mut self) -> Self {
        self.first &= 0x7f;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.masked([0x37, 0xfa, 0x21, 0x3d])
    }

    pub fn masked(&self, key: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![self.first];
        match self.payload.len() {
            short @ ..126 => bytes.push(0x80 | short as u8),
            medium @ ..0x10000 => {
                bytes.push(0xfe);
                bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                bytes.push(0xff);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(key);
        bytes.extend(
            self.payload
                .iter()
                .zip(key.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        bytes
    }
}

pub fn stream(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

/// `81 81 00000000 c3`
pub fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect(text);
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// What is negotiated with a client that sends this header.
pub fn negotiate(offers: &str, settings: &Settings) -> Option<Agreed> {
    let line = RequestLine {
        method_is_get: true,
        version: HttpVersion::V11,
        has_body: false,
    };
    let headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Extensions", offers),
    ];
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let handshake = handshake::check(&line, headers).expect(offers);
    deflate::negotiate(handshake.extensions(), settings)
}

/// permessage-deflate as agreed with a client.
pub struct Deflating {
    /// `None` if nobody reads its messages.
    inflater: Option<Inflater>,
    window_bits: u8,
    pub history: Option<Box<History>>,
}

impl Deflating {
    pub fn without_takeover() -> Self {
        let offer = "permessage-deflate; client_no_context_takeover";
        Self::new(negotiate(offer, &Settings::default()).unwrap())
    }

    pub fn with_takeover(window_bits: u8) -> Self {
        let settings = Settings {
            context: Context::Window(window_bits),
            ..Settings::default()
        };
        Self::new(negotiate("permessage-deflate; client_max_window_bits", &settings).unwrap())
    }

    pub fn unread() -> Self {
        let settings = Settings {
            context: Context::Unread,
            ..Settings::default()
        };
        Self {
            inflater: None,
            ..Self::new(negotiate("permessage-deflate", &settings).unwrap())
        }
    }

    fn new(agreed: Agreed) -> Self {
        Self {
            inflater: Some(Inflater::new()),
            window_bits: agreed.context_bits(),
            history: None,
        }
    }
}

/// A connection that the test feeds, and what it has reported.
pub struct Peer {
    pub connection: Connection,
    pub deflating: Option<Deflating>,
    limits: Limits,
    pub said: Vec<Said>,
    pub ending: Ending,
    /// Bytes fed since the connection was last idle. They bound the memory that it may hold.
    since_idle: usize,
}

impl Peer {
    pub fn new(limits: Limits) -> Self {
        let (said, ending, since_idle) = (Vec::new(), Ending::Idle, 0);
        Self {
            connection: Connection::default(),
            deflating: None,
            limits,
            said,
            ending,
            since_idle,
        }
    }

    pub fn deflating(limits: Limits, deflating: Deflating) -> Self {
        Self {
            deflating: Some(deflating),
            ..Self::new(limits)
        }
    }

    /// [`feed`](Self::feed), but reads a message in progress in place, as far as there is room.
    pub fn feed_in_place(&mut self, mut bytes: &[u8]) {
        while self.connection.room() > 0 && !bytes.is_empty() {
            let place;
            (place, bytes) = bytes.split_at(self.connection.room().min(bytes.len()));
            self.since_idle += place.len();
            let read = self
                .connection
                .read_in_place(|message| message.extend_from_slice(place));
            match read {
                Ok(()) => self.feed(&[]),
                Err(misdeed) => self.ending = Ending::Misbehaved(misdeed.close_code().get()),
            }
        }
        self.feed(bytes);
    }

    /// Feeds one buffer, like one read of a socket, until it is used up or the connection ends.
    pub fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.ending, Ending::Closed | Ending::Misbehaved(_)) {
            return;
        }
        let mut buf = bytes.to_vec();
        let mut at = 0;
        self.since_idle += bytes.len();
        loop {
            let before = at;
            match self.receive(&mut buf, &mut at) {
                Ok(Some(event)) => {
                    self.note(&event, &mut buf, before);
                    if matches!(event, Event::Close(_)) {
                        self.ending = Ending::Closed;
                        break;
                    }
                }
                Ok(None) => {
                    assert_eq!(at, buf.len(), "a buffer was left unread");
                    let midway = self.connection.is_mid_message();
                    self.ending = if midway { Ending::Midway } else { Ending::Idle };
                    break;
                }
                Err(misdeed) => {
                    self.ending = Ending::Misbehaved(misdeed.close_code().get());
                    break;
                }
            }
        }
        self.check_memory();
    }

    fn receive(&mut self, buf: &mut [u8], at: &mut usize) -> Result<Option<Event>, Misbehaved> {
        let Some(deflating) = &mut self.deflating else {
            return self.connection.receive(buf, at, &self.limits);
        };
        let Deflating {
            inflater,
            window_bits,
            history,
        } = deflating;
        let Some(inflater) = inflater else {
            return self.connection.receive_unread(buf, at, &self.limits);
        };
        let takeover = Takeover {
            window_bits: *window_bits,
            history,
        };
        self.connection
            .receive_deflated(buf, at, &self.limits, inflater, takeover)
    }

    pub fn send(&mut self, frame: Frame) {
        self.feed(&frame.bytes());
    }

    #[track_caller]
    pub fn expect(&mut self, said: &[Said]) {
        assert_eq!(std::mem::take(&mut self.said), said);
    }

    fn check_memory(&mut self) {
        let held = self.connection.held_bytes();
        if !self.connection.is_mid_message() {
            assert_eq!(held, 0, "heap is held between messages");
            self.since_idle = 0;
        }
        assert!(
            held <= 16 * self.since_idle + 512,
            "{held} for {}",
            self.since_idle
        );
    }

    fn note(&mut self, event: &Event, buf: &mut [u8], before: usize) {
        let said = match event {
            Event::Message {
                kind: MessageKind::Text,
                payload,
            } => Said::Text(payload.bytes(buf).into()),
            Event::Message {
                kind: MessageKind::Binary,
                payload,
            } => Said::Binary(payload.bytes(buf).into()),
            Event::Unread => Said::Unread,
            Event::Ping(payload) => Said::Ping(payload.bytes(buf).into()),
            Event::Pong(payload) => Said::Pong(payload.bytes(buf).into()),
            Event::Close(close) => Said::Close(close.code.map(|code| code.get())),
        };
        self.said.push(said);
        if let Event::Message {
            payload: Payload::InPlace(range),
            ..
        } = event
        {
            let header = frame::header_len(range.len());
            assert!(
                range.start >= before + header + 4,
                "no room for an echo's header"
            );
            // An echo is written there, so nothing there may still be needed.
            buf[before..range.end].fill(0xee);
        }
    }
}

/// What a connection reports of `stream`, read in these pieces.
pub fn run<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Said>, Ending) {
    run_on(Peer::new(limits), pieces)
}

pub fn run_on<'a>(
    mut peer: Peer,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Said>, Ending) {
    for piece in pieces {
        peer.feed(piece);
    }
    (peer.said, peer.ending)
}

/// [`run_on`], but reads in place what there is room for.
pub fn run_in_place<'a>(
    mut peer: Peer,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Said>, Ending) {
    for piece in pieces {
        peer.feed_in_place(piece);
    }
    (peer.said, peer.ending)
}
