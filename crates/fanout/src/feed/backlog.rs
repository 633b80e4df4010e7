//! The log and the laggards of a feed that has bytes to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::cursor::{EVICTED, Laggard, OWN_FRAMES, Skipped};
use crate::log::Log;
use crate::membership::{LAGGARD, Membership, Place};
use crate::types::{ClientId, FlushResult, Skip, SlowClass, SlowPolicy};

/// What a feed has only while it has bytes to send or a client is behind.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) log: Log,
    pub(super) laggards: Vec<Laggard>,
    /// Members `..done` were offered the pass's bytes.
    pub(super) done: usize,
    /// Clients that joined at a tail that the passes have not reached: position and client, in
    /// order.
    pub(super) ahead: VecDeque<(u64, u32)>,
    /// Paused clients that are within a frame and have been sent all that passes have reached. Only
    /// the next pass has more for them.
    pub(super) stalled: Vec<u32>,
    /// No laggard is beyond its limit until the log's frontier is past this.
    pub(super) check_at: u64,
    pub(super) own_bytes: usize,
}

impl Backlog {
    /// Begins empty at `tail`, which is a boundary.
    pub(super) fn begin(&mut self, tail: u64, frames: u64) {
        self.log.restart(tail, frames);
        self.check_at = u64::MAX;
        self.done = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.laggards.is_empty() && self.log.is_empty()
    }

    pub(super) fn spare_bytes(&self) -> usize {
        let lists = self.laggards.capacity() * size_of::<Laggard>() + self.ahead.capacity() * 16;
        size_of::<Backlog>() + lists + self.log.spare_bytes()
    }

    pub(super) fn push(&mut self, mut laggard: Laggard, memberships: &mut [Membership], now: u32) {
        laggard.moved_at = now;
        memberships[laggard.client as usize].place = self.laggards.len() as u32 | LAGGARD;
        self.laggards.push(laggard);
    }

    pub(super) fn remove(&mut self, at: usize, memberships: &mut [Membership]) -> Laggard {
        let laggard = self.laggards.swap_remove(at);
        if let Some(moved) = self.laggards.get(at) {
            memberships[moved.client as usize].place = at as u32 | LAGGARD;
        }
        self.own_bytes -= laggard.own_bytes();
        laggard
    }

    pub(super) fn laggards_place(&self, client: u32, memberships: &[Membership]) -> Option<usize> {
        match memberships.get(client as usize)?.place() {
            Place::Laggard(at) => self
                .laggards
                .get(at)
                .filter(|laggard| laggard.client == client)
                .map(|_| at),
            Place::Member(_) => None,
        }
    }

    pub(super) fn note_if_stalled(&mut self, at: usize) {
        let laggard = &self.laggards[at];
        if laggard.is(OWN_FRAMES) && !laggard.at_boundary() && !laggard.has_unsent(&self.log) {
            self.stalled.push(laggard.client);
        }
    }

    /// A pass has begun: reports the stalled clients for which it has bytes.
    pub(super) fn report_stalled(&mut self, memberships: &[Membership], out: &mut FlushResult) {
        for client in std::mem::take(&mut self.stalled) {
            if let Some(at) = self.laggards_place(client, memberships)
                && self.laggards[at].has_unsent(&self.log)
            {
                out.resumed.push(ClientId(client));
            }
        }
    }

    /// Changes a laggard and keeps account of its memory.
    pub(super) fn change<R>(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Laggard, &mut Log) -> R,
    ) -> R {
        let laggard = &mut self.laggards[at];
        self.own_bytes -= laggard.own_bytes();
        let result = change(laggard, &mut self.log);
        self.own_bytes += laggard.own_bytes();
        result
    }

    /// Makes sure that policies are applied no later than this laggard's limit demands.
    pub(super) fn lower_check_at(&mut self, laggard: &Laggard, limit: u64) {
        let frontier = self.log.frontier();
        let limit_at = frontier
            .saturating_add(limit)
            .saturating_sub(laggard.lag(frontier));
        self.check_at = self.check_at.min(limit_at);
    }

    /// Applies the policy to every laggard beyond the limit. Looks at no laggard while none can be:
    /// a cursor only moves forward, so the earliest limit found last time still holds.
    pub(super) fn apply_policies(
        &mut self,
        class: SlowClass,
        channels: usize,
        tally: &Arc<AtomicU64>,
        out: &mut FlushResult,
    ) {
        let frontier = self.log.frontier();
        if frontier <= self.check_at {
            return;
        }
        let mut check_at = u64::MAX;
        for at in 0..self.laggards.len() {
            if self.laggards[at].lag(frontier) > class.send_queue {
                self.treat(at, (class.policy, class.send_queue), channels, tally, out);
            }
            let laggard = &self.laggards[at];
            if laggard.is(EVICTED) {
                continue;
            }
            let mut left = class.send_queue.saturating_sub(laggard.lag(frontier));
            if class.policy == SlowPolicy::Latest {
                // The newest frames of all channels may exceed the limit. Without this, every
                // message would copy them all again.
                left = left.max(class.send_queue / 4);
            }
            check_at = check_at.min(frontier.saturating_add(left));
        }
        self.check_at = check_at;
    }

    pub(super) fn treat(
        &mut self,
        at: usize,
        (policy, limit): (SlowPolicy, u64),
        channels: usize,
        tally: &Arc<AtomicU64>,
        out: &mut FlushResult,
    ) {
        let client = self.laggards[at].client;
        let missed = self.change(at, |laggard, log| match policy {
            SlowPolicy::Close => {
                laggard.give_up(log, tally);
                None
            }
            SlowPolicy::DropOldest => Some(laggard.drop_oldest(log, limit, tally)),
            SlowPolicy::Latest => Some(laggard.keep_latest(log, channels, tally)),
        });
        match missed {
            None => out.too_slow.push(ClientId(client)),
            Some(missed) if missed.messages > 0 => {
                let Skipped { messages, bytes } = missed;
                out.skipped.push(Skip {
                    client: ClientId(client),
                    messages,
                    bytes,
                });
            }
            Some(_) => {}
        }
    }
}
