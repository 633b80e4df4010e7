//! Many clients in one thread: non-blocking sockets and one poller.

use super::frames::{self, Frame};
use super::http::{self, Request};
use super::nginx::Nginx;
use super::process;
use super::wait::patience;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// Clients over `ws:` that answer Ping and Close and record everything they receive.
pub struct Crowd {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
}

/// One client.
pub struct Member {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The status of the response to its handshake.
    pub status: Option<u16>,
    /// Payloads of all messages, in order.
    pub messages: Vec<Vec<u8>>,
    /// The code of the server's Close, 1005 if it had none.
    pub close_code: Option<u16>,
    /// Whether the connection has ended.
    pub ended: bool,
}

impl Crowd {
    /// A crowd without clients.
    pub fn new() -> Self {
        process::allow_many_descriptors();
        let poll = Poll::new().expect("a poller");
        Self {
            poll,
            events: Events::with_capacity(1024),
            members: Vec::new(),
        }
    }

    /// `n` clients whose handshakes were accepted. Client `i` requests `target(i)`.
    ///
    /// # Panics
    /// If a client is refused.
    #[track_caller]
    pub fn accepted(nginx: &Nginx, n: usize, target: impl Fn(usize) -> String) -> Self {
        let mut crowd = Self::new();
        // By hundreds, because nginx's backlog is 511.
        for first in (0..n).step_by(100) {
            for i in first..n.min(first + 100) {
                crowd.join(nginx, &target(i));
            }
            crowd.until("all are accepted", |all| {
                all.iter().all(|m| m.status == Some(101))
            });
        }
        crowd
    }

    /// Adds a client and sends its handshake without waiting for the response. Returns its index.
    pub fn join(&mut self, nginx: &Nginx, target: &str) -> usize {
        let index = self.members.len();
        let member = self.connect(nginx, target, index);
        self.members.push(member);
        index
    }

    /// Reconnects a client that has ended, at the same index. Its messages are discarded.
    pub fn rejoin(&mut self, nginx: &Nginx, index: usize, target: &str) {
        self.members[index] = self.connect(nginx, target, index);
    }

    /// The clients.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Discards the messages received so far.
    pub fn forget(&mut self) {
        self.members
            .iter_mut()
            .for_each(|member| member.messages.clear());
    }

    /// Sends a frame from one client.
    pub fn send(&mut self, index: usize, frame: &Frame) {
        let stream = &mut self.members[index].stream;
        stream
            .write_all(&frame.wire())
            .expect("a small frame fits into the socket's buffer");
    }

    /// Reads until `condition` holds.
    ///
    /// # Panics
    /// If it does not within the harness' patience.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&[Member]) -> bool) {
        let end = Instant::now() + patience();
        while !condition(&self.members) {
            assert!(
                Instant::now() < end,
                "waited in vain until {what}: {}",
                self.summary()
            );
            self.pump(Duration::from_millis(20));
        }
    }

    /// Reads for at most `span`. Returns as soon as something has arrived.
    pub fn pump(&mut self, span: Duration) {
        match self.poll.poll(&mut self.events, Some(span)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return,
            other => other.expect("a poll"),
        }
        for event in &self.events {
            let member = &mut self.members[event.token().0];
            if !member.ended {
                member.read();
            }
        }
    }

    fn connect(&self, nginx: &Nginx, target: &str, index: usize) -> Member {
        let mut stream = std::net::TcpStream::connect(nginx.http()).expect("a connection to nginx");
        stream
            .write_all(&Request::upgrade(target).wire())
            .expect("a handshake sent");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let mut stream = TcpStream::from_std(stream);
        let registry = self.poll.registry();
        registry
            .register(&mut stream, Token(index), Interest::READABLE)
            .expect("a socket watched");
        let (unread, messages) = (Vec::new(), Vec::new());
        Member {
            stream,
            unread,
            status: None,
            messages,
            close_code: None,
            ended: false,
        }
    }

    fn summary(&self) -> String {
        let count = |f: fn(&Member) -> bool| self.members.iter().filter(|m| f(m)).count();
        format!(
            "{} clients: {} answered, {} of them 101, {} closed, {} ended, {} messages",
            self.members.len(),
            count(|m| m.status.is_some()),
            count(|m| m.status == Some(101)),
            count(|m| m.close_code.is_some()),
            count(|m| m.ended),
            self.members.iter().map(|m| m.messages.len()).sum::<usize>(),
        )
    }
}

impl Default for Crowd {
    fn default() -> Self {
        Self::new()
    }
}

impl Member {
    /// Whether it was accepted and not yet closed.
    pub fn is_open(&self) -> bool {
        self.status == Some(101) && self.close_code.is_none() && !self.ended
    }

    /// Whether it was refused, or its connection has ended. It may then connect again.
    pub fn is_done(&self) -> bool {
        self.ended || self.status.is_some_and(|status| status != 101)
    }

    /// Its messages as text.
    pub fn texts(&self) -> Vec<String> {
        self.messages
            .iter()
            .map(|m| String::from_utf8_lossy(m).into_owned())
            .collect()
    }

    fn read(&mut self) {
        let mut piece = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(n) => self.unread.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.ended = true,
            }
            self.understand();
            if self.ended {
                return;
            }
        }
    }

    fn understand(&mut self) {
        if self.status.is_none() {
            let Some(end) = http::find(&self.unread, b"\r\n\r\n") else {
                return;
            };
            let head: Vec<u8> = self.unread.drain(..end + 4).collect();
            self.status = Some(http::parse_head(&head).expect("a response").status);
        }
        if self.status != Some(101) {
            return;
        }
        let mut at = 0;
        while let Some((frame, length)) = Frame::parse(&self.unread[at..]) {
            at += length;
            self.hear(frame);
        }
        self.unread.drain(..at);
    }

    fn hear(&mut self, frame: Frame) {
        assert!(self.close_code.is_none(), "{frame:?} after a Close");
        let answer = match frame.opcode {
            frames::CLOSE => {
                self.close_code = Some(frame.close_code().unwrap_or(1005));
                frame
            }
            frames::PING => frames::pong(frame.payload),
            frames::PONG => return,
            _ => {
                assert!(frame.fin && frame.rsv == 0, "{frame:?}");
                return self.messages.push(frame.payload);
            }
        };
        let _ = self.stream.write_all(&answer.wire());
    }
}
