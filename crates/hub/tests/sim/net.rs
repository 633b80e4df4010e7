//! The kernel and nginx's event module, as far as a hub sees them: sockets with limited buffers, an
//! edge-triggered epoll, the `ready` and `active` flags of nginx's events, posted events.
//!
//! A round of the event loop: events posted for the next round become due; epoll reports which
//! sockets have news ([`Net::begin_round`]); the timer; posted events. [`crate::world`] drives it.

use std::cell::RefCell;
use std::collections::VecDeque;

use fanout::ClientId;
use hub::outside::{PeerId, RECORD, Received, Sent};

use crate::pipe::Pipe;
use crate::redis::Server;
use crate::settings::Ask;

thread_local! {
    static NET: RefCell<Net> = RefCell::new(Net::default());
}

/// Borrows the net of this thread's world.
pub fn net<R>(work: impl FnOnce(&mut Net) -> R) -> R {
    NET.with_borrow_mut(work)
}

/// How nginx sees a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its request has not been judged yet.
    Asking,
    /// Its request is parked under this number, and nginx watches for its end.
    Parked(u64),
    /// The 101 is not out yet, or the session has not taken over yet.
    Opening(ClientId),
    /// The session has the connection.
    Open(ClientId),
    /// It is closed, or got another answer.
    Over,
}

/// A client's connection, both ends.
pub struct Socket {
    pub stage: Stage,
    /// Since when it is in this stage, or shut down.
    pub since: u64,
    pub ask: &'static Ask,
    /// The body of a post.
    pub body: Vec<u8>,
    pub is_tls: bool,
    pub is_detached: bool,
    /// Size of the kernel's buffer towards the client.
    pub room: usize,
    /// Bytes that came with the handshake.
    pub early: Vec<u8>,
    /// The rest of the 101, which nginx has yet to write.
    pub head: Pipe,
    /// Written by the server, and not taken yet.
    pub down: Pipe,
    /// Sent by the client, and not read yet.
    pub up: Pipe,
    /// The client has sent its FIN.
    pub is_fin: bool,
    /// The client has reset the connection.
    pub is_reset: bool,
    /// The server has sent its FIN.
    pub is_shut: bool,
    /// When the server has closed it, and whether with input unread.
    pub closed: Option<(u64, bool)>,
    /// When the client came, or last sent anything.
    pub sent_at: u64,
    /// How long the client had been silent when the log last reported it.
    pub silence: u64,
    /// Whether everything that it had sent was read by then.
    pub was_heard_out: bool,
    /// How often it was full.
    pub shorts: u64,
    /// The hub has called `abandon`.
    pub is_abandoned: bool,
    is_full: bool,
    read_ready: bool,
    pending_eof: bool,
    write_ready: bool,
    write_active: bool,
    is_edge: bool,
    /// Over TLS: bytes that must be offered again.
    committed: Option<Vec<u8>>,
}

/// A connection to a virtual Redis.
pub struct PeerSocket {
    pub id: PeerId,
    pub server: usize,
    /// The server has accepted it.
    pub is_connected: bool,
    /// The server has refused, reset or closed it.
    pub is_cut: bool,
    /// The hub has closed it.
    pub is_closed: bool,
    pub room: usize,
    pub up: Pipe,
    pub down: Pipe,
    is_open: bool,
    is_full: bool,
    read_ready: bool,
    write_ready: bool,
    is_edge: bool,
}

/// The owner of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Client(usize),
    Peer(usize),
}

/// What epoll has reported.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub source: Source,
    pub input: bool,
    pub is_eof: bool,
    pub output: bool,
}

/// A posted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    Read(Source),
    Write(Source),
    TakeOver(usize),
    Turn,
}

/// Everything outside a hub.
#[derive(Default)]
pub struct Net {
    /// nginx's clock: the time of the round.
    pub now: u64,
    /// The real clock.
    pub clock: u64,
    pub is_exiting: bool,
    pub exiting_since: u64,
    /// All connections are cut.
    pub is_forced: bool,
    pub shutdown_timeout: Option<u64>,
    pub sends_together: bool,
    /// Memory is so short that clients may be treated for it.
    pub is_tight: bool,
    pub was_held_up: bool,
    pub sockets: Vec<Socket>,
    pub peers: Vec<PeerSocket>,
    pub servers: Vec<Server>,
    pub posted: VecDeque<Post>,
    pub posted_next: VecDeque<Post>,
    /// What epoll has reported in this round and is not handled yet.
    pub told: Vec<Ready>,
    pub edges: Vec<Source>,
    /// The first mistake in a call of the hub.
    pub wrong: Option<String>,
    /// How often random numbers and the like were asked for.
    pub draws: u64,
}

impl Net {
    pub fn blame(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    pub fn post(&mut self, post: Post) {
        if !self.posted.contains(&post) && !self.posted_next.contains(&post) {
            self.posted.push_back(post);
        }
    }

    pub fn post_next(&mut self, post: Post) {
        if !self.posted.contains(&post) && !self.posted_next.contains(&post) {
            self.posted_next.push_back(post);
        }
    }

    /// Something happened at a socket: epoll will report its state.
    pub fn wake(&mut self, source: Source) {
        let is_edge = match source {
            Source::Client(at) => &mut self.sockets[at].is_edge,
            Source::Peer(at) => &mut self.peers[at].is_edge,
        };
        if !std::mem::replace(is_edge, true) {
            self.edges.push(source);
        }
    }

    /// Whether a round would find anything, apart from the timer.
    pub fn has_work(&self) -> bool {
        !(self.told.is_empty()
            && self.posted.is_empty()
            && self.posted_next.is_empty()
            && self.edges.is_empty())
    }

    /// `epoll_wait(2)`.
    pub fn begin_round(&mut self) {
        self.now = self.clock;
        self.posted.append(&mut self.posted_next);
        for source in std::mem::take(&mut self.edges) {
            let told = match source {
                Source::Client(at) => self.sockets[at].state(source),
                Source::Peer(at) => self.peers[at].state(source),
            };
            self.told.extend(told);
        }
    }

    /// Whether bytes are in transit to or from a server.
    pub fn is_flowing(&self) -> bool {
        let is_well = |peer: &&PeerSocket| !self.servers[peer.server].is_stalled;
        let peers = self
            .peers
            .iter()
            .filter(|peer| peer.is_connected && !peer.is_closed);
        peers
            .filter(|peer| !peer.is_cut)
            .filter(is_well)
            .any(|peer| !peer.up.is_empty())
            || self.servers.iter().any(Server::has_output)
    }

    /// A connection enters another stage.
    pub fn enter(&mut self, at: usize, stage: Stage) {
        let now = self.now;
        let socket = &mut self.sockets[at];
        (socket.stage, socket.since) = (stage, now);
    }

    /// The server closes a connection. With input unread that is a RST, and the client loses what
    /// it has not taken.
    pub fn close(&mut self, at: usize) {
        let (now, is_forced) = (self.clock, self.is_forced);
        let socket = &mut self.sockets[at];
        let is_unread = !socket.up.is_empty();
        socket.stage = Stage::Over;
        socket.closed = Some((now, is_unread));
        let is_excused = socket.is_fin || socket.is_reset || socket.is_abandoned || is_forced;
        if is_unread && socket.is_shut && !is_excused {
            self.blame(|| format!("connection {at} is reset after its Close"));
        }
        self.forget(Source::Client(at));
    }

    /// Drops the events of a closed socket.
    pub fn forget(&mut self, source: Source) {
        self.told.retain(|ready| ready.source != source);
        let is_its = |post: &Post| match *post {
            Post::Read(of) | Post::Write(of) => of == source,
            Post::TakeOver(at) => Source::Client(at) == source,
            Post::Turn => false,
        };
        self.posted.retain(|post| !is_its(post));
        self.posted_next.retain(|post| !is_its(post));
    }
}

impl Socket {
    pub fn new(ask: &'static Ask, is_tls: bool, room: usize, now: u64) -> Socket {
        Socket {
            stage: Stage::Asking,
            since: now,
            ask,
            body: Vec::new(),
            is_tls,
            is_detached: false,
            room,
            early: Vec::new(),
            head: Pipe::default(),
            down: Pipe::default(),
            up: Pipe::default(),
            is_fin: false,
            is_reset: false,
            is_shut: false,
            closed: None,
            sent_at: now,
            silence: 0,
            was_heard_out: true,
            shorts: 0,
            is_abandoned: false,
            is_full: false,
            read_ready: false,
            pending_eof: false,
            write_ready: true,
            write_active: false,
            is_edge: false,
            committed: None,
        }
    }

    fn has_input(&self) -> bool {
        !self.up.is_empty() || self.is_fin || self.is_reset
    }

    /// The kernel's rule: at least a third is free.
    fn is_writable(&self) -> bool {
        self.is_reset || self.free() * 3 >= self.room
    }

    pub fn free(&self) -> usize {
        self.room.saturating_sub(self.down.len())
    }

    fn state(&mut self, source: Source) -> Option<Ready> {
        self.is_edge = false;
        let output = self.write_active && self.is_writable();
        let input = self.has_input();
        let is_eof = self.is_fin || self.is_reset;
        (self.closed.is_none() && (input || output)).then_some(Ready {
            source,
            input,
            is_eof,
            output,
        })
    }

    /// Sets nginx's flags before it calls the handlers.
    pub fn note_ready(&mut self, ready: &Ready) {
        self.read_ready |= ready.input;
        self.pending_eof |= ready.is_eof;
        self.write_ready |= ready.output;
    }

    /// `send(2)`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Sent, &'static str> {
        if self.closed.is_some() {
            return Err("a closed socket is written to");
        }
        if self.is_shut {
            return Err("a socket is written to after its shutdown");
        }
        if self.is_reset {
            return Ok(Sent::Failed);
        }
        if self.is_tls {
            return self.write_record(bytes);
        }
        let count = self.free().min(bytes.len());
        if count < bytes.len() {
            self.is_full = true;
            self.shorts += 1;
        }
        self.down.push(&bytes[..count]);
        Ok(match count {
            0 => Sent::Again,
            count => Sent::Bytes(count),
        })
    }

    /// `SSL_write`.
    fn write_record(&mut self, bytes: &[u8]) -> Result<Sent, &'static str> {
        let record = match self.committed.take() {
            None => bytes.len().min(RECORD),
            Some(before) if !bytes.starts_with(&before) => {
                return Err("what TLS has taken hold of is not offered again as it was");
            }
            Some(before) => before.len(),
        };
        if self.down.is_empty() || self.free() >= record {
            self.down.push(&bytes[..record]);
            return Ok(Sent::Bytes(record));
        }
        self.committed = Some(bytes[..record].to_vec());
        (self.is_full, self.write_ready) = (true, false);
        self.shorts += 1;
        Ok(Sent::Again)
    }

    /// `recv(2)`, and what nginx makes of it.
    pub fn read(&mut self, buf: &mut [u8]) -> Received {
        if self.is_reset {
            self.read_ready = false;
            return Received::Failed;
        }
        match self.up.read(buf) {
            0 => {
                self.read_ready = false;
                if self.is_fin {
                    Received::Eof
                } else {
                    Received::Again
                }
            }
            count => {
                if count < buf.len() && !self.pending_eof {
                    self.read_ready = false;
                }
                Received::Bytes(count)
            }
        }
    }

    /// `recv(2)` into a buffer of this size, repeatedly.
    pub fn discard(&mut self, buffer: usize, most: usize) -> Received {
        if self.is_reset {
            return Received::Failed;
        }
        if buffer == 0 {
            // With an empty buffer it returns 0, whatever there is to read.
            return Received::Eof;
        }
        let count = self.up.len().min(most);
        self.up.drop_front(count);
        if count == most {
            return Received::Bytes(count);
        }
        if self.is_fin {
            return Received::Eof;
        }
        self.read_ready = false;
        Received::Again
    }

    pub fn is_readable(&self) -> bool {
        self.read_ready
    }

    /// What `poll(2)` would report: input, room.
    pub fn news(&self) -> (bool, bool) {
        let room = !self.write_ready && self.is_writable();
        (self.has_input() || self.read_ready, room)
    }

    pub fn note_full(&mut self) {
        self.is_full = true;
        self.shorts += 1;
    }

    /// Returns true if the interest is new: epoll then checks at once.
    pub fn want_write(&mut self) -> bool {
        self.write_ready = false;
        !std::mem::replace(&mut self.write_active, true)
    }

    pub fn shut(&mut self, now: u64) -> Result<(), &'static str> {
        (self.is_shut, self.since) = (true, now);
        match self.committed {
            Some(_) => Err("TLS ends though it has taken hold of something"),
            None => Ok(()),
        }
    }

    /// The client takes what was sent. Returns true if epoll will report it.
    pub fn take(&mut self, most: usize, into: &mut Vec<u8>) -> bool {
        let count = self.down.len().min(most);
        into.extend_from_slice(&self.down.bytes()[..count]);
        self.down.drop_front(count);
        let is_news = self.is_full && self.is_writable();
        self.is_full &= !is_news;
        is_news
    }
}

impl PeerSocket {
    pub fn new(id: PeerId, server: usize, room: usize) -> PeerSocket {
        PeerSocket {
            id,
            server,
            is_connected: false,
            is_cut: false,
            is_closed: false,
            room,
            up: Pipe::default(),
            down: Pipe::default(),
            is_open: false,
            is_full: false,
            read_ready: false,
            write_ready: false,
            is_edge: false,
        }
    }

    fn state(&mut self, source: Source) -> Option<Ready> {
        self.is_edge = false;
        let output = self.is_cut || (self.is_connected && self.up.len() * 3 < self.room * 2);
        let input = self.is_cut || !self.down.is_empty();
        (!self.is_closed && (input || output)).then_some(Ready {
            source,
            input,
            is_eof: self.is_cut,
            output,
        })
    }

    pub fn note_ready(&mut self, ready: &Ready) {
        self.read_ready |= ready.input;
        self.write_ready |= ready.output;
    }

    /// Returns true if it has just opened.
    pub fn advance(&mut self) -> Result<Option<bool>, String> {
        if self.is_open {
            return Ok(Some(false));
        }
        if self.is_cut {
            return Err("connection refused".to_owned());
        }
        if !self.write_ready {
            return Ok(None);
        }
        self.is_open = true;
        Ok(Some(true))
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub fn is_readable(&self) -> bool {
        self.read_ready
    }

    pub fn read(&mut self, buf: &mut [u8]) -> Received {
        match self.down.read(buf) {
            0 => {
                self.read_ready = false;
                if self.is_cut {
                    Received::Eof
                } else {
                    Received::Again
                }
            }
            count => {
                if count < buf.len() && !self.is_cut {
                    self.read_ready = false;
                }
                Received::Bytes(count)
            }
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Sent {
        if self.is_cut {
            return Sent::Failed;
        }
        let count = self.room.saturating_sub(self.up.len()).min(bytes.len());
        self.is_full |= count < bytes.len();
        self.up.push(&bytes[..count]);
        match count {
            0 => {
                self.write_ready = false;
                Sent::Again
            }
            count => Sent::Bytes(count),
        }
    }

    /// The server has taken what was sent. Returns true if epoll will report it.
    pub fn has_room_again(&mut self) -> bool {
        std::mem::take(&mut self.is_full)
    }
}
