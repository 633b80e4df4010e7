//! This crate, as its caller in nginx drives it: one read buffer, parsed and answered in place.

use std::io::{IoSlice, Read};
use std::ops::Range;

use proto::websocket::connection::{Connection, Event, Kind, Limits, Payload};
use proto::websocket::frame::{self, ControlFrame, Opcode};
use proto::websocket::handshake::{self, HttpVersion, RequestLine};

use super::{Contender, Greeter, MAX_MESSAGE, Outcome, Socket};

const LIMITS: Limits = Limits {
    max_message: MAX_MESSAGE as u64,
    max_frame: MAX_MESSAGE as u64,
};

pub struct Proto {
    socket: Socket,
    connection: Connection,
    buf: Vec<u8>,
}

impl Proto {
    /// Reads until so many messages are there, and calls with each, the socket and the buffer.
    fn each(
        &mut self,
        messages: usize,
        mut heed: impl FnMut(Kind, Payload, &mut Socket, &mut [u8]),
    ) -> Outcome {
        let mut heard = 0;
        while heard < messages {
            let len = self.socket.read(&mut self.buf)?;
            let (buf, mut at) = (&mut self.buf[..len], 0);
            while let Some(event) = self.connection.receive(buf, &mut at, &LIMITS)? {
                match event {
                    Event::Message { kind, payload } => {
                        heard += 1;
                        heed(kind, payload, &mut self.socket, buf);
                    }
                    Event::Ping(payload) => {
                        self.socket.send(&ControlFrame::pong(payload.bytes(buf)));
                    }
                    Event::Pong(_) => {}
                    Event::Close(close) => self.socket.send(&close.reply()),
                }
            }
        }
        Ok(())
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

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(Kind, &[u8])) -> Outcome {
        self.each(messages, |kind, payload, _, buf| {
            deliver(kind, payload.bytes(buf));
        })
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        self.each(messages, |kind, payload, socket, buf| match payload {
            Payload::InPlace(body) => {
                let framed = frame_in_place(opcode(kind), body, buf);
                socket.send(&buf[framed]);
            }
            Payload::Assembled(bytes) => {
                let (header, len) = frame::header(true, false, opcode(kind), bytes.len());
                socket.send(&header[..len]);
                socket.send(&bytes);
            }
        })
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) {
        let (header, len) = frame::header(true, false, opcode(kind), payload.len());
        let frame = [IoSlice::new(&header[..len]), IoSlice::new(payload)];
        self.socket.send_all(&frame);
    }
}

/// Writes the header right before the body.
fn frame_in_place(opcode: Opcode, body: Range<usize>, buf: &mut [u8]) -> Range<usize> {
    let (header, len) = frame::header(true, false, opcode, body.len());
    let begin = body.start - len;
    buf[begin..body.start].copy_from_slice(&header[..len]);
    begin..body.end
}

fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

/// nginx parses HTTP; here `httparse` does.
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
