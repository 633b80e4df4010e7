//! yawc, asynchronous over tokio's traits. Its handshake needs hyper, and is left out.

use bytes::Bytes;
use futures_util::SinkExt as _;
use yawc::{Frame, OpCode, Options, Role, WebSocket};

use super::{Contender, MAX_MESSAGE, MessageKind, Outcome, Socket, ready};

pub struct Yawc(WebSocket<Socket>);

impl Contender for Yawc {
    fn new(socket: Socket) -> Self {
        let options = Options::default()
            .with_utf8()
            .with_limits(MAX_MESSAGE, 2 * MAX_MESSAGE);
        Self(WebSocket::from_stream(socket, Role::Server, options).expect("options"))
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let frame = self.0.next_frame().await?;
                match frame.opcode() {
                    OpCode::Text => deliver(MessageKind::Text, frame.payload()),
                    OpCode::Binary => deliver(MessageKind::Binary, frame.payload()),
                    other => panic!("{other:?}"),
                }
            }
            Ok(())
        })
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let frame = self.0.next_frame().await?;
                self.0.feed(frame).await?;
            }
            self.0.flush().await?;
            Ok(())
        })
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let frame = match kind {
            MessageKind::Text => Frame::text(payload),
            MessageKind::Binary => Frame::binary(payload),
        };
        ready(self.0.send(frame)).expect("takes all");
    }
}
