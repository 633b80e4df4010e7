//! A client whose every byte the test decides: for evil, slow and dying peers.

use super::frames::{self, Frame};
use super::http::{self, ACCEPT, Request, Response};
use super::nginx::Nginx;
use super::stream::{Stream, Transport};
use super::wait::patience;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// How the server ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN, and over TLS a `close_notify` before it.
    Clean,
    /// Over TLS: FIN without `close_notify`.
    Truncated,
    /// RST.
    Reset,
}

/// A hand-driven client.
pub struct Raw {
    stream: Stream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects, and sends nothing yet.
    pub fn open(nginx: &Nginx, transport: Transport) -> Self {
        let stream = match transport {
            Transport::Ws => Stream::plain(nginx.http()),
            Transport::Wss => Stream::tls(nginx.https()),
        };
        Self::over(stream.expect("a connection to nginx"))
    }

    /// As [`Raw::open`], with a small receive buffer, so that not reading is soon felt.
    pub fn open_narrow(nginx: &Nginx, transport: Transport) -> Self {
        let stream = match transport {
            Transport::Ws => Stream::plain_narrow(nginx.http(), 8 * 1024),
            Transport::Wss => Stream::tls_narrow(nginx.https(), 8 * 1024),
        };
        Self::over(stream.expect("a connection to nginx"))
    }

    /// Connects and is accepted at `target`.
    #[track_caller]
    pub fn accepted(nginx: &Nginx, transport: Transport, target: &str) -> Self {
        let mut raw = Self::open(nginx, transport);
        raw.upgrade(target);
        raw
    }

    /// As [`Raw::accepted`], with a small receive buffer.
    #[track_caller]
    pub fn accepted_narrow(nginx: &Nginx, transport: Transport, target: &str) -> Self {
        let mut raw = Self::open_narrow(nginx, transport);
        raw.upgrade(target);
        raw
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// The stream beneath.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the server does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("bytes sent");
    }

    /// Sends bytes to a server that may have gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a frame, masked.
    #[track_caller]
    pub fn send_frame(&mut self, frame: &Frame) {
        self.send(frame.wire());
    }

    /// Sends a right handshake and reads the 101.
    #[track_caller]
    pub fn upgrade(&mut self, target: &str) -> Response {
        self.send(Request::upgrade(target).wire());
        self.expect_101()
    }

    /// Reads a response that must be a right 101.
    #[track_caller]
    pub fn expect_101(&mut self) -> Response {
        let response = self.response();
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(ACCEPT));
        response
    }

    /// Reads a response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        http::read(&mut self.stream, &mut self.unread).expect("a response")
    }

    /// The next frame, or how the connection ended.
    #[track_caller]
    pub fn receive(&mut self) -> Result<Frame, End> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.unread) {
                self.unread.drain(..length);
                return Ok(frame);
            }
            self.fill()?;
        }
    }

    /// The next frame.
    ///
    /// # Panics
    /// When the connection ends instead.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.receive().expect("a frame")
    }

    /// The next frames must be these.
    #[track_caller]
    pub fn expect(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for expected in frames {
            assert_eq!(self.frame(), expected);
        }
    }

    /// The next data or Close frame must be a Close of that code; then the server ends the
    /// connection cleanly, also when this client does not answer the Close.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        self.expect_close_frame(code);
        assert_eq!(self.end(), End::Clean, "after Close {code}");
    }

    /// Skips control frames and expects a Close of that code.
    #[track_caller]
    pub fn expect_close_frame(&mut self, code: u16) {
        let frame = loop {
            let frame = self
                .receive()
                .unwrap_or_else(|e| panic!("{e:?} instead of Close {code}"));
            if !matches!(frame.opcode, frames::PING | frames::PONG) {
                break frame;
            }
        };
        assert_eq!(
            (frame.opcode, frame.close_code()),
            (frames::CLOSE, Some(code)),
            "{frame:?}"
        );
    }

    /// Reads until the connection ends; there must be no further frame.
    #[track_caller]
    pub fn end(&mut self) -> End {
        match self.receive() {
            Ok(frame) => panic!("{frame:?} instead of the end"),
            Err(end) => end,
        }
    }

    /// Nothing may arrive for `span`.
    #[track_caller]
    pub fn quiet(&mut self, span: Duration) {
        assert!(self.unread.is_empty(), "unread: {:02x?}", self.unread);
        self.stream.set_read_timeout(span);
        let mut piece = [0; 1024];
        match self.stream.read(&mut piece) {
            Ok(n) => panic!("{n} bytes came: {:?}", String::from_utf8_lossy(&piece[..n])),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => panic!("{e}"),
        }
        self.stream.set_read_timeout(patience());
    }

    /// Reads exactly `n` bytes of what the server sends, whatever they are.
    #[track_caller]
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.unread.len() < n {
            self.fill().expect("more bytes");
        }
        self.unread.drain(..n).collect()
    }

    /// The next byte of what the server sends; none when the connection has ended.
    #[track_caller]
    pub fn try_byte(&mut self) -> Option<u8> {
        if self.unread.is_empty() {
            self.fill().ok()?;
        }
        Some(self.unread.remove(0))
    }

    /// Puts bytes back in front of the unread ones.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(..0, bytes.iter().copied());
    }

    /// Ends the connection by RST.
    pub fn reset(self) {
        self.stream.reset();
    }

    #[track_caller]
    fn fill(&mut self) -> Result<(), End> {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(End::Clean),
            Ok(n) => {
                self.unread.extend_from_slice(&piece[..n]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(End::Truncated),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(e) => panic!("read: {e}"),
        }
    }
}
