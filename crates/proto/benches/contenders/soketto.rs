//! soketto, asynchronous over futures' traits. It leaves UTF-8 to its caller.

use soketto::connection::{Builder, Receiver, Sender};
use soketto::handshake::Server;
use soketto::handshake::server::Response;
use soketto::{Data, Mode};

use super::{Contender, Greeter, MAX_MESSAGE, MessageKind, Outcome, Socket, ready};

pub struct Soketto {
    sender: Sender<Socket>,
    receiver: Receiver<Socket>,
    message: Vec<u8>,
}

impl Soketto {
    async fn next(&mut self) -> Result<MessageKind, soketto::connection::Error> {
        self.message.clear();
        let data = self.receiver.receive_data(&mut self.message).await;
        Ok(match data? {
            Data::Text(_) => MessageKind::Text,
            Data::Binary(_) => MessageKind::Binary,
        })
    }

    async fn write(&mut self, kind: MessageKind) -> Outcome {
        let sent = match kind {
            MessageKind::Text => {
                let text = str::from_utf8(&self.message)?;
                self.sender.send_text(text).await
            }
            MessageKind::Binary => self.sender.send_binary(&self.message).await,
        };
        Ok(sent?)
    }
}

impl Contender for Soketto {
    const CHECKS_UTF8: bool = false;

    fn new(socket: Socket) -> Self {
        let mut builder = Builder::new(socket, Mode::Server);
        builder.set_max_message_size(MAX_MESSAGE);
        builder.set_max_frame_size(MAX_MESSAGE);
        let (sender, receiver) = builder.finish();
        Self {
            sender,
            receiver,
            message: Vec::new(),
        }
    }

    fn receive(&mut self, messages: usize, mut deliver: impl FnMut(MessageKind, &[u8])) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let kind = self.next().await?;
                deliver(kind, &self.message);
            }
            Ok(())
        })
    }

    fn echo(&mut self, messages: usize) -> Outcome {
        ready(async {
            for _ in 0..messages {
                let kind = self.next().await?;
                self.write(kind).await?;
            }
            self.sender.flush().await?;
            Ok(())
        })
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        ready(async {
            let sent = match kind {
                MessageKind::Text => {
                    let text = str::from_utf8(payload).expect("a text");
                    self.sender.send_text(text).await
                }
                MessageKind::Binary => self.sender.send_binary(payload).await,
            };
            sent.expect("takes all");
            self.sender.flush().await.expect("takes all");
        });
    }
}

impl Greeter for Soketto {
    fn greet(socket: Socket) {
        ready(async {
            let mut server = Server::new(socket);
            let key = {
                let request = server.receive_request().await.expect("a handshake");
                request.key()
            };
            let accept = Response::Accept {
                key,
                protocol: None,
            };
            server.send_response(&accept).await.expect("takes all");
        });
    }
}
