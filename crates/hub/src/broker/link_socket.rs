//! One link to a Redis server, and its socket.
//!
//! `proto::redis::Link` says what it wants; this file does it with a peer of the outside.

use std::sync::Arc;

use proto::redis::{Link, Role, Server};

use crate::outside::{Outside, Peer, PeerId, Progress, Received, Sent};

/// A link reads at most so much in one event.
const READ_BUDGET: usize = 1 << 20;

/// A link and its socket.
pub(super) struct LinkSocket<P> {
    /// The machine.
    pub(super) link: Link,
    /// It was lost, or could not be made at all, and is not back.
    pub(super) is_down: bool,
    /// It stands in the queue of those that have something to do or to say.
    pub(super) is_attended: bool,
    /// Its socket may have something, and is to be read.
    pub(super) may_read: bool,
    /// Its deadline is to be looked at, once what its socket has is heard.
    pub(super) is_judged: bool,
    /// Bytes read in this event.
    read: usize,
    /// It does not come back: the worker is about to exit.
    ended: bool,
    peer: Option<P>,
    id: PeerId,
    /// How often it was connected.
    attempts: usize,
}

impl<P: Peer> LinkSocket<P> {
    /// Not yet connected. Its events carry `id`; its waits are drawn from `seed`.
    pub(super) fn new(role: Role, server: &Arc<Server>, id: PeerId, seed: [u8; 16]) -> Self {
        LinkSocket {
            link: Link::new(role, Arc::clone(server), u128::from_ne_bytes(seed)),
            is_down: false,
            is_attended: false,
            may_read: false,
            is_judged: false,
            read: 0,
            ended: false,
            peer: None,
            id,
            attempts: 0,
        }
    }

    /// The link's deadline has come.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.link.deadline().is_some_and(|due| due <= now)
    }

    /// Begins to connect, to each of the server's addresses in turn.
    pub(super) fn connect<O: Outside<Peer = P>>(&mut self, broker: u16, out: &mut O, now: u64) {
        self.peer = None;
        if self.ended {
            return;
        }
        let attempt = self.attempts;
        self.attempts = attempt.wrapping_add(1);
        match out.connect(broker.into(), attempt, self.id) {
            Ok(peer) => self.peer = Some(peer),
            Err(cause) => self.link.handle_disconnected(now, &cause),
        }
    }

    /// Closes the socket for good and tells the link.
    pub(super) fn end(&mut self, cause: &str, now: u64) {
        self.ended = true;
        self.lost(cause, now);
    }

    /// It is open, and nothing waits to be written.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.peer.as_ref().is_some_and(P::is_open) && self.link.output().is_empty()
    }

    /// Closes the socket; the link knows already.
    pub(super) fn disconnect(&mut self) {
        self.peer = None;
    }

    /// The socket's read or write event: a connection that is under way goes on.
    pub(super) fn advance(&mut self, now: u64) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        match peer.advance() {
            Progress::Pending => {}
            Progress::Open => self.begin_reading(),
            Progress::Opened => {
                self.link.handle_connected(now);
                self.begin_reading();
            }
            Progress::Failed(cause) => self.lost(&cause, now),
        }
    }

    fn begin_reading(&mut self) {
        self.may_read = true;
        self.read = 0;
    }

    /// Reads once. What the link has to say of it is to be heard.
    fn read(&mut self, now: u64) {
        let Some(peer) = &self.peer else {
            self.may_read = false;
            return;
        };
        if self.read >= READ_BUDGET {
            peer.read_again();
            self.may_read = false;
            return;
        }
        match peer.recv(self.link.read_buf()) {
            Received::Bytes(count) => {
                self.read += count;
                self.may_read = peer.is_readable();
                self.link.handle_read(count, now);
            }
            Received::Again => self.may_read = false,
            Received::Eof => self.lost("connection closed by server", now),
            Received::Failed => self.lost("read failed", now),
        }
    }

    /// Goes on once the link has nothing to say: reads, judges, writes. False: there is nothing to do.
    pub(super) fn go_on(&mut self, now: u64) -> bool {
        if self.may_read {
            self.read(now);
            return true;
        }
        self.judge(now) || self.write(now)
    }

    /// The link's deadline has come, and what its socket has is heard. False: it has not.
    pub(super) fn judge(&mut self, now: u64) -> bool {
        let is_due = std::mem::take(&mut self.is_judged) && self.is_due(now);
        if is_due {
            self.link.handle_timeout(now);
        }
        is_due
    }

    /// What the socket may still have is read in the next round of the event loop.
    pub(super) fn read_later(&mut self, now: u64) {
        if std::mem::take(&mut self.may_read)
            && let Some(peer) = &self.peer
        {
            peer.read_again();
            self.link.handle_unread(now);
        }
    }

    /// Writes what the link wants to send, as far as the socket takes it. False: nothing has changed.
    pub(super) fn write(&mut self, now: u64) -> bool {
        let mut has_written = false;
        loop {
            let Some(peer) = self.peer.as_mut().filter(|peer| peer.is_open()) else {
                return has_written;
            };
            let output = self.link.output();
            if output.is_empty() {
                return has_written;
            }
            match peer.send(output) {
                Sent::Bytes(count) => {
                    self.link.handle_written(count, now);
                    has_written = true;
                }
                Sent::Again => return has_written,
                Sent::Failed => {
                    self.lost("write failed", now);
                    return true;
                }
            }
        }
    }

    /// Closes the socket and tells the link.
    fn lost(&mut self, cause: &str, now: u64) {
        self.peer = None;
        self.may_read = false;
        self.link.handle_disconnected(now, cause);
    }
}
