//! Many clients are told to go, spread over time: a worker that exits, messages that were missed.

use proto::websocket::close::{self, CloseCode};

use super::Hub;
use crate::outside::{Clients, Io, Level, Outside, Sent};
use crate::session::{Leaving, Phase};
use crate::settings::{Gap, Location};
use fanout::ClientId;

/// Clients learn of a lost link when it is back, and after so long at the latest.
const GRACE_MS: u64 = 5_000;

/// A few clients need not be spread over all of `websocket_drain`.
const SPREAD_MS: u64 = 10;

/// Why clients are about to be told to go.
pub struct Drain {
    /// The worker exits; said once.
    exiting: bool,
    /// Per broker: when its clients are told of a link that was lost.
    gaps: Vec<Option<u64>>,
    /// State of the generator that spreads.
    random: u64,
}

impl Drain {
    /// Nobody has to go.
    pub fn new(brokers: usize, seed: u64) -> Drain {
        Drain {
            exiting: false,
            gaps: vec![None; brokers],
            random: seed | 1,
        }
    }

    /// When clients are told of the next lost link.
    pub fn next_deadline(&self) -> Option<u64> {
        self.gaps.iter().flatten().min().copied()
    }

    /// A number below `end`, as random as spreading needs (xorshift64*).
    fn random_below(&mut self, end: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) % end.max(1)
    }
}

impl<O: Outside> Hub<O> {
    /// The worker exits: every client gets its Close within its `websocket_drain`.
    pub(super) fn begin_drain(&mut self, now: u64) {
        if !self.out.is_exiting() || std::mem::replace(&mut self.drain.exiting, true) {
            return;
        }
        // nginx cuts who is left then: the last Close must be out before.
        let most = self
            .out
            .shutdown_timeout()
            .map_or(u64::MAX, |timeout| timeout / 4 * 3);
        let ids: Vec<ClientId> = self.clients.ids().collect();
        if !ids.is_empty() {
            let count = ids.len();
            self.out.log(
                Level::Notice,
                format_args!("worker exits: {count} websocket clients leave"),
            );
        }
        for id in ids {
            let Some((_, session)) = self.clients.get(id) else {
                continue;
            };
            if session.leaving != Some(Leaving::Forbidden) {
                let spread = session.location.drain().min(most);
                let wait = self.drain.random_below(spread);
                self.lead_out(id, Leaving::Exit, now + wait);
            }
        }
    }

    /// The client is told to go at `due`; one whose 101 is not out yet, as soon as it is.
    pub(super) fn lead_out(&mut self, id: ClientId, leaving: Leaving, due: u64) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        match session.phase {
            Phase::Opening => session.leaving = Some(leaving),
            Phase::Open => {
                session.leaving = Some(leaving);
                self.watch(id, due);
            }
            Phase::Closing | Phase::Lingering | Phase::Lost => {}
        }
    }

    /// A leaving client's time has come.
    pub(super) fn part_with(&mut self, id: ClientId) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let Some(leaving) = session.leaving else {
            return;
        };
        let (code, reason) = farewell(leaving, session.location);
        *self.count_leaving(leaving) += 1;
        self.close(id, code, reason, Level::Info);
    }

    fn count_leaving(&mut self, leaving: Leaving) -> &mut u64 {
        match leaving {
            Leaving::Exit => &mut self.counters.drained,
            Leaving::Gap => &mut self.counters.gap_closed,
            Leaving::Forbidden => &mut self.counters.forbidden_closed,
        }
    }

    /// The process exits at once. Each client that stands at the end of a frame is sent its Close; then
    /// what it has sent is dropped, or closing its socket would reset the connection.
    pub(super) fn tell_who_is_left(&mut self) {
        let all: Vec<ClientId> = self.clients.ids().collect();
        if all.is_empty() {
            return;
        }
        let mut told = all.clone();
        told.retain(|&id| self.tell_at_once(id));
        for &id in &all {
            self.drop_input(id);
            if let Some((io, _)) = self.clients.get(id) {
                io.close_at_exit();
            }
        }
        let (told, others) = (told.len(), all.len() - told.len());
        self.out.log(
            Level::Notice,
            format_args!(
                "worker exits at once: {told} websocket clients are sent their Close, \
                 {others} are cut off"
            ),
        );
    }

    /// Sends a client its Close by one write and shuts its socket. False: it is within a frame, or has
    /// no room, or has been told already and not taken it.
    pub(super) fn tell_at_once(&mut self, id: ClientId) -> bool {
        let is_at_boundary = self.registry.feed_of(id).is_none() || self.registry.at_boundary(id);
        let Some((io, session)) = self.clients.get(id) else {
            return false;
        };
        if session.phase == Phase::Lingering {
            return true;
        }
        if session.phase != Phase::Open || session.outbox.is_some() || !is_at_boundary {
            return false;
        }
        let leaving = session.leaving.unwrap_or(Leaving::Exit);
        let (code, reason) = farewell(leaving, session.location);
        let frame = close::frame(code, reason);
        if io.send(&frame) != Sent::Bytes(frame.len()) {
            return false;
        }
        io.shutdown();
        session.close_code = code.get();
        *self.count_leaving(leaving) += 1;
        true
    }

    /// Drops what a client has sent by now, as far as is reasonable.
    pub(super) fn drop_input(&mut self, id: ClientId) {
        const MOST: usize = 256 << 10;
        if let Some((io, _)) = self.clients.get(id) {
            io.discard(&mut self.buffer, MOST);
        }
    }

    /// A subscriber link was lost: its clients are told when it is back, or soon. Those who come
    /// later miss nothing.
    pub(super) fn link_lost(&mut self, broker: usize, now: u64) {
        let mut missed = false;
        for id in self.clients.ids().collect::<Vec<_>>() {
            let joined = self.registry.feed_of(id).is_some();
            if let Some((_, session)) = self.clients.get(id)
                && joined
                && session.location.redis == Some(broker as u16)
            {
                session.missed = session.location.gap() != Gap::Keep;
                missed = true;
            }
        }
        if missed {
            self.counters.gaps += 1;
            self.drain.gaps[broker].get_or_insert(now + GRACE_MS);
        }
    }

    /// All its subscriptions are confirmed again.
    pub(super) fn link_restored(&mut self, broker: usize, now: u64) {
        if self.drain.gaps[broker].take().is_some() {
            self.tell_gap(broker, now);
        }
    }

    /// Links that have been away for too long.
    pub(super) fn tell_gaps(&mut self, now: u64) {
        for broker in 0..self.drain.gaps.len() {
            if self.drain.gaps[broker].is_some_and(|due| due <= now) {
                self.drain.gaps[broker] = None;
                self.tell_gap(broker, now);
            }
        }
    }

    fn tell_gap(&mut self, broker: usize, now: u64) {
        let ids: Vec<ClientId> = self.clients.ids().collect();
        let most = SPREAD_MS * ids.len() as u64;
        for id in ids {
            let Some((_, session)) = self.clients.get(id) else {
                continue;
            };
            let is_told = session.missed && session.location.redis == Some(broker as u16);
            if is_told && session.leaving.is_none() {
                let spread = session.location.drain().min(most);
                let wait = self.drain.random_below(spread);
                self.lead_out(id, Leaving::Gap, now + wait);
            }
        }
    }
}

/// Code and reason of a leaving client's Close.
fn farewell(leaving: Leaving, location: &Location) -> (CloseCode, &'static str) {
    match leaving {
        Leaving::Exit => (location.drain_code(), "server is restarting"),
        Leaving::Gap => (location.gap_code(), "messages may have been missed"),
        Leaving::Forbidden => (CloseCode::POLICY, "redis forbids the channel"),
    }
}
