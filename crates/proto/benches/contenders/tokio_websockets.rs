//! tokio-websockets, asynchronous over tokio's traits.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_websockets::{Config, Limits, Message, ServerBuilder, WebSocketStream};

use super::{Contender, Greeter, MAX_MESSAGE, MessageKind, Outcome, Socket, ready};

pub struct TokioWebsockets(WebSocketStream<Socket>);

impl Contender for TokioWebsockets {
    fn new(socket: Socket) -> Self {
        let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE));
        let config = Config::default().frame_size(MAX_MESSAGE);
        let server = ServerBuilder::new().limits(limits).config(config);
        Self(server.serve(socket))
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let message = self.0.next().await.ok_or("the end")??;
                let kind = if message.is_text() {
                    MessageKind::Text
                } else {
                    MessageKind::Binary
                };
                deliver(kind, message.as_payload());
            }
            Ok(())
        })
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let message = self.0.next().await.ok_or("the end")??;
                self.0.feed(message).await?;
            }
            self.0.flush().await?;
            Ok(())
        })
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let message = match kind {
            MessageKind::Text => Message::text(String::from_utf8(payload.into()).expect("a text")),
            MessageKind::Binary => Message::binary(payload),
        };
        ready(self.0.send(message)).expect("takes all");
    }
}

impl Greeter for TokioWebsockets {
    fn greet(socket: Socket) {
        ready(ServerBuilder::new().accept(socket)).expect("a handshake");
    }
}
