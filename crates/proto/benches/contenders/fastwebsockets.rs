//! fastwebsockets, asynchronous over tokio's traits. Its handshake needs hyper, and is left out.

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket};

use super::{Contender, MessageKind, Outcome, Socket, ready};

pub struct Fastwebsockets(FragmentCollector<Socket>);

impl Contender for Fastwebsockets {
    fn new(socket: Socket) -> Self {
        let websocket = WebSocket::after_handshake(socket, Role::Server);
        Self(FragmentCollector::new(websocket))
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let frame = self.0.read_frame().await?;
                match frame.opcode {
                    OpCode::Text => deliver(MessageKind::Text, &frame.payload),
                    OpCode::Binary => deliver(MessageKind::Binary, &frame.payload),
                    other => panic!("{other:?}"),
                }
            }
            Ok(())
        })
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let frame = self.0.read_frame().await?;
                self.0.write_frame(frame).await?;
            }
            Ok(())
        })
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        // A frame lives as long as the collector, so it can't borrow.
        let payload = Payload::Owned(payload.to_vec());
        let frame = match kind {
            MessageKind::Text => Frame::text(payload),
            MessageKind::Binary => Frame::binary(payload),
        };
        ready(self.0.write_frame(frame)).expect("takes all");
    }
}
