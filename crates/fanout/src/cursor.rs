//! One client that is behind: its position, and what its slow policy does to it.
//!
//! ```text
//!        cursor    settled              frontier
//!  ... ----|----------|------|-----|--------|
//!          begun or   | whole frames that are not begun: the lag
//!          committed  |
//! ```
//!
//! A policy moves the cursor from `settled` to a later boundary. What comes before `settled` must
//! still be sent unchanged. It is set aside outside the log, by reference, so that the log can drop
//! its segments.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::held::Pieces;
use crate::log::Log;

pub(crate) const NOT_OPEN: u8 = 1;
pub(crate) const OWN_FRAMES: u8 = 2;
/// Gone, or too slow: it gets nothing more, and its cursor is not counted in the log.
pub(crate) const EVICTED: u8 = 4;

pub(crate) struct Laggard {
    pub(crate) client: u32,
    pub(crate) socket: i32,
    cursor: u64,
    /// The first boundary at or after both the cursor and the end of the committed bytes.
    settled: u64,
    committed: u32,
    /// When it fell behind or last took bytes, by the clock that feeds share.
    pub(crate) moved_at: u32,
    flags: u8,
    aside: Option<Box<Aside>>,
    /// If it is evicted: how many frames end up to its cursor. The log may have dropped them since.
    frames: u64,
}

/// Bytes that a client is sent before those at its cursor, which is at a boundary.
#[derive(Default)]
struct Aside {
    pieces: Pieces,
    /// Like the laggard's `settled`, but counted from the first of the pieces' bytes.
    settled: usize,
}

/// What a policy skipped for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Laggard {
    /// A laggard at `cursor`, counted in the log; `committed` bytes after it must be offered again.
    pub(crate) fn enter(
        log: &mut Log,
        (client, socket): (u32, i32),
        cursor: u64,
        committed: usize,
        flags: u8,
    ) -> Laggard {
        if flags & EVICTED == 0 {
            log.enter(cursor);
        }
        let settled = log.boundary_from(cursor + committed as u64);
        let committed = committed as u32;
        Laggard {
            client,
            socket,
            cursor,
            settled,
            committed,
            moved_at: 0,
            flags,
            aside: None,
            frames: if flags & EVICTED == 0 {
                0
            } else {
                log.frame_count(cursor)
            },
        }
    }

    /// Takes its cursor out of the log, when it stops being a laggard.
    pub(crate) fn depart(&self, log: &mut Log) {
        if !self.is(EVICTED) {
            log.depart(self.cursor);
        }
    }

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    /// The position from which it may go on as a member, if nothing else holds it back.
    pub(crate) fn rejoins_at(&self) -> Option<u64> {
        let free = self.flags == 0 && self.aside.is_none() && self.committed == 0;
        free.then_some(self.cursor)
    }

    /// It has no partly sent frame and no committed bytes.
    pub(crate) fn at_boundary(&self) -> bool {
        match &self.aside {
            Some(aside) => aside.settled == 0,
            None => self.cursor == self.settled,
        }
    }

    /// Bytes that it must be sent whatever its policy: the rest of a partly sent frame, and
    /// committed bytes.
    pub(crate) fn begun(&self) -> u64 {
        match &self.aside {
            Some(aside) => aside.settled as u64,
            None => self.settled - self.cursor,
        }
    }

    /// Its own memory in bytes, without that of the pieces, which others may hold too.
    pub(crate) fn own_bytes(&self) -> usize {
        let aside = self.aside.as_ref();
        aside.map_or(0, |aside| size_of::<Aside>() + aside.pieces.list_bytes())
    }

    pub(crate) fn pieces(&self) -> Option<&Pieces> {
        self.aside.as_ref().map(|aside| &aside.pieces)
    }

    /// Bytes of whole frames that are not begun, up to `frontier`.
    pub(crate) fn lag(&self, frontier: u64) -> u64 {
        if self.is(EVICTED) {
            return 0;
        }
        let aside = self
            .aside
            .as_ref()
            .map_or(0, |aside| aside.pieces.len() - aside.settled);
        aside as u64 + frontier.saturating_sub(self.settled)
    }

    /// How many whole frames and bytes of the feed were sent to it or skipped.
    pub(crate) fn passed(&self, log: &Log) -> (u64, u64) {
        let frames = if self.is(EVICTED) {
            self.frames
        } else {
            log.frame_count(self.cursor)
        };
        let Some(aside) = &self.aside else {
            return (frames, self.cursor);
        };
        let owed = aside.pieces.frames().count();
        (
            frames - owed as u64,
            self.cursor - aside.pieces.len() as u64,
        )
    }

    /// Something may be written to it now.
    pub(crate) fn has_unsent(&self, log: &Log) -> bool {
        match &self.aside {
            _ if self.is(NOT_OPEN) => false,
            Some(aside) => aside.settled > 0 || !self.is(OWN_FRAMES),
            None => !self.is(EVICTED) && log.has_unsent(self.cursor, self.limit()),
        }
    }

    /// What may be written to it now, in one piece: see [`Log::unsent`].
    pub(crate) fn unsent<'a>(&'a self, log: &'a Log, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        if !self.has_unsent(log) {
            return None;
        }
        match &self.aside {
            Some(aside) => {
                let limit = match self.is(OWN_FRAMES) {
                    true => aside.settled,
                    false => aside.pieces.len(),
                };
                Some(aside.pieces.unsent(limit, b"", scratch))
            }
            None => log.unsent(self.cursor, self.limit(), scratch),
        }
    }

    fn limit(&self) -> u64 {
        match self.is(OWN_FRAMES) {
            true => self.settled,
            false => u64::MAX,
        }
    }

    /// `n` bytes of `unsent` were taken; `committed` more must be offered again.
    pub(crate) fn sent(&mut self, log: &mut Log, n: usize, committed: usize) {
        if let Some(aside) = &mut self.aside {
            aside.sent(n, committed);
            self.committed = committed as u32;
            if aside.pieces.is_empty() {
                self.aside = None;
            }
            return;
        }
        debug_assert!(!self.is(EVICTED));
        if n > 0 {
            log.depart(self.cursor);
            self.cursor += n as u64;
            log.enter(self.cursor);
        }
        self.committed = committed as u32;
        let offered = self.cursor + committed as u64;
        if offered > self.settled {
            self.settled = log.boundary_from(offered);
        }
    }

    /// Evicts it: nothing is left to send but the rest of a partly sent frame.
    pub(crate) fn give_up(&mut self, log: &mut Log, tally: &Arc<AtomicU64>) {
        if self.is(EVICTED) {
            return;
        }
        match &mut self.aside {
            Some(aside) if aside.settled == 0 => self.aside = None,
            Some(aside) => aside.pieces = aside.pieces.first(aside.settled),
            None => self.set_aside(log, tally),
        }
        log.depart(self.cursor);
        self.set(EVICTED);
        self.cursor = self.settled;
        self.frames = log.frame_count(self.cursor);
    }

    /// What must be sent before any byte that is not of this feed.
    pub(crate) fn rest_of_frame(&self, log: &mut Log, tally: &Arc<AtomicU64>) -> Pieces {
        match &self.aside {
            Some(aside) => aside.pieces.first(aside.settled),
            None if self.is(EVICTED) => Pieces::default(),
            None => log.pieces(self.cursor, self.settled, tally),
        }
    }

    /// Moves the cursor to the first boundary from which the lag is within `limit`.
    pub(crate) fn drop_oldest(
        &mut self,
        log: &mut Log,
        limit: u64,
        tally: &Arc<AtomicU64>,
    ) -> Skipped {
        let frontier = log.frontier();
        let to = log.boundary_from(frontier.saturating_sub(limit));
        if self.is(EVICTED) || to <= self.settled {
            return Skipped::default();
        }
        let skipped = Skipped {
            messages: log.frame_count(to) - log.frame_count(self.settled),
            bytes: to - self.settled,
        };
        self.set_aside(log, tally);
        self.jump(log, to);
        skipped
    }

    /// Moves the cursor to the newest frame of each channel; `channels` is how many the feed has.
    ///
    /// Walks back from the frontier until every channel was seen. The newest frames that are
    /// contiguous stay in the log; older ones that are still their channel's newest are set aside.
    pub(crate) fn keep_latest(
        &mut self,
        log: &mut Log,
        channels: usize,
        tally: &Arc<AtomicU64>,
    ) -> Skipped {
        let frontier = log.frontier();
        if self.is(EVICTED) || frontier <= self.settled {
            return Skipped::default();
        }
        let mut seen = HashSet::new();
        let mut to = frontier;
        let mut scattered = Vec::new();
        for (frame, channel) in log.frames_back(self.settled, frontier) {
            if !seen.insert(channel) {
                continue;
            }
            if frame.end == to {
                to = frame.start;
            } else {
                scattered.push(frame);
            }
            if seen.len() == channels {
                break;
            }
        }
        let mut skipped = self.drop_aside(|channel| seen.contains(&channel));
        if to > self.settled {
            skipped.messages += log.frame_count(to) - log.frame_count(self.settled);
            skipped.bytes += to - self.settled;
            self.set_aside(log, tally);
            self.jump(log, to);
        }
        for frame in scattered.into_iter().rev() {
            let aside = self.aside.get_or_insert_default();
            aside
                .pieces
                .extend(log.pieces(frame.start, frame.end, tally));
            skipped.messages -= 1;
            skipped.bytes -= frame.end - frame.start;
        }
        skipped
    }

    /// Sets aside the rest of a partly sent frame and committed bytes, if there are any.
    fn set_aside(&mut self, log: &mut Log, tally: &Arc<AtomicU64>) {
        if self.aside.is_none() && self.cursor < self.settled {
            let pieces = log.pieces(self.cursor, self.settled, tally);
            let settled = pieces.len();
            self.aside = Some(Box::new(Aside { pieces, settled }));
        }
    }

    fn jump(&mut self, log: &mut Log, to: u64) {
        debug_assert!(to >= self.settled);
        log.depart(self.cursor);
        (self.cursor, self.settled) = (to, to);
        log.enter(to);
    }

    /// Drops the frames set aside that are not begun and whose channel has a newer frame (`newer`).
    fn drop_aside(&mut self, newer: impl Fn(u32) -> bool) -> Skipped {
        let mut skipped = Skipped::default();
        let Some(aside) = &mut self.aside else {
            return skipped;
        };
        let frames = aside.pieces.frames_after(aside.settled);
        aside.pieces = aside.pieces.first(aside.settled);
        for (frame, channel) in frames {
            if newer(channel) {
                skipped.messages += 1;
                skipped.bytes += frame.len() as u64;
            } else {
                aside.pieces.extend(frame);
            }
        }
        if aside.pieces.is_empty() {
            self.aside = None;
        }
        skipped
    }
}

impl Aside {
    fn sent(&mut self, n: usize, committed: usize) {
        let offered = n + committed;
        if offered > self.settled {
            self.settled = self.pieces.boundary_from(offered);
        }
        self.settled -= n;
        self.pieces.sent(n);
    }
}
