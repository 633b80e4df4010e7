//! How a client starts, and how the wheel watches it.

use fanout::ClientId;

use crate::answer::Effect;
use crate::broker::Brokers;
use crate::outside::{Clients, Io, Outside};
use crate::session::{Cause, Check, Kept, Leaving, Phase, Session, TICK_MS};
use crate::settings::Detach;
use crate::worker::hub::Hub;

/// Sessions that one timer event checks. All of them may have to be pinged or closed.
const CHECK_BUDGET: usize = 256;

/// New clients get `websocket_notsent` at the next fan-out, or when there are this many of them.
const MOST_FRESH: usize = 1_024;

/// How long a closed client may make no progress before the kernel drops what it has not read.
pub(super) const UNREAD_MS: i32 = 5_000;

/// When to check a client again whose socket has something that the worker has not handled yet.
pub(super) const NEWS_MS: u64 = 1_000;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// The 101 has been sent and the connection is ours. `early` came with the handshake.
    pub fn client_open(&mut self, id: ClientId, early: Vec<u8>) {
        let now = self.out.now();
        let tick = self.session_tick(now);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        session.open(tick);
        let check = session.next_check(tick);
        let attached = !io.is_detached();
        let wants_detach = attached && self.detach_policy(id) != Some(Detach::Off);
        self.counters.accepted += 1;
        self.fresh.push(id);
        if self.fresh.len() == MOST_FRESH {
            self.apply_notsent_to_fresh();
        }
        self.schedule(id, check, wants_detach);
        if self.registry.feed_of(id).is_some() && !self.registry.unmute(id) {
            self.write_client(id);
        }
        if self.out.is_exiting() {
            self.begin_drain(now);
        }
        if let Some((_, session)) = self.clients.get(id)
            && (session.leaving().is_some() || self.out.is_exiting())
        {
            if session.leaving().is_none() {
                session.ask_to_leave(Leaving::Exit);
            }
            return self.close_leaving(id);
        }
        if !early.is_empty() {
            self.note_received(id, early.len());
            self.keep(id, Kept::new(early));
        }
        self.client_readable(id);
    }

    /// Called before a fan-out, so that no socket takes more of it than the session's location
    /// allows.
    pub(in crate::worker) fn apply_notsent_to_fresh(&mut self) {
        for id in self.fresh.drain(..) {
            if let Some((io, session)) = self.clients.get(id) {
                session.apply_notsent(&io);
            }
        }
    }

    /// Schedules the session's next check: at `check`, in ticks; or soon, if its request could not
    /// be freed at the 101 because a mirror still used it.
    pub(super) fn schedule(&mut self, id: ClientId, check: Option<u32>, wants_detach: bool) {
        const DETACH_AGAIN_MS: u64 = 1_000;
        let check = check.map(|tick| self.born + u64::from(tick - 1) * TICK_MS);
        let again = wants_detach.then(|| self.out.now() + DETACH_AGAIN_MS);
        let due = match (check, again) {
            (Some(check), Some(again)) => check.min(again),
            (Some(due), None) | (None, Some(due)) => due,
            (None, None) => {
                self.wheel.cancel(id.0);
                return;
            }
        };
        self.set_deadline(id, due);
    }

    /// Sets the deadline of a session. Each session has one.
    pub(in crate::worker) fn set_deadline(&mut self, id: ClientId, due: u64) {
        self.wheel.schedule(id.0, due);
    }

    /// Handles the sessions that the wheel returns: checks of liveness, closes that are due, and
    /// closes that take too long.
    pub(in crate::worker) fn look_at_due_sessions(&mut self, now: u64) {
        let mut due = std::mem::take(&mut self.due);
        // The next tick, which follows at once, handles the rest.
        self.wheel.expire(now, CHECK_BUDGET, &mut due);
        for id in due.drain(..) {
            self.look_at(ClientId(id), now);
        }
        self.due = due;
    }

    pub(super) fn look_at(&mut self, id: ClientId, now: u64) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        match session.phase() {
            Phase::Opening => {
                io.abandon(UNREAD_MS);
                self.end(id);
            }
            Phase::Closing | Phase::Lingering => self.look_at_closing(id, now),
            Phase::Lost => {}
            Phase::Open if session.leaving().is_some() => self.close_leaving(id),
            Phase::Open => self.look_at_open(id, now),
        }
    }

    fn look_at_open(&mut self, id: ClientId, now: u64) {
        let tick = self.session_tick(now);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        let attached = !io.is_detached();
        if self.paused.contains(id, session.location) {
            // The pause is ours, so silence is not the client's fault.
            session.note_alive(tick);
        }
        let waits = self.turns.contains(id);
        match session.check(tick) {
            Check::Alive => {}
            Check::Ping => {
                session.note_pinged(tick);
                if !session.has_own_frames() {
                    let sign = session.location.framing().keep_alive();
                    self.send_own(id, &sign);
                }
            }
            Check::Silent | Check::Unfinished if has_news(&io, session, waits) => {
                return self.set_deadline(id, now + NEWS_MS);
            }
            Check::Silent => return self.close(id, Cause::Silent),
            Check::Unfinished => {
                return self.close(id, Cause::Unfinished);
            }
        }
        if attached && self.detach_policy(id) != Some(Detach::Off) {
            self.effects.push_back(Effect::Detach(id));
        }
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let check = session.next_check(tick);
        self.schedule(id, check, false);
    }
}

/// Whether the client's socket has something that a held-up worker has not noticed: input, or free
/// space. What a client sends while it is paused does not count.
fn has_news(io: &impl Io, session: &Session, waits_for_turn: bool) -> bool {
    if session.is_paused() {
        io.has_room_again()
    } else {
        // A client that waits for a turn has sent something.
        waits_for_turn || io.has_news()
    }
}
