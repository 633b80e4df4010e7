//! What a client is sent besides the flush: its own frames, and what it could not take before.

use fanout::ClientId;

use crate::broker::Brokers;
use crate::outside::{Clients, Io, Outside, Sent};
use crate::session::{Inbox, Phase};
use crate::worker::account::with_client;
use crate::worker::hub::{BUFFER, Hub};
use crate::worker::{flush, handshake};

/// Most bytes that are written to a client in one event.
const WRITE_BUDGET: usize = 1 << 20;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Sends pongs and echoes. While the client does not take its pongs, the newest replaces the
    /// older ones.
    pub(super) fn reply(&mut self, id: ClientId, inbox: &Inbox, input: &mut [u8]) {
        if inbox.is_empty() {
            return;
        }
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if !session.is_open() {
            // RFC 6455, 5.5.1: nothing follows a Close, which publishing may just have queued.
            return;
        }
        let echo = session.location.echo;
        let deflate = handshake::deflate(session.location, session.deflate_bits());
        if session.has_own_frames()
            && let Some(pong) = inbox.only_pong(input)
        {
            session.replace_pong(pong);
            return;
        }
        if echo {
            self.counters.echoed += inbox.messages;
            session.note_out(inbox.messages, 0);
        }
        let mut spare = std::mem::take(&mut self.spare);
        let deflate = if inbox.messages > 0 { deflate } else { None };
        let compression = deflate.map(|deflate| self.encoders.compression(deflate));
        let frames = inbox.replies(echo, compression, input, &mut spare);
        self.send_own(id, frames);
        // One large message must not keep its memory forever.
        spare.clear();
        spare.shrink_to(BUFFER);
        self.spare = spare;
    }

    /// Sends frames of the client's own, at once if nothing precedes them.
    pub(super) fn send_own(&mut self, id: ClientId, frames: &[u8]) {
        if frames.is_empty() {
            return;
        }
        let joined = self.registry.feed_of(id).is_some();
        let at_boundary = !joined || self.registry.at_boundary(id);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        session.apply_notsent(&io);
        let mut rest = frames;
        if !session.has_own_frames() && at_boundary {
            loop {
                match io.send(rest) {
                    Sent::Bytes(count) => {
                        session.note_sent(count);
                        rest = &rest[count..];
                        if rest.is_empty() {
                            return;
                        }
                    }
                    Sent::Again => break,
                    Sent::Failed => return self.lose(id),
                }
            }
        }
        with_client(&mut self.clients, &mut self.budget, id, |io, session| {
            session.queue(rest, io);
        });
        if joined {
            self.registry.pause_feed(id);
        }
        self.write_client(id);
    }

    /// The socket takes more.
    pub fn client_writable(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        if !matches!(session.phase(), Phase::Open | Phase::Closing) {
            return;
        }
        if self.round_left == 0 {
            io.write_again();
            self.turn = true;
            return;
        }
        self.write_client(id);
    }

    /// Writes what is due to a client that is behind: the rest of a partly sent frame, its own
    /// frames, the rest of its feed.
    pub(in crate::worker) fn write_client(&mut self, id: ClientId) {
        self.tell_time();
        let mut written = 0;
        loop {
            let joined = self.registry.feed_of(id).is_some();
            let Some((io, session)) = self.clients.get(id) else {
                return;
            };
            session.apply_notsent(&io);
            let feed = &mut self.registry;
            if let Some(due) = joined.then(|| feed.unsent(id)).flatten() {
                let due = &due[..due.len().min(WRITE_BUDGET)];
                match io.send(due) {
                    Sent::Bytes(count) => {
                        written += count;
                        self.registry.sent(id, count, 0);
                    }
                    Sent::Again => {
                        let committed = flush::committed(&io, due.len());
                        self.registry.sent(id, 0, committed);
                        return self.await_writable(id, written);
                    }
                    Sent::Failed => return self.lose(id),
                }
            } else if session.has_own_frames() {
                if joined && !self.registry.at_boundary(id) {
                    // The rest of a large frame is written by the flush, which resumes the client.
                    break;
                }
                match self.write_outbox(id) {
                    Sent::Bytes(count) => written += count,
                    Sent::Again => return self.await_writable(id, written),
                    Sent::Failed => return self.lose(id),
                }
            } else if !joined || self.registry.release(id) || self.registry.unsent(id).is_none() {
                break;
            }
            if written >= WRITE_BUDGET {
                let Some((io, _)) = self.clients.get(id) else {
                    return;
                };
                io.write_again();
                break;
            }
        }
        self.note_progress(id, written);
    }

    /// Writes the client's own frames once.
    fn write_outbox(&mut self, id: ClientId) -> Sent {
        let spare = &mut self.spare;
        let written = with_client(&mut self.clients, &mut self.budget, id, |io, session| {
            session.write_own(io, spare)
        });
        let Some((sent, is_empty)) = written.flatten() else {
            return Sent::Failed;
        };
        if is_empty {
            self.outbox_is_empty(id);
        }
        sent
    }

    pub(super) fn await_writable(&mut self, id: ClientId, written: usize) {
        self.note_progress(id, written);
        if let Some((io, _)) = self.clients.get(id)
            && !io.want_write()
        {
            self.lose(id);
        }
    }

    /// A socket buffer that had been full took bytes, so the client is reading.
    pub(super) fn note_progress(&mut self, id: ClientId, written: usize) {
        self.round_left = self.round_left.saturating_sub(written);
        let tick = self.session_tick(self.out.now());
        if written > 0
            && let Some((_, session)) = self.clients.get(id)
        {
            session.note_alive(tick);
        }
    }

    /// The client's own frames have been sent. It is read again or, after its Close, shut down.
    pub(super) fn outbox_is_empty(&mut self, id: ClientId) {
        let tick = self.session_tick(self.out.now());
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        let is_closing = session.phase() == Phase::Closing;
        if !self.paused.contains(id, session.location) && session.resume_after_outbox(tick) {
            io.read_again();
        }
        if is_closing {
            self.linger(id);
        }
    }
}
