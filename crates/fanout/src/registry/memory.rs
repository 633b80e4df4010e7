//! What is done when memory is short.

use std::collections::HashMap;
use std::sync::Arc;

use super::Registry;
use crate::feed::{Feed, Place};
use crate::held::{Held, Pieces};
use crate::types::{ClientId, FlushResult, SlowPolicy};

/// The rest of a frame begun counts from this size on: many of less don't fill a worker's memory.
const LARGE_REST: u64 = 64 << 10;

/// One that has not been sent anything for so many rounds has stopped in its frame, as far as can be
/// told: a round ends when everything has been offered, so who reads is sent something in each or two.
const STOPPED: u32 = 2;

/// Who may be treated, in the order of treatment.
///
/// Who holds more comes first, but not to the byte: of those who hold about as much, those within a
/// frame come by how long they have been sent nothing; then the sharers of a log come together, since
/// it is freed when the last of them has left it. Who is within a frame can be treated by cutting it off
/// alone: so they come last where policies take messages, or where they have not stopped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behind {
    magnitude: u32,
    in_frame: bool,
    /// Rounds without progress, or a feed.
    group: u32,
    bytes: u64,
    client: u32,
}

/// A client that holds much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Furthest {
    /// It lags: its policy frees something ([`Registry::treat`]).
    Lags(ClientId),
    /// It has begun a large frame. That is freed only if the client leaves, and is not sent the rest.
    InFrame(ClientId),
}

impl Registry {
    /// Begins a round over all who hold something, those who hold most first: see
    /// [`furthest_behind`](Registry::furthest_behind). Returns how many are listed.
    pub fn list_those_behind(&mut self) -> usize {
        self.furthest.clear();
        if self.laggards == 0 {
            return 0;
        }
        for (id, feed) in (0..).zip(&self.feeds) {
            let lags = feed.lags().filter(|(_, lag)| *lag > 0);
            self.furthest.extend(lags.map(|(client, lag)| Behind {
                magnitude: lag.ilog2(),
                in_frame: false,
                group: id,
                bytes: lag,
                client,
            }));
            let begun = feed.begun().filter(|(_, rest, _)| *rest >= LARGE_REST);
            self.furthest.extend(begun.map(|(client, rest, moved_in)| {
                let rounds = self.commons.round.wrapping_sub(moved_in);
                let policy = self.classes[feed.class as usize].policy;
                let soon = policy == SlowPolicy::Close && rounds >= STOPPED;
                Behind {
                    magnitude: if soon { rest.ilog2() } else { 0 },
                    in_frame: true,
                    group: rounds,
                    bytes: rest,
                    client,
                }
            }));
        }
        self.furthest.len()
    }

    /// The next of the round that [`list_those_behind`](Registry::list_those_behind) began, to be
    /// treated when memory is short. `None`: all have been named, or a message has been published.
    pub fn furthest_behind(&mut self) -> Option<Furthest> {
        while let Some(next) = self.furthest.pop() {
            let client = ClientId(next.client);
            let Some(seat) = self.taken_seat(client) else {
                continue;
            };
            if !next.in_frame && self.lag_bytes(client) > 0 {
                return Some(Furthest::Lags(client));
            }
            if let Place::Laggard(at) = seat.place()
                && next.in_frame
                && self.feeds[seat.feed as usize].begun_by(at) >= LARGE_REST
            {
                return Some(Furthest::InFrame(client));
            }
        }
        None
    }

    /// Treats a client that lags by its policy, whatever its limit: `Close` reports it,
    /// `DropOldest` takes at least half of its lag, `Latest` all but the newest frames.
    pub fn treat(&mut self, client: ClientId, out: &mut FlushResult) {
        let seat = self.seat(client);
        let Place::Laggard(at) = seat.place() else {
            return;
        };
        if self.lag_bytes(client) == 0 {
            return;
        }
        let policy = self.class_of(seat.feed).policy;
        let skips = out.skipped.len();
        self.change(seat.feed, |feed, commons| {
            feed.treat(at, policy, commons, out)
        });
        self.count_skips(&out.skipped[skips..]);
    }

    /// For tests: [`log_bytes`](Registry::log_bytes) counted anew, with what clients that have left
    /// still hold.
    ///
    /// # Panics
    /// What logs keep of something is not what it says of itself.
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
