//! One Redis server: the sockets around the two links of `proto::redis`.
//!
//! The links say what they want, this file does it with nginx's sockets. Deliveries and answers
//! come out of [`Redis::next_event`] as values; the worker routes them.

use std::sync::Arc;

use proto::redis::{Event, Link, Role, Server};

use crate::outside::{Outside, Peer, PeerId, Progress, Received, Sent};

/// A link reads at most so much in one event.
const READ_BUDGET: usize = 1 << 20;

/// Clients are not read while so many publishes are unanswered, or so many bytes unsent.
const MAX_UNANSWERED: usize = 10_000;
const MAX_UNSENT: usize = 1 << 20;

/// Both links of a worker to one server.
pub struct Redis<P> {
    subscriber: Wire<P>,
    publisher: Wire<P>,
    /// Publishes whose answer is awaited, probes not counted.
    pub unanswered: usize,
    /// A link was lent since its deadline was last asked for.
    touched: bool,
}

/// A link and its socket.
pub struct Wire<P> {
    /// The machine.
    pub link: Link,
    /// It was lost, or could not be made at all, and is not back.
    pub is_down: bool,
    /// It does not come back: the worker is about to exit.
    ended: bool,
    peer: Option<P>,
    id: PeerId,
    broker: usize,
    /// How often it was connected.
    attempts: usize,
}

/// The peer of a server's link.
pub fn peer(broker: usize, role: Role) -> PeerId {
    let index = match role {
        Role::Subscriber => 0,
        Role::Publisher => 1,
    };
    PeerId((broker * 2 + index) as u32)
}

/// Which server's which link a peer is.
pub fn of_peer(id: PeerId) -> (usize, Role) {
    let role = if id.0.is_multiple_of(2) {
        Role::Subscriber
    } else {
        Role::Publisher
    };
    (id.0 as usize / 2, role)
}

impl<P: Peer> Redis<P> {
    /// Two links to server `number`, not yet connected. Their probes and waits are drawn from `seeds`.
    pub fn new(number: usize, server: &Arc<Server>, seeds: [[u8; 16]; 2]) -> Redis<P> {
        let wire = |role, seed| Wire {
            link: Link::new(role, Arc::clone(server), u128::from_ne_bytes(seed)),
            is_down: false,
            ended: false,
            peer: None,
            id: peer(number, role),
            broker: number,
            attempts: 0,
        };
        let [subscriber, publisher] = seeds;
        Redis {
            subscriber: wire(Role::Subscriber, subscriber),
            publisher: wire(Role::Publisher, publisher),
            unanswered: 0,
            touched: true,
        }
    }

    /// One of the two links: what is done to it may move its deadline.
    pub fn wire(&mut self, role: Role) -> &mut Wire<P> {
        self.touched = true;
        match role {
            Role::Subscriber => &mut self.subscriber,
            Role::Publisher => &mut self.publisher,
        }
    }

    /// When a link wants to be looked at.
    pub fn deadline(&self) -> Option<u64> {
        let deadlines = [
            self.subscriber.link.deadline(),
            self.publisher.link.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The same, if a link was lent since this was last asked.
    pub fn moved_deadline(&mut self) -> Option<u64> {
        std::mem::take(&mut self.touched).then(|| self.deadline())?
    }

    /// Somebody waits for an answer.
    pub fn owes(&self) -> bool {
        self.subscriber.link.owes() || self.publisher.link.owes()
    }

    /// Heap of both links, in bytes.
    pub fn memory(&self) -> usize {
        self.subscriber.link.memory() + self.publisher.link.memory()
    }

    /// Whether each link is usable: subscriber, publisher.
    pub fn is_up(&self) -> (bool, bool) {
        (self.subscriber.link.is_up(), self.publisher.link.is_up())
    }

    /// Clients should not be read for more to publish: the link has much to do, has no room for a
    /// `message` of so many bytes, or is not made yet. One that is down takes none, and says so.
    pub fn is_congested(&mut self, message: usize) -> bool {
        if !self.publisher.link.is_up() {
            return self.is_starting();
        }
        self.unanswered > MAX_UNANSWERED
            || self.publisher.link.output().len() > MAX_UNSENT
            || !self.publisher.link.has_room(message)
    }

    /// The publisher link has not been made yet, and not failed either.
    pub fn is_starting(&self) -> bool {
        !self.publisher.link.is_up() && !self.publisher.is_down
    }
}

impl<P: Peer> Wire<P> {
    /// The link's deadline has come.
    pub fn is_due(&self, now: u64) -> bool {
        self.link.deadline().is_some_and(|due| due <= now)
    }

    /// Begins to connect, to each of the server's addresses in turn.
    pub fn connect<O: Outside<Peer = P>>(&mut self, out: &mut O, now: u64) {
        self.peer = None;
        if self.ended {
            return;
        }
        let attempt = self.attempts;
        self.attempts = attempt.wrapping_add(1);
        match out.connect(self.broker, attempt, self.id) {
            Ok(peer) => self.peer = Some(peer),
            Err(cause) => self.link.handle_disconnected(now, &cause),
        }
    }

    /// Closes the socket for good and tells the link.
    pub fn end(&mut self, cause: &str, now: u64) {
        self.ended = true;
        self.lost(cause, now);
    }

    /// It is open, and nothing waits to be written.
    pub fn is_quiet(&mut self) -> bool {
        self.peer.as_ref().is_some_and(P::is_open) && self.link.output().is_empty()
    }

    /// Closes the socket; the link knows already.
    pub fn disconnect(&mut self) {
        self.peer = None;
    }

    /// The socket's read or write event. True: it is open, and may be read.
    pub fn advance(&mut self, now: u64) -> bool {
        let Some(peer) = &mut self.peer else {
            return false;
        };
        match peer.advance() {
            Progress::Pending => false,
            Progress::Open => true,
            Progress::Opened => {
                self.link.handle_connected(now);
                true
            }
            Progress::Failed(cause) => {
                self.lost(&cause, now);
                false
            }
        }
    }

    /// Reads once. True: there may be more; `read` counts the bytes of this event. What the link
    /// has to say is to be heard either way.
    pub fn read(&mut self, read: &mut usize, now: u64) -> bool {
        let Some(peer) = &self.peer else { return false };
        if *read >= READ_BUDGET {
            peer.read_again();
            return false;
        }
        match peer.recv(self.link.read_buf()) {
            Received::Bytes(count) => {
                *read += count;
                let may_be_more = peer.is_readable();
                self.link.handle_read(count, now);
                may_be_more
            }
            Received::Again => false,
            Received::Eof => {
                self.lost("connection closed by server", now);
                true
            }
            Received::Failed => {
                self.lost("read failed", now);
                true
            }
        }
    }

    /// What the socket may still have is to be read in the next round of the event loop.
    pub fn read_again(&self) {
        if let Some(peer) = &self.peer {
            peer.read_again();
        }
    }

    /// Writes what the link wants to send, as far as the socket takes it.
    pub fn write(&mut self, now: u64) {
        loop {
            let Some(peer) = self.peer.as_mut().filter(|peer| peer.is_open()) else {
                return;
            };
            let output = self.link.output();
            if output.is_empty() {
                return;
            }
            match peer.send(output) {
                Sent::Bytes(count) => self.link.handle_written(count, now),
                Sent::Again => return,
                Sent::Failed => return self.lost("write failed", now),
            }
        }
    }

    /// Closes the socket and tells the link.
    pub fn lost(&mut self, cause: &str, now: u64) {
        self.peer = None;
        self.link.handle_disconnected(now, cause);
    }

    /// What the link has to say.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        self.link.next_event()
    }
}
