//! One client that is behind: where it stands, and what its slow policy does to it.
//!
//! ```text
//!        cursor    settled              frontier
//!  ... ----|----------|------|-----|--------|
//!          begun or   | whole frames that are not begun: the lag
//!          committed  |
//! ```
//!
//! A policy moves the cursor from `settled` to a later boundary. What comes before `settled` must
//! still go out as it is; it is copied out then, or the log could not let go of it.

use std::collections::HashSet;

use crate::log::Log;

pub(crate) const MUTED: u8 = 1;
pub(crate) const HELD: u8 = 2;
/// Gone, or too slow: nothing comes to it any more, and it holds nothing of the log.
pub(crate) const OUT: u8 = 4;

pub(crate) struct Laggard {
    pub(crate) client: u32,
    pub(crate) socket: i32,
    cursor: u64,
    /// The first boundary that is neither before the cursor nor before the committed bytes' end.
    settled: u64,
    committed: u32,
    flags: u8,
    aside: Option<Box<Aside>>,
    /// Of one that is out: frames up to its cursor. The log forgets.
    frames: u64,
}

/// Bytes of one client alone; they go out before those at its cursor, which is at a boundary.
struct Aside {
    bytes: Vec<u8>,
    at: usize,
    /// As the laggard's, but in `bytes`.
    settled: usize,
    /// End and channel of every frame that ends in `bytes`.
    frames: Vec<(usize, u32)>,
}

/// What a policy took from a client.
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
        if flags & OUT == 0 {
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
            flags,
            aside: None,
            frames: if flags & OUT == 0 {
                0
            } else {
                log.frame_count(cursor)
            },
        }
    }

    /// Leaves the log. The last thing that happens to a laggard.
    pub(crate) fn depart(&self, log: &mut Log) {
        if !self.is(OUT) {
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

    /// The position from which it may go on as one that keeps up, if nothing of its own is left.
    pub(crate) fn rejoins_at(&self) -> Option<u64> {
        let free = self.flags == 0 && self.aside.is_none() && self.committed == 0;
        free.then_some(self.cursor)
    }

    /// Neither a frame begun nor committed bytes are left.
    pub(crate) fn at_boundary(&self) -> bool {
        match &self.aside {
            Some(aside) => aside.at == aside.settled,
            None => self.cursor == self.settled,
        }
    }

    /// Memory of its own, in bytes.
    pub(crate) fn own_bytes(&self) -> usize {
        self.aside
            .as_ref()
            .map_or(0, |aside| aside.bytes.len() + aside.frames.len() * 16)
    }

    /// Bytes of whole frames that are not begun, up to `frontier`.
    pub(crate) fn lag(&self, frontier: u64) -> u64 {
        if self.is(OUT) {
            return 0;
        }
        let aside = self
            .aside
            .as_ref()
            .map_or(0, |aside| aside.bytes.len() - aside.settled);
        aside as u64 + frontier.saturating_sub(self.settled)
    }

    /// Whole frames and bytes of the feed that went to it or were skipped.
    pub(crate) fn passed(&self, log: &Log) -> (u64, u64) {
        let frames = if self.is(OUT) {
            self.frames
        } else {
            log.frame_count(self.cursor)
        };
        let Some(aside) = &self.aside else {
            return (frames, self.cursor);
        };
        let owed = aside
            .frames
            .iter()
            .filter(|(end, _)| *end > aside.at)
            .count();
        (
            frames - owed as u64,
            self.cursor - (aside.bytes.len() - aside.at) as u64,
        )
    }

    /// What may be written to it now, in one piece.
    pub(crate) fn unsent<'a>(&'a self, log: &'a Log) -> Option<&'a [u8]> {
        if self.is(MUTED) {
            return None;
        }
        if let Some(aside) = &self.aside {
            let to = if self.is(HELD) {
                aside.settled
            } else {
                aside.bytes.len()
            };
            return Some(&aside.bytes[aside.at..to]).filter(|bytes| !bytes.is_empty());
        }
        if self.is(OUT) {
            return None;
        }
        log.unsent(
            self.cursor,
            if self.is(HELD) {
                self.settled
            } else {
                u64::MAX
            },
        )
    }

    /// `n` bytes of `unsent` were taken; `committed` more must be offered again.
    pub(crate) fn sent(&mut self, log: &mut Log, n: usize, committed: usize) {
        if let Some(aside) = &mut self.aside {
            aside.sent(n, committed);
            self.committed = committed as u32;
            if aside.at == aside.bytes.len() {
                self.aside = None;
            }
            return;
        }
        debug_assert!(!self.is(OUT));
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

    /// Gives everything up but the frame begun.
    pub(crate) fn give_up(&mut self, log: &mut Log) {
        if self.is(OUT) {
            return;
        }
        match &mut self.aside {
            Some(aside) => {
                aside.bytes.truncate(aside.settled);
                aside.frames.retain(|(end, _)| *end <= aside.settled);
                if aside.at == aside.settled {
                    self.aside = None;
                }
            }
            None => self.set_aside(log),
        }
        log.depart(self.cursor);
        self.set(OUT);
        self.cursor = self.settled;
        self.frames = log.frame_count(self.cursor);
    }

    /// Appends what must be sent before any byte that is not of this feed.
    pub(crate) fn rest_of_frame(&self, log: &Log, into: &mut Vec<u8>) {
        match &self.aside {
            Some(aside) => into.extend_from_slice(&aside.bytes[aside.at..aside.settled]),
            None if self.is(OUT) => {}
            None => log.copy(self.cursor, self.settled, into),
        }
    }

    /// Forward to the first boundary from which the lag is within `limit`.
    pub(crate) fn drop_oldest(&mut self, log: &mut Log, limit: u64) -> Skipped {
        let frontier = log.frontier();
        let to = log.boundary_from(frontier.saturating_sub(limit));
        if self.is(OUT) || to <= self.settled {
            return Skipped::default();
        }
        let skipped = Skipped {
            messages: log.frame_count(to) - log.frame_count(self.settled),
            bytes: to - self.settled,
        };
        self.set_aside(log);
        self.jump(log, to);
        skipped
    }

    /// Forward to the newest frame of each channel; `channels` is how many the feed has.
    ///
    /// Walks back from the frontier until every channel was seen. The newest frames that lie
    /// together stay in the log, older ones that are still their channel's newest are set aside.
    pub(crate) fn keep_latest(&mut self, log: &mut Log, channels: usize) -> Skipped {
        let frontier = log.frontier();
        if self.is(OUT) || frontier <= self.settled {
            return Skipped::default();
        }
        let mut seen = HashSet::new();
        let mut to = frontier;
        let mut scattered = Vec::new();
        for (begin, frame) in log.frames_back(self.settled, frontier) {
            if !seen.insert(frame.channel) {
                continue;
            }
            if frame.end == to {
                to = begin;
            } else {
                scattered.push((begin, frame));
            }
            if seen.len() == channels {
                break;
            }
        }
        let mut skipped = self.drop_aside(|channel| seen.contains(&channel));
        if to > self.settled {
            skipped.messages += log.frame_count(to) - log.frame_count(self.settled);
            skipped.bytes += to - self.settled;
            self.set_aside(log);
            self.jump(log, to);
        }
        for (begin, frame) in scattered.into_iter().rev() {
            let aside = self.aside.get_or_insert_with(Aside::empty);
            log.copy(begin, frame.end, &mut aside.bytes);
            aside.frames.push((aside.bytes.len(), frame.channel));
            skipped.messages -= 1;
            skipped.bytes -= frame.end - begin;
        }
        skipped
    }

    /// Copies the frame begun and the committed bytes out of the log, if there are any.
    fn set_aside(&mut self, log: &Log) {
        if self.aside.is_some() || self.cursor == self.settled {
            return;
        }
        let mut bytes = Vec::with_capacity((self.settled - self.cursor) as usize);
        log.copy(self.cursor, self.settled, &mut bytes);
        let mut frames: Vec<_> = log
            .frames_back(self.cursor, self.settled)
            .map(|(_, frame)| ((frame.end - self.cursor) as usize, frame.channel))
            .collect();
        frames.reverse();
        let settled = bytes.len();
        self.aside = Some(Box::new(Aside {
            bytes,
            at: 0,
            settled,
            frames,
        }));
    }

    fn jump(&mut self, log: &mut Log, to: u64) {
        debug_assert!(to >= self.settled);
        log.depart(self.cursor);
        (self.cursor, self.settled) = (to, to);
        log.enter(to);
    }

    /// Drops the frames set aside that are not begun and for whose channel `newer` holds.
    fn drop_aside(&mut self, newer: impl Fn(u32) -> bool) -> Skipped {
        let mut skipped = Skipped::default();
        let Some(aside) = &mut self.aside else {
            return skipped;
        };
        let old = std::mem::take(&mut aside.frames);
        let bytes = std::mem::take(&mut aside.bytes);
        aside.bytes.extend_from_slice(&bytes[..aside.settled]);
        let mut begin = 0;
        for (end, channel) in old {
            if end <= aside.settled {
                aside.frames.push((end, channel));
            } else if newer(channel) {
                skipped.messages += 1;
                skipped.bytes += (end - begin) as u64;
            } else {
                aside.bytes.extend_from_slice(&bytes[begin..end]);
                aside.frames.push((aside.bytes.len(), channel));
            }
            begin = end;
        }
        if aside.at == aside.bytes.len() {
            self.aside = None;
        }
        skipped
    }
}

impl Aside {
    fn empty() -> Box<Aside> {
        Box::new(Aside {
            bytes: Vec::new(),
            at: 0,
            settled: 0,
            frames: Vec::new(),
        })
    }

    fn sent(&mut self, n: usize, committed: usize) {
        self.at += n;
        let offered = self.at + committed;
        if offered > self.settled {
            let at = self.frames.partition_point(|(end, _)| *end < offered);
            self.settled = self.frames[at].0;
        }
    }
}
