//! This crate: one read buffer, parsed and answered in place. The rest of a long message is read
//! directly to its final place.

use std::io::{IoSlice, Read as _};
use std::mem;
use std::ops::Range;

use proto::websocket::connection::{Connection, Event, Limits, MessageKind, Misbehaved, Payload};
use proto::websocket::frame::{self, ControlFrame, Opcode};
use proto::websocket::handshake::{self, HttpVersion, RequestLine};

use super::{Contender, Greeter, MAX_MESSAGE, Outcome, Socket};

const LIMITS: Limits = Limits {
    max_message: MAX_MESSAGE as u64,
    max_frame: MAX_MESSAGE as u64,
};

/// At least this much of a long message is read in place. Less is read with what follows it.
const WORTH_A_READ: usize = 8 << 10;

pub struct Proto {
    socket: Socket,
    connection: Connection,
    buf: Vec<u8>,
}

impl Proto {
    /// Does one read and returns how many messages it ended. `heed` is called with each of them,
    /// the socket and the buffer.
    #[inline]
    fn hear(
        &mut self,
        mut heed: impl FnMut(MessageKind, Payload, &mut Socket, &mut [u8]),
    ) -> Result<usize, Misbehaved> {
        let read = self.read()?;
        let buf = &mut self.buf[..read];
        let (mut heard, mut at) = (0, 0);
        while let Some(event) = self.connection.receive(buf, &mut at, &LIMITS)? {
            match event {
                Event::Message { kind, payload } => {
                    heard += 1;
                    heed(kind, payload, &mut self.socket, buf);
                }
                Event::Ping(payload) => self.socket.send(&ControlFrame::pong(payload.bytes(buf))),
                Event::Unread | Event::Pong(_) => {}
                Event::Close(close) => self.socket.send(&close.reply()),
            }
        }
        Ok(heard)
    }

    /// Reads the next bytes, in place or to the buffer. Returns how many are in the buffer.
    fn read(&mut self) -> Result<usize, Misbehaved> {
        let room = self.connection.room();
        if room >= WORTH_A_READ {
            let bytes = self.socket.next(room);
            self.connection
                .read_in_place(|message| message.extend_from_slice(bytes))?;
            return Ok(0);
        }
        let bytes = self.socket.next(self.buf.len());
        self.buf[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Contender for Proto {
    fn new(socket: Socket) -> Self {
        Self {
            buf: vec![0; socket.read_bytes()],
            socket,
            connection: Connection::default(),
        }
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        let mut heard = 0;
        while heard < messages {
            heard += self.hear(|kind, payload, _, buf| deliver(kind, payload.bytes(buf)))?;
        }
        Ok(())
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        let mut heard = 0;
        while heard < messages {
            let mut replies = 0..0;
            heard += self.hear(|kind, payload, socket, buf| match payload {
                Payload::InPlace(body) => append_in_place(&mut replies, opcode(kind), body, buf),
                Payload::Assembled(bytes) => {
                    socket.send(&buf[mem::take(&mut replies)]);
                    send_frame(socket, opcode(kind), &bytes);
                }
            })?;
            self.socket.send(&self.buf[replies]);
        }
        Ok(())
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        send_frame(&mut self.socket, opcode(kind), payload);
    }
}

fn send_frame(socket: &mut Socket, opcode: Opcode, payload: &[u8]) {
    let (header, len) = frame::header(true, false, opcode, payload.len());
    socket.send_all(&[IoSlice::new(&header[..len]), IoSlice::new(payload)]);
}

/// A server's header is shorter than a client's, so the frames of one read move together.
fn append_in_place(frames: &mut Range<usize>, opcode: Opcode, body: Range<usize>, buf: &mut [u8]) {
    let (header, len) = frame::header(true, false, opcode, body.len());
    if frames.end == 0 {
        *frames = body.start - len..body.start - len;
    }
    let begin = frames.end + len;
    buf[frames.end..begin].copy_from_slice(&header[..len]);
    frames.end = begin + body.len();
    if begin != body.start {
        buf.copy_within(body, begin);
    }
}

fn opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

/// nginx parses HTTP in the module. Here `httparse` does.
impl Greeter for Proto {
    fn greet(mut socket: Socket) {
        let mut buf = [0; 4096];
        let len = socket.read(&mut buf).expect("reads");
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&buf[..len]).expect("a request");
        assert!(parsed.is_complete());
        let line = RequestLine {
            method_is_get: request.method == Some("GET"),
            version: HttpVersion::V11,
            has_body: false,
        };
        let lines = request.headers.iter();
        let lines = lines.map(|header| (header.name.as_bytes(), header.value));
        let handshake = handshake::check(&line, lines).expect("a handshake");
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Connection: upgrade\r\n\
              Upgrade: websocket\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&handshake.accept());
        out.extend_from_slice(b"\r\n\r\n");
        socket.send(&out);
    }
}
