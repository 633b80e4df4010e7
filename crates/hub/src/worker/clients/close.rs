//! How a client ends.

use fanout::{ClientId, Pieces};

use crate::answer::Effect;
use crate::broker::Brokers;
use crate::outside::{Clients, Io, Level, Outside, Received};
use crate::session::{Cause, LINGER_MS, PARTING_MS, Phase};
use crate::worker::account::{self, with_client};
use crate::worker::hub::{BUFFER, Hub};

use super::watch::{NEWS_MS, UNREAD_MS};

/// Of a closing client at most so much is dropped in one event.
const DISCARD_BUDGET: usize = 256 << 10;

/// The rest of a frame from this size on is not waited for when memory is short.
const LARGE_REST: usize = 64 << 10;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Closes a session that is open, by a Close.
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

    /// Counts why a session ends.
    pub(in crate::worker) fn count_cause(&mut self, cause: Cause) {
        if let Some(counter) = cause.counter(&mut self.counters) {
            *counter += 1;
        }
    }

    /// The one road to the end: out of the registry, Close, shutdown, discard, gone.
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

    /// From here on it is measured how fast the client takes what is before its end.
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

    /// A closing client's time has come. It gets the same time again if it is taking what is left, or
    /// if we have not looked at its socket yet.
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

    /// Keeps what the feed has sent, for the log, before the client leaves it.
    pub(super) fn note_delivered(&mut self, id: ClientId) {
        let Some((messages, bytes)) = self.registry.delivered(id) else {
            return;
        };
        if let Some((_, session)) = self.clients.get(id) {
            session.note_out(messages, bytes);
        }
    }

    /// A client that was too slow is told to go: it has shown how slow it is, so nothing that it takes
    /// gives it more time.
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

    /// The Close is out.
    pub(super) fn linger(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        session.begin_lingering();
        io.shutdown();
        // The buffer may be in use now: what is there already is dropped in the next round.
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

    /// The connection is to be freed; said once.
    pub(super) fn end(&mut self, id: ClientId) {
        if let Some((_, session)) = self.clients.get(id)
            && session.end()
        {
            self.effects.push_back(Effect::Close(id));
        }
    }

    /// Memory is short, and this client keeps a large frame from being freed: it is not sent the rest.
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

    /// The connection is broken, or the client has gone without a Close.
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

    /// The client's place is free from here on.
    pub fn client_gone(&mut self, id: ClientId) {
        self.leave_feed(id);
        self.wheel.cancel(id.0);
        self.leaving_in_frame.remove(id);
        self.turns.forget(id);
        let Some(session) = self.clients.remove(id) else {
            return;
        };
        account::forget(&mut self.budget, &session);
        // If it was the first, the next one has waited for it.
        self.turn |= self.paused.forget(id, session.location);
        self.counters.closed += u64::from(session.was_opened());
    }

    /// A panic in its event: that client is closed, the others go on.
    pub fn client_panicked(&mut self, id: ClientId) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        // It may have come between a session's change and its entry in the account.
        account::recount(&mut self.clients, &mut self.budget);
        if !self.is_open(id) {
            self.count_cause(Cause::Internal);
        }
        self.close(id, Cause::Internal);
    }

    /// nginx's graceful quit (once), or `worker_shutdown_timeout` (`forced`).
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
