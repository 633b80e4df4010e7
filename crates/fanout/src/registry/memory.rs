//! Which clients are treated, and how, when memory is short.

use std::collections::HashMap;
use std::sync::Arc;

use super::shortage::{Behind, Furthest, Shortage};
use super::state::Registry;
use crate::feed::Feed;
use crate::held::{Held, Pieces};
use crate::membership::Place;
use crate::types::{ClientId, FlushResult, SlowPolicy};

/// The rest of a partly sent frame counts from this size on. Smaller ones, even many of them, do
/// not fill a worker's memory.
const LARGE_REST: u64 = 64 << 10;

/// A client within a frame that has taken nothing for this long is considered stopped. A slow
/// network is silent for some hundred milliseconds.
const STOPPED_MS: u32 = 1_500;

/// A round is in vain if it frees no more than the larger of this and one `LITTLE_PART`th of what
/// is held.
const LITTLE: u64 = 64 << 10;
const LITTLE_PART: u64 = 64;

impl Registry {
    /// Sets the time, in milliseconds from an arbitrary start. To be called before flushes and
    /// before [`sent`](Registry::sent): it tells which clients have stopped.
    #[inline]
    pub fn tell_time(&mut self, now_ms: u32) {
        self.shared.now = now_ms;
    }

    /// The client to treat next while memory is short. Those that hold most come first, each once a
    /// round, and rounds follow each other while they free something. A round resumes where it was,
    /// whatever is done between calls.
    ///
    /// Returns `None` if there is nothing more to free. Then no client is looked at again before
    /// more is held.
    pub fn furthest_behind(&mut self) -> Option<Furthest> {
        let held = self.log_bytes();
        if let Some(freed) = &mut self.shortage.freed {
            *freed += self.shortage.held_before.saturating_sub(held);
        }
        loop {
            if let Some(next) = self.next_listed() {
                self.shortage.held_before = held;
                return Some(next);
            }
            if !self.begin_round(held) {
                return None;
            }
        }
    }

    /// Ends the round: memory is no longer short.
    pub fn end_shortage(&mut self) {
        self.shortage.listed.clear();
        (self.shortage.freed, self.shortage.in_vain_at) = (None, None);
    }

    /// Lists all clients that hold memory, and returns `true`, unless that would be in vain.
    fn begin_round(&mut self, held: u64) -> bool {
        let shortage = &mut self.shortage;
        let little = LITTLE.max(held / LITTLE_PART);
        if shortage.freed.take().is_some_and(|freed| freed <= little) {
            shortage.in_vain_at = Some(held);
        }
        shortage.note(held);
        if shortage.in_vain_at.is_some_and(|at| held <= at + little) {
            return false;
        }
        (shortage.freed, shortage.in_vain_at) = (Some(0), None);
        self.list_those_behind();
        true
    }

    fn list_those_behind(&mut self) {
        let Shortage { listed, looks, .. } = &mut self.shortage;
        if self.laggards == 0 {
            return;
        }
        *looks += (self.feeds.len() + self.laggards) as u64;
        for (id, feed) in (0..).zip(&self.feeds) {
            let lags = feed.lags().filter(|(_, lag)| *lag > 0);
            listed.extend(lags.map(|(client, lag)| Behind {
                magnitude: lag.ilog2(),
                in_frame: false,
                group: id,
                bytes: lag,
                client,
            }));
            let begun = feed.begun().filter(|(_, rest, _)| *rest >= LARGE_REST);
            listed.extend(begun.map(|(client, rest, moved_at)| {
                let still_ms = self.shared.now.wrapping_sub(moved_at);
                let policy = self.classes[feed.class as usize].policy;
                let soon = policy == SlowPolicy::Close && still_ms >= STOPPED_MS;
                Behind {
                    magnitude: if soon { rest.ilog2() } else { 0 },
                    in_frame: true,
                    group: still_ms,
                    bytes: rest,
                    client,
                }
            }));
        }
    }

    fn next_listed(&mut self) -> Option<Furthest> {
        while let Some(next) = self.shortage.listed.pop() {
            self.shortage.looks += 1;
            let client = ClientId(next.client);
            let Some(membership) = self.taken_membership(client) else {
                continue;
            };
            if !next.in_frame && self.lag_bytes(client) > 0 {
                return Some(Furthest::Lags(client));
            }
            if let Place::Laggard(at) = membership.place()
                && next.in_frame
                && self.feeds[membership.feed as usize].begun_by(at) >= LARGE_REST
            {
                return Some(Furthest::InFrame(client));
            }
        }
        None
    }

    /// Applies the policy of a client that lags, whatever its limit: `Close` reports it,
    /// `DropOldest` skips at least half of its lag, `Latest` skips all but the newest frames.
    pub fn treat(&mut self, client: ClientId, out: &mut FlushResult) {
        let membership = self.membership(client);
        let Place::Laggard(at) = membership.place() else {
            return;
        };
        if self.lag_bytes(client) == 0 {
            return;
        }
        let policy = self.class_of(membership.feed).policy;
        let skips = out.skipped.len();
        self.change(membership.feed, |feed, shared| {
            feed.treat(at, policy, shared, out)
        });
        self.count_skips(&out.skipped[skips..]);
    }

    /// For tests: how many clients and feeds [`furthest_behind`](Registry::furthest_behind) has
    /// looked at.
    #[doc(hidden)]
    pub fn looks(&self) -> u64 {
        self.shortage.looks
    }

    /// For tests: [`log_bytes`](Registry::log_bytes) counted anew, with what clients that have left
    /// still hold.
    ///
    /// # Panics
    /// If shared bytes have a wrong count of what logs keep of them.
    #[doc(hidden)]
    pub fn recounted<'a>(&'a self, elsewhere: impl Iterator<Item = &'a Pieces>) -> u64 {
        let elsewhere = elsewhere
            .flat_map(Pieces::parts)
            .map(|piece| (piece, false));
        let mut all: HashMap<_, (&Arc<Held>, u64)> = HashMap::new();
        for (piece, is_kept) in self.feeds.iter().flat_map(Feed::parts).chain(elsewhere) {
            let (_, kept) = all.entry(Arc::as_ptr(&piece.of)).or_insert((&piece.of, 0));
            *kept += u64::from(is_kept) * piece.len() as u64;
        }
        assert!(all.values().all(|(held, kept)| held.kept() == *kept));
        let held: usize = all.values().map(|(held, _)| held.weight()).sum();
        let own: usize = self.feeds.iter().map(Feed::recounted).sum();
        (own + held + self.stage.weight()) as u64
    }
}
