//! sockudo-ws: its protocol machine, which does no I/O itself.

use bytes::{Bytes, BytesMut};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::protocol::{Message, Protocol, Role};

use super::{Contender, Greeter, MAX_MESSAGE, MessageKind, Outcome, Socket};

pub struct Sockudo {
    socket: Socket,
    protocol: Protocol,
    buf: BytesMut,
    out: BytesMut,
    messages: Vec<Message>,
}

impl Sockudo {
    /// One read, parsed to `messages`.
    fn read(&mut self) -> Outcome {
        let read_bytes = self.socket.read_bytes();
        self.buf.reserve(read_bytes);
        self.buf.extend_from_slice(self.socket.next(read_bytes));
        self.protocol
            .process_into(&mut self.buf, &mut self.messages)?;
        Ok(())
    }
}

impl Contender for Sockudo {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            protocol: Protocol::new(Role::Server, MAX_MESSAGE, MAX_MESSAGE),
            buf: BytesMut::new(),
            out: BytesMut::new(),
            messages: Vec::new(),
        }
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        let mut heard = 0;
        while heard < messages {
            self.read()?;
            heard += self.messages.len();
            for message in self.messages.drain(..) {
                let kind = match message {
                    Message::Text(_) => MessageKind::Text,
                    Message::Binary(_) => MessageKind::Binary,
                    other => panic!("{other:?}"),
                };
                deliver(kind, message.as_bytes());
            }
        }
        Ok(())
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        let mut heard = 0;
        while heard < messages {
            self.read()?;
            heard += self.messages.len();
            self.out.clear();
            for message in self.messages.drain(..) {
                self.protocol.encode_message(&message, &mut self.out)?;
            }
            self.socket.send(&self.out);
        }
        Ok(())
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let message = match kind {
            MessageKind::Text => Message::Text(payload),
            MessageKind::Binary => Message::Binary(payload),
        };
        self.out.clear();
        let encoded = self.protocol.encode_message(&message, &mut self.out);
        encoded.expect("a message");
        self.socket.send(&self.out);
    }
}

impl Greeter for Sockudo {
    fn greet(mut socket: Socket) {
        let mut buf = BytesMut::with_capacity(4096);
        buf.extend_from_slice(socket.next(4096));
        let (request, _) = parse_request(&buf)
            .expect("a handshake")
            .expect("all of it");
        let accept = generate_accept_key(request.key);
        socket.send(&build_response(&accept, None, None));
    }
}
