//! Closes many clients, spread over time: because the worker exits, or messages were missed.

use super::hub::Hub;
use crate::broker::Brokers;
use crate::outside::{Clients, Io, Level, Outside, Sent};
use crate::session::{Cause, Leaving, Life, Phase, Unpublished};
use fanout::{ChannelId, ClientId};

/// The spread per client: a few clients need not be spread over all of `websocket_drain`.
const SPREAD_MS: u64 = 10;

/// Clients told in one round of the event loop. A lost link may concern all of them.
const TELL_BUDGET: usize = 500;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// The worker exits: every client gets its Close within its `websocket_drain`.
    pub(super) fn begin_drain(&mut self, now: u64) {
        if !self.out.is_exiting() || !self.drain.begin() {
            return;
        }
        // nginx then cuts the clients that are left, so the last Close must be sent before.
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
            if session.leaving() != Some(Leaving::Forbidden) {
                let spread = session.location.drain().over.min(most);
                let wait = self.drain.random_below(spread);
                self.ask_to_leave(id, Leaving::Exit, now + wait);
            }
        }
    }

    /// Asks the client to leave at `due`, or as soon as its 101 has been sent.
    pub(super) fn ask_to_leave(&mut self, id: ClientId, leaving: Leaving, due: u64) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if session.ask_to_leave(leaving) {
            self.set_deadline(id, due);
        }
    }

    /// The time of a client that was asked to leave has come.
    pub(super) fn close_leaving(&mut self, id: ClientId) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let Some(leaving) = session.leaving() else {
            return;
        };
        self.close(id, Cause::Leaving(leaving));
    }

    /// The process exits at once. Each client at a frame boundary is sent its Close. Then its input
    /// is dropped, because closing a socket with unread input would reset the connection.
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

    /// Sends a client its Close by one write and shuts its socket down. False: the client is within
    /// a frame, or its socket has no space, or it has been sent a Close that it has not taken.
    pub(super) fn tell_at_once(&mut self, id: ClientId) -> bool {
        let is_at_boundary = self.registry.feed_of(id).is_none() || self.registry.at_boundary(id);
        let Some((io, session)) = self.clients.get(id) else {
            return false;
        };
        if session.phase() == Phase::Lingering {
            return true;
        }
        if !session.is_open() || session.has_own_frames() || !is_at_boundary {
            return false;
        }
        let cause = Cause::Leaving(session.leaving().unwrap_or(Leaving::Exit));
        let Some(ending) = cause.ending(session.location) else {
            return false;
        };
        if io.send(&ending) != Sent::Bytes(ending.len()) {
            return false;
        }
        io.shutdown();
        session.note_told(cause.code(session.location));
        self.count_cause(cause);
        true
    }

    /// Drops a reasonable amount of what a client has sent so far.
    pub(super) fn drop_input(&mut self, id: ClientId) {
        const MOST: usize = 256 << 10;
        if let Some((io, _)) = self.clients.get(id) {
            io.discard(&mut self.buffer, MOST);
        }
    }

    /// A broker was lost, and messages of these channels may be missed. Their clients are told when
    /// it is back, or after a while. Clients that come later miss nothing.
    pub(super) fn note_missed(&mut self, broker: u16, channels: Vec<ChannelId>, now: u64) {
        let mut is_missed = false;
        for id in self.registry.listeners_of_any(&channels) {
            if let Some((_, session)) = self.clients.get(id) {
                session.note_missed();
                is_missed = true;
            }
        }
        if is_missed {
            self.counters.gaps += 1;
            self.drain.note_lost(broker, channels, now);
        }
    }

    /// All lost names are confirmed again.
    pub(super) fn broker_restored(&mut self, broker: u16, now: u64) {
        if let Some(channels) = self.drain.take_restored(broker) {
            self.tell_missed(&channels, now);
        }
    }

    /// Tells the clients of brokers that have been away too long.
    pub(super) fn tell_overdue(&mut self, now: u64) {
        while let Some(channels) = self.drain.take_overdue(now) {
            self.tell_missed(&channels, now);
        }
    }

    fn tell_missed(&mut self, channels: &[ChannelId], now: u64) {
        let mut told = Vec::new();
        for id in self.registry.listeners_of_any(channels) {
            if let Some((_, session)) = self.clients.get(id)
                && session.take_missed()
                && session.leaving().is_none()
            {
                told.push((id, session.location.drain().over));
            }
        }
        let most = SPREAD_MS * told.len() as u64;
        for (id, spread) in told {
            let wait = self.drain.random_below(spread.min(most));
            self.ask_to_leave(id, Leaving::Gap, now + wait);
        }
    }

    /// A message of this client was not published.
    pub(super) fn note_untold(&mut self, id: ClientId, life: Life, why: Unpublished) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if session.note_unpublished(life) {
            self.untold.push((id, life, why));
            self.turn = true;
        }
    }

    /// Closes some of the clients that have not been told.
    pub(super) fn tell_untold(&mut self) {
        for _ in 0..TELL_BUDGET {
            let Some((id, life, why)) = self.untold.pop() else {
                return;
            };
            let client = self.clients.get(id);
            if client.is_some_and(|(_, session)| session.is_publisher(life)) {
                self.close(id, Cause::NotPublished(why));
            }
        }
        self.turn |= !self.untold.is_empty();
    }
}
