//! One feed: its members, which keep up; its laggards; and the pass that sends to the members.

mod backlog;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use smallvec::SmallVec;

use crate::cursor::{EVICTED, Laggard, NOT_OPEN, OWN_FRAMES};
use crate::held::{Piece, Pieces};
use crate::log::Log;
use crate::membership::{Membership, Place};
use crate::segment::Buffers;
use crate::types::{Batch, ClientId, FlushResult, Short, SlowClass, SlowPolicy, WriteOutcome};
use backlog::Backlog;

/// Backlogs beyond this total size are freed, not kept as spares.
const SPARE_BYTES: usize = 4 << 20;

/// What all feeds share.
pub(crate) struct SharedState {
    pub(crate) memberships: Vec<Membership>,
    pub(crate) buffers: Buffers,
    // Boxed because feeds hold them boxed: taking one copies a pointer.
    #[allow(clippy::vec_box)]
    backlogs: Vec<Box<Backlog>>,
    backlog_bytes: usize,
    /// The time, in milliseconds from an arbitrary start.
    pub(crate) now: u32,
    /// Bytes held by reference, whoever holds them.
    pub(crate) tally: Arc<AtomicU64>,
}

impl SharedState {
    pub(crate) fn new() -> SharedState {
        SharedState {
            memberships: Vec::new(),
            buffers: Buffers::default(),
            backlogs: Vec::new(),
            backlog_bytes: 0,
            now: 0,
            tally: Arc::default(),
        }
    }

    fn keep_spare(&mut self, backlog: Box<Backlog>) {
        let bytes = self.backlog_bytes + backlog.spare_bytes();
        if bytes <= SPARE_BYTES {
            self.backlog_bytes = bytes;
            self.backlogs.push(backlog);
        }
    }

    fn new_backlog(&mut self, tail: u64, frames: u64) -> Box<Backlog> {
        let mut backlog = self.take_spare();
        backlog.begin(tail, frames);
        backlog
    }

    fn take_spare(&mut self) -> Box<Backlog> {
        let Some(backlog) = self.backlogs.pop() else {
            return Box::default();
        };
        self.backlog_bytes -= backlog.spare_bytes();
        backlog
    }
}

/// A channel of a feed, and the feed's place in the channel's list.
#[derive(Clone, Copy)]
pub(crate) struct ChannelPlace {
    pub(crate) channel: u32,
    pub(crate) place: u32,
}

/// `sockets` and `clients` are parallel: a pass walks the first and touches nothing else.
pub(crate) struct Feed {
    sockets: SmallVec<[i32; 4]>,
    clients: SmallVec<[u32; 4]>,
    pub(crate) channels: SmallVec<[ChannelPlace; 2]>,
    backlog: Option<Box<Backlog>>,
    /// Bytes and frames so far. Out of date while there is a backlog: its log counts then.
    tail: u64,
    frames: u64,
    pub(crate) variant: u32,
    pub(crate) class: u16,
    pub(crate) dirty: bool,
}

impl Feed {
    pub(crate) fn new(variant: u32, class: u16, channels: SmallVec<[ChannelPlace; 2]>) -> Feed {
        Feed {
            sockets: SmallVec::new(),
            clients: SmallVec::new(),
            channels,
            backlog: None,
            tail: 0,
            frames: 0,
            variant,
            class,
            dirty: false,
        }
    }

    pub(crate) fn client_count(&self) -> usize {
        self.clients.len() + self.laggard_count()
    }

    pub(crate) fn laggard_count(&self) -> usize {
        self.backlog
            .as_ref()
            .map_or(0, |backlog| backlog.laggards.len())
    }

    /// Bytes held, except those held by reference.
    pub(crate) fn own_bytes(&self) -> usize {
        self.backlog
            .as_ref()
            .map_or(0, |backlog| backlog.log.own_bytes() + backlog.own_bytes)
    }

    // Joining and leaving.

    /// Adds the client at the tail, as a muted laggard.
    pub(crate) fn join(
        &mut self,
        (client, socket): (u32, i32),
        limit: u64,
        shared: &mut SharedState,
    ) {
        let backlog = self.backlog(shared);
        let log = &mut backlog.log;
        let tail = log.tail();
        if tail > log.reach() {
            log.seal();
            backlog.ahead.push_back((tail, client));
        }
        let laggard = Laggard::enter(log, (client, socket), tail, 0, NOT_OPEN);
        backlog.lower_check_at(&laggard, limit);
        backlog.push(laggard, &mut shared.memberships, shared.now);
    }

    /// Removes the client of this membership.
    pub(crate) fn leave(&mut self, membership: Membership, shared: &mut SharedState) {
        match membership.place() {
            Place::Member(at) => {
                self.remove_member(at, &mut shared.memberships);
            }
            Place::Laggard(at) => {
                let Some(backlog) = &mut self.backlog else {
                    return;
                };
                backlog
                    .remove(at, &mut shared.memberships)
                    .depart(&mut backlog.log);
                backlog.log.trim(&mut shared.buffers);
            }
        }
    }

    /// Gives the backlog back if it is empty.
    pub(crate) fn settle(&mut self, shared: &mut SharedState) {
        let idle = |backlog: &mut Box<Backlog>| backlog.is_idle();
        if let Some(mut backlog) = self.backlog.take_if(idle) {
            self.tail = backlog.log.tail();
            self.frames = backlog.log.total_frames();
            backlog.ahead.clear();
            backlog.stalled.clear();
            shared.keep_spare(backlog);
        }
    }

    // Publishing.

    /// The log, to append frames to.
    pub(crate) fn log(&mut self, shared: &mut SharedState) -> &mut Log {
        &mut self.backlog(shared).log
    }

    // The pass.

    /// Moves on to the next pass that has members to send to. Returns `false` if there is none: the
    /// flush is complete.
    pub(crate) fn advance(
        &mut self,
        class: SlowClass,
        shared: &mut SharedState,
        out: &mut FlushResult,
    ) -> bool {
        while let Some(backlog) = &mut self.backlog {
            if !backlog.log.in_pass() {
                self.readmit_those_ahead(shared);
                let Some(backlog) = &mut self.backlog else {
                    return false;
                };
                let stop = backlog.ahead.front().map(|(at, _)| *at);
                if !backlog.log.begin_pass(stop) {
                    return false;
                }
                backlog.done = 0;
                backlog.report_stalled(&shared.memberships, out);
            } else if backlog.done < self.clients.len() {
                return true;
            } else {
                backlog.log.end_pass(&mut shared.buffers);
                backlog.done = 0;
                backlog.apply_policies(class, self.channels.len(), &shared.tally, out);
                backlog.log.trim(&mut shared.buffers);
            }
        }
        false
    }

    /// Its log has kept segments that [`decide`](Feed::decide) has not looked at.
    pub(crate) fn is_undecided(&self) -> bool {
        let backlog = self.backlog.as_ref();
        backlog.is_some_and(|backlog| backlog.log.is_undecided())
    }

    /// To be called when everything has been offered in all feeds: see [`Log::decide`].
    pub(crate) fn decide(&mut self, shared: &mut SharedState) {
        if let Some(backlog) = &mut self.backlog {
            backlog.log.decide(&mut shared.buffers);
        }
    }

    /// Up to `max` members that the pass has not reached, and the bytes for them.
    pub(crate) fn batch<'a>(&'a self, max: usize, scratch: &'a mut Vec<u8>) -> Batch<'a> {
        let Some(backlog) = self
            .backlog
            .as_ref()
            .filter(|backlog| backlog.log.in_pass())
        else {
            return Batch {
                sockets: &[],
                clients: &[],
                bytes: &[],
            };
        };
        let to = self.clients.len().min(backlog.done.saturating_add(max));
        Batch {
            sockets: &self.sockets[backlog.done..to],
            clients: &self.clients[backlog.done..to],
            bytes: backlog.log.pass_bytes(scratch),
        }
    }

    /// The first `tried` members of the batch were offered its bytes; `shorts` did not take all of
    /// them.
    pub(crate) fn completed(
        &mut self,
        tried: usize,
        shorts: &mut [Short],
        limit: u64,
        shared: &mut SharedState,
        out: &mut FlushResult,
    ) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        let (first, floor) = (backlog.done, backlog.log.floor());
        let due = (backlog.log.reach() - floor) as usize;
        backlog.done += tried;
        // From the last on, so that a removal moves only members that were looked at already.
        shorts.sort_unstable_by_key(|short| std::cmp::Reverse(short.index));
        for short in shorts.iter().filter(|short| (short.index as usize) < tried) {
            let (written, committed, flags, list) = match short.sent {
                WriteOutcome::All => continue,
                WriteOutcome::Part(written) => (written, 0, 0, &mut out.short),
                WriteOutcome::Committed { written, offered } => {
                    (written, offered, 0, &mut out.short)
                }
                WriteOutcome::Gone => (0, 0, EVICTED, &mut out.gone),
            };
            if written >= due {
                continue;
            }
            let who = self.remove_member(first + short.index as usize, &mut shared.memberships);
            let Some(backlog) = &mut self.backlog else {
                return;
            };
            let committed = committed.min(due - written);
            let at = floor + written as u64;
            let laggard = Laggard::enter(&mut backlog.log, who, at, committed, flags);
            backlog.lower_check_at(&laggard, limit);
            backlog.push(laggard, &mut shared.memberships, shared.now);
            list.push(ClientId(who.0));
        }
    }

    /// Clients that joined at a position that the passes have reached become members, if nothing
    /// else holds them back.
    fn readmit_those_ahead(&mut self, shared: &mut SharedState) {
        while let Some(backlog) = &mut self.backlog {
            let floor = backlog.log.floor();
            let Some(&(_, client)) = backlog.ahead.front().filter(|(at, _)| *at <= floor) else {
                return;
            };
            backlog.ahead.pop_front();
            // The client may have left, and its id may be another's now. That does no harm:
            // readmitting changes nothing that is not due anyway.
            let listed = backlog.laggards_place(client, &shared.memberships);
            if let Some(at) = listed {
                self.readmit(at, shared);
            }
        }
    }

    // Laggards.

    /// The caller has bytes of its own for the client: it is a laggard until it is released.
    pub(crate) fn pause_feed(
        &mut self,
        membership: Membership,
        limit: u64,
        shared: &mut SharedState,
    ) {
        match membership.place() {
            Place::Laggard(at) => {
                if let Some(backlog) = &mut self.backlog {
                    backlog.laggards[at].set(OWN_FRAMES);
                    backlog.note_if_stalled(at);
                }
            }
            Place::Member(at) => {
                let position = self.position(at);
                let who = self.remove_member(at, &mut shared.memberships);
                let backlog = self.backlog(shared);
                let laggard = Laggard::enter(&mut backlog.log, who, position, 0, OWN_FRAMES);
                backlog.lower_check_at(&laggard, limit);
                backlog.push(laggard, &mut shared.memberships, shared.now);
                backlog.note_if_stalled(backlog.laggards.len() - 1);
            }
        }
    }

    /// Clears `flag` of a laggard, and makes it a member if nothing is left to send to it. Returns
    /// whether there is nothing to write to it now.
    pub(crate) fn release(&mut self, at: usize, flag: u8, shared: &mut SharedState) -> bool {
        let Some(backlog) = &mut self.backlog else {
            return true;
        };
        backlog.laggards[at].clear(flag);
        let ahead = match backlog.laggards[at].rejoins_at() {
            Some(cursor) => cursor > backlog.log.reach(),
            None => false,
        };
        ahead || self.readmit(at, shared)
    }

    /// Makes a laggard that has caught up a member.
    fn readmit(&mut self, at: usize, shared: &mut SharedState) -> bool {
        let Some(backlog) = &mut self.backlog else {
            return false;
        };
        let log = &mut backlog.log;
        let has_this_pass = log.in_pass().then(|| log.reach());
        let cursor = backlog.laggards[at].rejoins_at();
        if cursor.is_none() || (cursor != has_this_pass && cursor != Some(log.floor())) {
            return false;
        }
        let laggard = backlog.remove(at, &mut shared.memberships);
        laggard.depart(&mut backlog.log);
        backlog.log.trim(&mut shared.buffers);
        let last = self.clients.len();
        let mut place = last;
        if cursor == has_this_pass {
            place = backlog.done;
            backlog.done += 1;
        }
        grow(&mut self.sockets, laggard.socket);
        grow(&mut self.clients, laggard.client);
        self.swap(last, place, &mut shared.memberships);
        true
    }

    pub(crate) fn unsent<'a>(&'a self, at: usize, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let backlog = self.backlog.as_ref()?;
        backlog.laggards[at].unsent(&backlog.log, scratch)
    }

    pub(crate) fn sent(&mut self, at: usize, n: usize, committed: usize, shared: &mut SharedState) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        backlog.change(at, |laggard, log| laggard.sent(log, n, committed));
        if n > 0 {
            backlog.laggards[at].moved_at = shared.now;
        }
        backlog.note_if_stalled(at);
        backlog.log.trim(&mut shared.buffers);
    }

    pub(crate) fn rest_of_frame(&mut self, membership: Membership, shared: &SharedState) -> Pieces {
        let place = membership.place();
        let position = match place {
            Place::Laggard(_) => 0,
            Place::Member(at) => self.position(at),
        };
        let Some(backlog) = &mut self.backlog else {
            return Pieces::default();
        };
        let log = &mut backlog.log;
        match place {
            Place::Laggard(at) => backlog.laggards[at].rest_of_frame(log, &shared.tally),
            Place::Member(_) => log.pieces(position, log.boundary_from(position), &shared.tally),
        }
    }

    pub(crate) fn at_boundary(&self, membership: Membership) -> bool {
        let Some(backlog) = &self.backlog else {
            return true;
        };
        match membership.place() {
            Place::Laggard(at) => backlog.laggards[at].at_boundary(),
            Place::Member(at) => {
                let position = self.position(at);
                backlog.log.boundary_from(position) == position
            }
        }
    }

    /// How many whole frames and bytes of the feed were sent to this client or skipped.
    pub(crate) fn passed(&self, membership: Membership) -> (u64, u64) {
        let Some(backlog) = &self.backlog else {
            return (self.frames, self.tail);
        };
        match membership.place() {
            Place::Laggard(at) => backlog.laggards[at].passed(&backlog.log),
            Place::Member(at) => {
                let position = self.position(at);
                (backlog.log.frame_count(position), position)
            }
        }
    }

    pub(crate) fn lag(&self, at: usize) -> u64 {
        let Some(backlog) = &self.backlog else {
            return 0;
        };
        backlog.laggards[at].lag(backlog.log.frontier())
    }

    /// Every client, in no particular order.
    pub(crate) fn all_clients(&self) -> impl Iterator<Item = u32> {
        let behind = self.backlog.iter().flat_map(|backlog| &backlog.laggards);
        self.clients
            .iter()
            .copied()
            .chain(behind.map(|laggard| laggard.client))
    }

    /// Every laggard's client and lag.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (u32, u64)> {
        self.backlog.iter().flat_map(|backlog| {
            let frontier = backlog.log.frontier();
            backlog
                .laggards
                .iter()
                .map(move |laggard| (laggard.client, laggard.lag(frontier)))
        })
    }

    /// Every laggard's client, how much of a partly sent frame is left, and when it last took
    /// bytes.
    pub(crate) fn begun(&self) -> impl Iterator<Item = (u32, u64, u32)> {
        let laggards = self.backlog.iter().flat_map(|backlog| &backlog.laggards);
        laggards.map(|it| (it.client, it.begun(), it.moved_at))
    }

    pub(crate) fn begun_by(&self, at: usize) -> u64 {
        let backlog = self.backlog.as_ref();
        backlog.map_or(0, |backlog| backlog.laggards[at].begun())
    }

    /// Applies the policy to one laggard at once, as if it were beyond its limit.
    pub(crate) fn treat(
        &mut self,
        at: usize,
        policy: SlowPolicy,
        shared: &mut SharedState,
        out: &mut FlushResult,
    ) {
        let channels = self.channels.len();
        let lag = self.lag(at);
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        backlog.treat(at, (policy, lag / 2), channels, &shared.tally, out);
        backlog.log.trim(&mut shared.buffers);
    }

    /// For tests: [`own_bytes`](Feed::own_bytes), counted anew.
    pub(crate) fn recounted(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| {
            let segments = backlog.log.segments.iter().map(|it| it.chunk.own_bytes());
            let laggards = backlog.laggards.iter().map(Laggard::own_bytes);
            segments.chain(laggards).sum()
        })
    }

    /// For tests: the parts of shared bytes, and whether the log keeps each for laggards.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Piece, bool)> {
        self.backlog.iter().flat_map(|backlog| {
            let aside = backlog.laggards.iter().filter_map(|it| it.pieces());
            let aside = aside.flat_map(Pieces::parts).map(|piece| (piece, false));
            backlog.log.parts().chain(aside)
        })
    }

    // Members.

    fn position(&self, at: usize) -> u64 {
        match &self.backlog {
            None => self.tail,
            Some(backlog) if at < backlog.done => backlog.log.reach(),
            Some(backlog) => backlog.log.floor(),
        }
    }

    /// Removes a member. Members that the pass has reached stay before those that it has not.
    fn remove_member(&mut self, mut at: usize, memberships: &mut [Membership]) -> (u32, i32) {
        if let Some(backlog) = &mut self.backlog
            && at < backlog.done
        {
            backlog.done -= 1;
            let last_done = backlog.done;
            self.swap(at, last_done, memberships);
            at = last_done;
        }
        let who = (self.clients.swap_remove(at), self.sockets.swap_remove(at));
        if let Some(&moved) = self.clients.get(at) {
            memberships[moved as usize].place = at as u32;
        }
        who
    }

    fn swap(&mut self, a: usize, b: usize, memberships: &mut [Membership]) {
        self.clients.swap(a, b);
        self.sockets.swap(a, b);
        memberships[self.clients[a] as usize].place = a as u32;
        memberships[self.clients[b] as usize].place = b as u32;
    }

    fn backlog(&mut self, shared: &mut SharedState) -> &mut Backlog {
        let (tail, frames) = (self.tail, self.frames);
        self.backlog
            .get_or_insert_with(|| shared.new_backlog(tail, frames))
    }
}

/// Pushes, growing by an eighth: doubling would cost unused memory for every idle client.
fn grow<T: Copy, const N: usize>(list: &mut SmallVec<[T; N]>, item: T)
where
    [T; N]: smallvec::Array<Item = T>,
{
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(4));
    }
    list.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{Channel, FeedPlace};

    #[test]
    fn an_idle_client_is_sixteen_bytes_and_a_feed_two_cache_lines() {
        assert_eq!(
            size_of::<Membership>() + size_of::<i32>() + size_of::<u32>(),
            16
        );
        assert!(size_of::<Feed>() <= 128, "{}", size_of::<Feed>());
        assert!(size_of::<Channel>() <= 48, "{}", size_of::<Channel>());
        assert_eq!(size_of::<ChannelPlace>() + size_of::<FeedPlace>(), 16);
    }
}
