//! A well-behaved client: blocking tungstenite.

use super::nginx::Nginx;
use super::stream::{Stream, Transport};
use super::wait::patience;
use std::io::ErrorKind;
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// An open WebSocket.
pub struct Client {
    socket: WebSocket<Stream>,
    response: Response,
}

impl Client {
    /// Connects over `ws:`.
    ///
    /// # Panics
    /// If nginx refuses.
    #[track_caller]
    pub fn connect(nginx: &Nginx, target: &str) -> Self {
        Self::connect_over(nginx, Transport::Ws, target)
    }

    /// Connects over this transport.
    ///
    /// # Panics
    /// If nginx refuses.
    #[track_caller]
    pub fn connect_over(nginx: &Nginx, transport: Transport, target: &str) -> Self {
        Self::try_connect(nginx, transport, target, &[])
            .unwrap_or_else(|status| panic!("{target}: refused with {status}"))
    }

    /// Connects with extra header lines.
    ///
    /// # Errors
    /// The status of nginx's refusal.
    pub fn try_connect(
        nginx: &Nginx,
        transport: Transport,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let (stream, scheme) = match transport {
            Transport::Ws => (Stream::plain(nginx.http()), "ws"),
            Transport::Wss => (Stream::tls(nginx.https()), "wss"),
        };
        let uri = format!("{scheme}://localhost{target}");
        let mut request = uri.into_client_request().expect("a WebSocket URI");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request
                .headers_mut()
                .append(name, HeaderValue::from_str(value).expect("a value"));
        }
        match tungstenite::client(request, stream.expect("a connection to nginx")) {
            Ok((socket, response)) => Ok(Self { socket, response }),
            Err(HandshakeError::Failure(Error::Http(refusal))) => Err(refusal.status().as_u16()),
            Err(other) => panic!("{target}: {other}"),
        }
    }

    /// The value of a header line of the 101.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Sends text.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .expect("a message sent");
    }

    /// Sends any message.
    #[track_caller]
    pub fn send_message(&mut self, message: Message) {
        self.socket.send(message).expect("a message sent");
    }

    /// The next message other than a Ping or Pong.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        loop {
            match self.socket.read().expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// The next message, which must be text.
    #[track_caller]
    pub fn text(&mut self) -> String {
        match self.message() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?} instead of text"),
        }
    }

    /// The next message, which must be text. `None` if the read times out first.
    #[track_caller]
    pub fn try_text(&mut self) -> Option<String> {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Err(Error::Io(e)) if is_timeout(e.kind()) => return None,
                other => panic!("{other:?} instead of text"),
            }
        }
    }

    /// The next messages must be these texts.
    #[track_caller]
    pub fn expect<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        for expected in texts {
            assert_eq!(self.text(), expected.as_ref());
        }
    }

    /// The next message must be a Close with this code. Then the connection must end cleanly.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        match self.message() {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code),
            other => panic!("{other:?} instead of Close {code}"),
        }
        self.expect_end();
    }

    /// Closes with 1000, skips messages in flight, and waits for the server's Close and the end.
    #[track_caller]
    pub fn close(mut self) {
        self.socket.close(Some(normal())).expect("a Close sent");
        while !matches!(self.message(), Message::Close(_)) {}
        self.expect_end();
    }

    /// No data message may arrive for `span`.
    #[track_caller]
    pub fn quiet(&mut self, span: Duration) {
        self.socket.get_ref().set_read_timeout(span);
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => panic!("{message:?} came"),
                Err(Error::Io(e)) if is_timeout(e.kind()) => break,
                Err(e) => panic!("{e}"),
            }
        }
        self.socket.get_ref().set_read_timeout(patience());
    }

    /// The underlying stream.
    pub fn stream(&self) -> &Stream {
        self.socket.get_ref()
    }

    #[track_caller]
    fn expect_end(&mut self) {
        match self.socket.read() {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => {}
            other => panic!("{other:?} instead of the end"),
        }
    }
}

fn normal() -> tungstenite::protocol::CloseFrame {
    tungstenite::protocol::CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
