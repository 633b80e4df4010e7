//! Thousands of clients of a server, in a process of their own, as one process may not have enough
//! descriptors for all. They cost little, which leaves the machine to the server.
//!
//! `scale_clients ADDRESS SOURCE` connects to ADDRESS from 127.SOURCE.0.0/16, does what each line
//! of its standard input says, and then reports that it is done:
//!
//! ```text
//! join COUNT FIRST TARGET   COUNT more clients. The nth asks for TARGET, with FIRST + n for "{}"
//! hear COUNT                waits until each has heard COUNT messages since it joined or `hear`
//! leave COUNT               the last COUNT clients leave, by RST
//! ```
//!
//! Messages start with a number, and a client's next message must have the next number: anything
//! else ends the process. `hear` is answered with the time (of the system's clock, in nanoseconds)
//! at which the last message had arrived.
#![forbid(unsafe_code)]

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};
use t::{Frame, Request, frames, http, patience};

/// Handshakes under way at once: nginx's backlog is 511.
const AT_ONCE: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments[0].parse().expect("an address");
    let source = arguments[1].parse().expect("a number");
    t::process::allow_many_descriptors();
    let mut clients = Clients::new(address, source);
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number");
        match words[0] {
            "join" => clients.join(number(1), number(2), words[3]),
            "hear" => clients.hear(number(1)),
            "leave" => clients.leave(number(1)),
            other => panic!("{other}?"),
        }
        println!("done {}", clients.last_heard.as_nanos());
    }
    clients.leave(clients.list.len());
}

struct Clients {
    address: SocketAddr,
    source: u8,
    poll: Poll,
    events: Events,
    list: Vec<Client>,
    /// Clients whose handshake was accepted.
    accepted: usize,
    /// Messages that all of them have received together.
    heard: usize,
    last_heard: Duration,
}

struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    is_accepted: bool,
    heard: usize,
    /// The number of the last message.
    last: Option<u64>,
}

impl Clients {
    fn new(address: SocketAddr, source: u8) -> Self {
        Self {
            address,
            source,
            poll: Poll::new().expect("a poller"),
            events: Events::with_capacity(1024),
            list: Vec::new(),
            accepted: 0,
            heard: 0,
            last_heard: Duration::ZERO,
        }
    }

    fn join(&mut self, count: usize, first: usize, target: &str) {
        for at in 0..count {
            let target = target.replace("{}", &(first + at).to_string());
            let client = self.connect(&target);
            self.list.push(client);
            if self.list.len() - self.accepted >= AT_ONCE {
                let enough = self.list.len() - AT_ONCE / 2;
                self.until("they are accepted", |clients| clients.accepted >= enough);
            }
        }
        let all = self.list.len();
        self.until("all are accepted", |clients| clients.accepted == all);
    }

    fn hear(&mut self, count: usize) {
        let all = self.heard + count * self.list.len();
        self.until("all have heard", |clients| clients.heard >= all);
        for client in &mut self.list {
            assert_eq!(client.heard, count, "messages of one client");
            client.heard = 0;
        }
        self.heard = 0;
    }

    fn leave(&mut self, count: usize) {
        for client in self.list.drain(self.list.len() - count..) {
            self.heard -= client.heard;
            self.accepted -= 1;
            let socket = socket2::SockRef::from(&client.stream);
            // By RST: waiting for late packets would leave too few ports for later clients.
            socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        }
    }

    fn connect(&self, target: &str) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // One address has ports for some 28,000 connections.
        let host = (self.list.len() % 8) as u8;
        let source = SocketAddr::from((Ipv4Addr::new(127, self.source, 0, 1 + host), 0));
        socket.bind(&source.into()).expect("an address");
        socket.connect(&self.address.into()).expect("a connection");
        let mut stream: std::net::TcpStream = socket.into();
        stream
            .write_all(&Request::upgrade(target).wire())
            .expect("a handshake sent");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        let mut stream = TcpStream::from_std(stream);
        let token = Token(self.list.len());
        let registry = self.poll.registry();
        registry
            .register(&mut stream, token, Interest::READABLE)
            .expect("a socket watched");
        Client {
            stream,
            unread: Vec::new(),
            is_accepted: false,
            heard: 0,
            last: None,
        }
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut end = Instant::now() + patience();
        while !condition(self) {
            let (accepted, heard) = (self.accepted, self.heard);
            let span = Some(Duration::from_millis(100));
            match self.poll.poll(&mut self.events, span) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other.expect("a poll"),
            }
            for event in &self.events {
                let client = &mut self.list[event.token().0];
                let (was_accepted, had_heard) = (client.is_accepted, client.heard);
                client.read();
                self.accepted += usize::from(client.is_accepted && !was_accepted);
                self.heard += client.heard - had_heard;
            }
            if (accepted, heard) != (self.accepted, self.heard) {
                end = Instant::now() + patience();
            }
            if heard != self.heard {
                self.last_heard = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
            }
            let count = self.list.len();
            assert!(
                Instant::now() < end,
                "waited in vain until {what}: {count} clients, {accepted} accepted, {heard} messages"
            );
        }
    }
}

impl Client {
    fn read(&mut self) {
        let mut piece = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(n) => {
                    self.unread.extend_from_slice(&piece[..n]);
                    self.understand();
                    if n < piece.len() {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => panic!("read: {e}"),
            }
        }
    }

    fn understand(&mut self) {
        let mut at = 0;
        if !self.is_accepted {
            let Some(end) = http::find(&self.unread, b"\r\n\r\n") else {
                return;
            };
            let status = http::parse_head(&self.unread).expect("a response").status;
            assert_eq!(status, 101, "a handshake");
            self.is_accepted = true;
            at = end + 4;
        }
        while let Some((frame, length)) = Frame::parse(&self.unread[at..]) {
            at += length;
            self.hear(&frame);
        }
        self.unread.drain(..at);
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
    }

    fn hear(&mut self, frame: &Frame) {
        assert_eq!((frame.opcode, frame.fin), (frames::TEXT, true), "{frame:?}");
        let text = std::str::from_utf8(&frame.payload).expect("text");
        let number = text.trim_end_matches('.').parse().expect("a number");
        let next = self.last.map_or(number, |last| last + 1);
        assert_eq!(number, next, "the number of the next message");
        self.last = Some(number);
        self.heard += 1;
    }
}
