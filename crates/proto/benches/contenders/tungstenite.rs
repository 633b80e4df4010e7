//! tungstenite, synchronous.

use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::{Contender, Greeter, MessageKind, Outcome, Socket};

pub struct Tungstenite(WebSocket<Socket>);

impl Contender for Tungstenite {
    fn new(socket: Socket) -> Self {
        Self(WebSocket::from_raw_socket(socket, Role::Server, None))
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        for _ in 0..messages {
            match self.0.read()? {
                Message::Text(text) => deliver(MessageKind::Text, text.as_bytes()),
                Message::Binary(bytes) => deliver(MessageKind::Binary, &bytes),
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        for _ in 0..messages {
            let message = self.0.read()?;
            self.0.write(message)?;
        }
        self.0.flush()?;
        Ok(())
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        let message = match kind {
            MessageKind::Text => Message::text(str::from_utf8(payload).expect("a text")),
            MessageKind::Binary => Message::binary(payload.to_vec()),
        };
        self.0.send(message).expect("takes all");
    }
}

impl Greeter for Tungstenite {
    fn greet(socket: Socket) {
        tungstenite::accept(socket).expect("a handshake");
    }
}
