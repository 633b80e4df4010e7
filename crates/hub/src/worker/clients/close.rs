//! How a client ends.

use fanout::{ClientId, Pieces};

use crate::answer::Effect;
use crate::broker::Brokers;
use crate::outside::{Clients, Io, Level, Outside, Received};
use crate::session::{Cause, LINGER_MS, PARTING_MS, Phase};
use crate::worker::account::{self, with_client};
use crate::worker::hub::{BUFFER, Hub};

use super::watch::{NEWS_MS, UNREAD_MS};

/// Most bytes that are dropped from a closing client in one event.
const DISCARD_BUDGET: usize = 256 << 10;

/// When memory is short, the rest of a frame is not waited for if it has at least this size.
const LARGE_REST: usize = 64 << 10;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Closes an open session with a Close.
    pub(in crate::worker) fn close(&mut self, id: ClientId, cause: Cause) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        if !session.is_open() {
            return;
        }
        let Some(ending) = cause.ending(session.location) else {
            return self.lose(id);
        };
        let code = cause.code(session.location);
        if let Some(level) = cause.level() {
            io.log(level, format_args!("websocket closed with {code}: {cause}"));
        }
        self.count_cause(cause);
        self.start_closing(id, &ending, code);
    }

    /// Counts the cause of a session's end.
    pub(in crate::worker) fn count_cause(&mut self, cause: Cause) {
        if let Some(counter) = cause.counter(&mut self.counters) {
            *counter += 1;
        }
    }

    /// The only way to close: leave the registry, send the Close, shut down, discard, end.
    fn start_closing(&mut self, id: ClientId, frame: &[u8], code: u16) {
        let mut begun = Pieces::default();
        if self.registry.feed_of(id).is_some() {
            self.note_delivered(id);
            begun = self.registry.rest_of_frame(id);
            self.leave_feed(id);
        }
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if !session.is_open() {
            return;
        }
        if begun.len() >= LARGE_REST {
            self.leaving_in_frame.push(id);
        }
        with_client(&mut self.clients, &mut self.budget, id, |_, session| {
            session.begin_closing(begun, frame, code);
        });
        self.write_client(id);
        if let Some((_, session)) = self.clients.get(id)
            && session.phase() == Phase::Closing
        {
            self.measure_closing(id);
        }
    }

    /// Starts to measure how fast the client takes what precedes its end.
    fn measure_closing(&mut self, id: ClientId) {
        let now = self.out.now();
        let tick = self.session_tick(now);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        let patience = match session.phase() {
            Phase::Closing => PARTING_MS,
            Phase::Lingering => LINGER_MS,
            Phase::Opening | Phase::Open | Phase::Lost => return,
        };
        let left = session.left(&io);
        session.measure_left(left, tick);
        self.set_deadline(id, now + patience);
    }

    /// The deadline of a closing client has come. The client gets the same time again if it is
    /// taking what is left, or if the worker has not yet looked at its socket.
    pub(super) fn look_at_closing(&mut self, id: ClientId, now: u64) {
        let tick = self.session_tick(now);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        if session.goes_off(&io, tick) {
            return self.measure_closing(id);
        }
        if session.phase() == Phase::Closing && io.has_room_again() {
            return self.set_deadline(id, now + NEWS_MS);
        }
        io.abandon(UNREAD_MS);
        self.end(id);
    }

    /// Keeps the figures of the feed, for the log, before the client leaves it.
    pub(super) fn note_delivered(&mut self, id: ClientId) {
        let Some((messages, bytes)) = self.registry.delivered(id) else {
            return;
        };
        if let Some((_, session)) = self.clients.get(id) {
            session.note_out(messages, bytes);
        }
    }

    /// Closes a client that was too slow. It has shown how slow it is, so taking what is left gains
    /// it no time.
    pub(in crate::worker) fn hurry(&mut self, id: ClientId) {
        let now = self.out.now();
        let tick = self.session_tick(now);
        if let Some((_, session)) = self.clients.get(id)
            && session.phase() == Phase::Closing
        {
            session.measure_left(0, tick);
            self.set_deadline(id, now + LINGER_MS);
        }
    }

    /// The Close has been sent.
    pub(super) fn linger(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        session.begin_lingering();
        io.shutdown();
        // The buffer may be in use now, so input that is already there is dropped in the next
        // round.
        io.read_again();
        self.measure_closing(id);
    }

    /// Drops what a closing client still sends.
    pub(super) fn discard(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        match io.discard(&mut self.buffer, DISCARD_BUDGET) {
            Received::Again => {
                if !io.want_read() {
                    self.end(id);
                }
            }
            Received::Bytes(_) => io.read_again(),
            Received::Eof if session.phase() == Phase::Closing => {}
            Received::Eof | Received::Failed => self.end(id),
        }
    }

    /// Frees the connection. Has an effect only once.
    pub(super) fn end(&mut self, id: ClientId) {
        if let Some((_, session)) = self.clients.get(id)
            && session.end()
        {
            self.effects.push_back(Effect::Close(id));
        }
    }

    /// Memory is short, and this client keeps a large frame from being freed: cuts it off without
    /// the rest.
    pub(in crate::worker) fn cut_off(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        if session.phase() != Phase::Lost {
            io.log(
                Level::Info,
                format_args!("websocket cut off within a message: out of websocket_memory"),
            );
            io.abandon(UNREAD_MS);
        }
        with_client(&mut self.clients, &mut self.budget, id, |_, session| {
            session.drop_own();
        });
        self.lose(id);
    }

    /// The connection broke, or the client left without a Close.
    pub(in crate::worker) fn lose(&mut self, id: ClientId) {
        self.note_delivered(id);
        self.leave_feed(id);
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        session.note_lost();
        self.end(id);
    }

    pub(super) fn leave_feed(&mut self, id: ClientId) {
        let mut emptied = std::mem::take(&mut self.emptied);
        self.registry.leave(id, &mut emptied);
        for channel in emptied.drain(..) {
            self.unsubscribe_unless_wanted(channel);
        }
        self.emptied = emptied;
    }

    /// The client leaves the table.
    pub fn client_gone(&mut self, id: ClientId) {
        self.leave_feed(id);
        self.wheel.cancel(id.0);
        self.leaving_in_frame.remove(id);
        self.turns.forget(id);
        let Some(session) = self.clients.remove(id) else {
            return;
        };
        account::forget(&mut self.budget, &session);
        // If it was the first in the queue, the next one has waited for it.
        self.turn |= self.paused.forget(id, session.location);
        self.counters.closed += u64::from(session.was_opened());
    }

    /// An event of this client panicked. The client is closed; the others continue.
    pub fn client_panicked(&mut self, id: ClientId) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        // The panic may have come between the change of a session and its entry in the account.
        account::recount(&mut self.clients, &mut self.budget);
        if !self.is_open(id) {
            self.count_cause(Cause::Internal);
        }
        self.close(id, Cause::Internal);
    }

    /// The client is told to leave, by nginx's graceful quit (once) or by `worker_shutdown_timeout`
    /// (`forced`).
    pub fn client_told_to_close(&mut self, id: ClientId, forced: bool) {
        if forced {
            if self.tell_at_once(id) {
                self.drop_input(id);
            }
            self.lose(id);
        } else {
            self.begin_drain(self.out.now());
        }
    }
}
