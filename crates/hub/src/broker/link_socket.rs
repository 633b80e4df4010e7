//! One link to a Redis server, and its socket.
//!
//! `proto::redis::Link` says what it wants; this file does it with a peer of the outside.

use std::sync::Arc;

use proto::redis::{Link, Role, Server};

use crate::outside::{Outside, Peer, PeerId, Progress, Received, Sent};

/// Most bytes that a link reads in one event.
const READ_BUDGET: usize = 1 << 20;

/// A link and its socket.
pub(super) struct LinkSocket<P> {
    /// The protocol's state machine.
    pub(super) link: Link,
    /// The link was lost, or could not be made at all, and is not back.
    pub(super) is_down: bool,
    /// The link is in the queue of those that have something to do or to report.
    pub(super) is_attended: bool,
    /// The socket may have input and has to be read.
    pub(super) may_read: bool,
    /// The deadline has to be checked after the input in the socket has been processed.
    pub(super) is_judged: bool,
    /// Bytes read in this event.
    read: usize,
    /// The link does not come back: the worker is about to exit.
    ended: bool,
    peer: Option<P>,
    id: PeerId,
    /// Number of connection attempts.
    attempts: usize,
}

impl<P: Peer> LinkSocket<P> {
    /// A link that is not connected. Its events carry `id`; `seed` randomizes its delays.
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

    /// Whether the link's deadline has passed.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.link.deadline().is_some_and(|due| due <= now)
    }

    /// Starts to connect. Each attempt takes the next of the server's addresses.
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

    /// Whether the link is open with nothing left to write.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.peer.as_ref().is_some_and(P::is_open) && self.link.output().is_empty()
    }

    /// Closes the socket. The link already knows.
    pub(super) fn disconnect(&mut self) {
        self.peer = None;
    }

    /// Handles the socket's read or write event: continues a connect that is under way.
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

    /// Reads once. The caller must then process the link's events.
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

    /// Continues when the link has no more events: reads, checks the deadline, writes. False: there
    /// is nothing to do.
    pub(super) fn go_on(&mut self, now: u64) -> bool {
        if self.may_read {
            self.read(now);
            return true;
        }
        self.judge(now) || self.write(now)
    }

    /// Applies the link's deadline after the input in the socket has been processed. False: it was
    /// not due.
    pub(super) fn judge(&mut self, now: u64) -> bool {
        let is_due = std::mem::take(&mut self.is_judged) && self.is_due(now);
        if is_due {
            self.link.handle_timeout(now);
        }
        is_due
    }

    /// Reads the rest of the socket in the next round of the event loop.
    pub(super) fn read_later(&mut self, now: u64) {
        if std::mem::take(&mut self.may_read)
            && let Some(peer) = &self.peer
        {
            peer.read_again();
            self.link.handle_unread(now);
        }
    }

    /// Writes what the link wants to send, as far as the socket takes it. False: nothing changed.
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
