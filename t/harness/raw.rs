//! A client with full control over its bytes, for malicious, slow and dying peers.

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
    /// FIN, after a `close_notify` over TLS.
    Clean,
    /// FIN without `close_notify`, over TLS.
    Truncated,
    /// RST.
    Reset,
}

/// A hand-driven client.
pub struct Raw {
    stream: Stream,
    unread: Vec<u8>,
    /// How many bytes of `unread` have been consumed. Many small frames may arrive in one piece.
    taken: usize,
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

    /// Like [`Raw::open`], with small buffers, so that not reading is soon noticed.
    pub fn open_narrow(nginx: &Nginx, transport: Transport) -> Self {
        let stream = match transport {
            Transport::Ws => Stream::plain_narrow(nginx.http(), 8 * 1024),
            Transport::Wss => Stream::tls_narrow(nginx.https(), 8 * 1024),
        };
        Self::over(stream.expect("a connection to nginx"))
    }

    /// Connects and performs the handshake at `target`.
    #[track_caller]
    pub fn accepted(nginx: &Nginx, transport: Transport, target: &str) -> Self {
        let mut raw = Self::open(nginx, transport);
        raw.upgrade(target);
        raw
    }

    /// Like [`Raw::accepted`], with small buffers.
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
            taken: 0,
        }
    }

    /// The underlying stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the server does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("bytes sent");
    }

    /// Sends bytes to a server that may have gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Offers bytes in one write. Returns how many the server took within `span`.
    #[track_caller]
    pub fn offer(&mut self, bytes: &[u8], span: Duration) -> usize {
        let socket = |stream: &Stream, span| stream.socket().set_write_timeout(Some(span));
        socket(&self.stream, span).expect("a write timeout");
        // A connection that has ended takes nothing either. Its last data can still be read.
        let taken = self.stream.write(bytes).unwrap_or_default();
        socket(&self.stream, patience()).expect("a write timeout");
        taken
    }

    /// Sends bytes, in one write if the server takes them. Whenever it takes no more, reads its
    /// next frame. Returns these frames.
    #[track_caller]
    pub fn send_and_hear(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let (mut sent, mut heard) = (0, Vec::new());
        while sent < bytes.len() {
            match self.offer(&bytes[sent..], Duration::from_millis(20)) {
                0 => heard.push(self.frame()),
                taken => sent += taken,
            }
        }
        heard
    }

    /// Sends a frame, masked.
    #[track_caller]
    pub fn send_frame(&mut self, frame: &Frame) {
        self.send(frame.wire());
    }

    /// Sends a valid handshake and reads the 101.
    #[track_caller]
    pub fn upgrade(&mut self, target: &str) -> Response {
        self.send(Request::upgrade(target).wire());
        self.expect_101()
    }

    /// Reads a response, which must be a valid 101.
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
        self.forget_taken();
        http::read(&mut self.stream, &mut self.unread).expect("a response")
    }

    /// The next frame, or how the connection ended.
    #[track_caller]
    pub fn receive(&mut self) -> Result<Frame, End> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.unread[self.taken..]) {
                self.taken += length;
                return Ok(frame);
            }
            self.fill()?;
        }
    }

    /// The next frame.
    ///
    /// # Panics
    /// If the connection ends instead.
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

    /// The next data or Close frame must be a Close with this code. Then the server must end the
    /// connection cleanly, even if this client does not answer the Close.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        self.expect_close_frame(code);
        assert_eq!(self.end(), End::Clean, "after Close {code}");
    }

    /// Skips control frames and expects a Close with this code.
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

    /// Reads until the connection ends. There must be no further frame.
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
        self.forget_taken();
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

    /// Reads exactly `n` bytes from the server, whatever they are.
    #[track_caller]
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.unread.len() - self.taken < n {
            self.fill().expect("more bytes");
        }
        self.taken += n;
        self.unread[self.taken - n..self.taken].to_vec()
    }

    /// The next byte from the server. `None` if the connection has ended.
    #[track_caller]
    pub fn try_byte(&mut self) -> Option<u8> {
        if self.unread.len() == self.taken {
            self.fill().ok()?;
        }
        self.taken += 1;
        Some(self.unread[self.taken - 1])
    }

    /// Puts bytes back in front of the unread ones.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.forget_taken();
        self.unread.splice(..0, bytes.iter().copied());
    }

    /// Ends the connection by RST.
    pub fn reset(self) {
        self.stream.reset();
    }

    fn forget_taken(&mut self) {
        self.unread.drain(..std::mem::take(&mut self.taken));
    }

    #[track_caller]
    fn fill(&mut self) -> Result<(), End> {
        self.forget_taken();
        if matches!(&self.stream, Stream::Tls(tls) if tls.conn.wants_write()) {
            // The socket had not taken everything. It may now.
            self.offer(&[], Duration::from_millis(1));
        }
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
