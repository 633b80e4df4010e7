//! The part of a feed's byte stream that some client has not been sent yet.
//!
//! ```text
//!   kept for laggards           pass              pending
//! |  segment | segment | segment | segment | segment | segment |
//!                      ^ floor             ^ reach             ^ tail
//! ```
//!
//! A pass offers the same bytes to every client that keeps up: one segment, or several that are
//! small enough for one write. Before and after a pass, all these clients are at the floor; during
//! it, each is at the floor or at the reach. Each segment counts the cursors in it. A passed
//! segment is dropped when no cursor is in it or before it. So nothing is kept while no client
//! lags, and no operation walks all laggards.
//!
//! Positions are byte offsets since the feed began. A *boundary* is a position between frames.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::excerpts::Excerpts;
use crate::held::{Framed, GATHER, Held, Piece, Pieces};
use crate::segment::{Buffers, COALESCE, Chunk, Segment, fit};

/// The most that one client is offered by one write.
pub(crate) const MAX_WRITE: usize = 1 << 20;
/// Segments that a pass offers together have at most this many bytes: they are copied for it, and
/// few sockets take more at once.
const MAX_GATHERED: usize = 256 << 10;
/// Frames from this size on are held by reference, in segments of their own.
pub(crate) const LARGE: usize = 64 << 10;
/// A buffer of this size takes no more frames.
pub(crate) const FULL: usize = MAX_WRITE - LARGE;

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) segments: VecDeque<Segment>,
    /// How many segments have had their pass. They are kept for laggards only.
    passed: usize,
    /// How many of these, counted from the last, [`decide`](Log::decide) has not looked at yet. The
    /// first of them is a part of shared bytes.
    undecided: usize,
    /// How many segments after the passed ones the current pass offers; 0 if there is no pass.
    in_pass: usize,
    pub(crate) tail: u64,
    /// Cursors at the tail. The next segment counts them: the tail becomes its base.
    at_tail: u32,
    /// The last boundary at or before the first segment's base.
    begins_at: u64,
    /// Frames of this feed so far.
    pub(crate) frames: u64,
    own_bytes: usize,
    excerpts: Excerpts,
    /// The part of a tape that is staged for this log and not given to it yet.
    pub(crate) staged: Range<u32>,
}

impl Log {
    /// Begins empty at `tail`, which is a boundary; `frames` frames ended before it.
    pub(crate) fn restart(&mut self, tail: u64, frames: u64) {
        debug_assert!(self.segments.is_empty() && self.at_tail == 0 && self.in_pass == 0);
        debug_assert!(self.passed == 0 && self.undecided == 0);
        (self.tail, self.begins_at, self.frames) = (tail, tail, frames);
        self.excerpts.clear();
    }

    /// The position of clients that keep up and that the pass has not reached.
    pub(crate) fn floor(&self) -> u64 {
        self.segments
            .get(self.passed)
            .map_or(self.tail, |segment| segment.base)
    }

    /// The position of clients that keep up, once the pass has reached them.
    pub(crate) fn reach(&self) -> u64 {
        match self.in_pass {
            0 => self.floor(),
            some => self.segments[self.passed + some - 1].end(),
        }
    }

    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Its memory while it is empty: capacity for segments to come.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>()
    }

    /// Bytes held here, except those held by reference.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    // Growing.

    /// Appends a copy of whole frames. Returns by how much [`own_bytes`](Log::own_bytes) grew.
    pub(crate) fn append(
        &mut self,
        frames: &Framed,
        range: Range<usize>,
        buffers: &mut Buffers,
    ) -> usize {
        let before = self.own_bytes;
        if let Some(open) = self.open() {
            let weight = open.weight();
            open.append(frames, range.clone());
            let grown = open.weight() - weight;
            self.grown(grown, range.len(), frames.frames_in(range).len());
        } else {
            let mut buffer = buffers.take();
            buffer.append(frames, range);
            self.push_own(buffer);
        }
        self.own_bytes - before
    }

    /// Appends whole frames by reference, in segments of at most [`MAX_WRITE`]. Returns by how much
    /// [`own_bytes`](Log::own_bytes) grew.
    pub(crate) fn append_held(&mut self, held: &Arc<Held>, range: Range<usize>) -> usize {
        let (mut from, before) = (range.start, self.own_bytes);
        while from < range.end {
            let to = range.end.min(from + MAX_WRITE);
            self.push(Chunk::Part(Piece::new(held, from..to)), true);
            from = to;
        }
        self.own_bytes - before
    }

    /// Seals the last segment: later frames go to another one, so that a pass may end at the
    /// present tail.
    pub(crate) fn seal(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.sealed = true;
        }
    }

    /// The buffer that the next frame goes to, unless that takes a new segment.
    #[inline]
    pub(crate) fn open(&mut self) -> Option<&mut Box<Framed>> {
        if self.segments.len() <= self.passed {
            return None;
        }
        match self.segments.back_mut()? {
            Segment {
                sealed: false,
                chunk: Chunk::Own(framed),
                ..
            } if framed.bytes.len() < FULL => Some(framed),
            _ => None,
        }
    }

    /// The open buffer has grown by this much.
    #[inline]
    pub(crate) fn grown(&mut self, weight: usize, bytes: usize, frames: usize) {
        self.own_bytes += weight;
        self.tail += bytes as u64;
        self.frames += frames as u64;
    }

    pub(crate) fn push_own(&mut self, framed: Box<Framed>) {
        self.push(Chunk::Own(framed), false);
    }

    fn push(&mut self, chunk: Chunk, sealed: bool) {
        let base = self.tail;
        let frames = self.frames;
        self.own_bytes += chunk.own_bytes();
        self.tail += chunk.len() as u64;
        self.frames += chunk.frames().0.len() as u64;
        let cursors = std::mem::take(&mut self.at_tail);
        let low = if cursors > 0 { base } else { u64::MAX };
        self.segments.push_back(Segment {
            base,
            frames,
            chunk,
            low,
            cursors,
            sealed,
        });
    }

    // Passes.

    /// Begins the next pass, unless one is under way. It covers one segment, or several small ones
    /// up to `stop`. Returns whether a pass is under way.
    #[inline]
    pub(crate) fn begin_pass(&mut self, stop: Option<u64>) -> bool {
        if self.in_pass > 0 || self.passed >= self.segments.len() {
            return self.in_pass > 0;
        }
        let mut bytes = 0;
        for segment in self.segments.range_mut(self.passed..) {
            bytes += segment.chunk.len();
            if self.in_pass > 0 && (bytes > MAX_GATHERED || stop == Some(segment.base)) {
                break;
            }
            segment.sealed = true;
            self.in_pass += 1;
        }
        true
    }

    pub(crate) fn in_pass(&self) -> bool {
        self.in_pass > 0
    }

    /// The bytes that the pass offers. If it covers several segments, they are gathered in
    /// `scratch`.
    pub(crate) fn pass_bytes<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        debug_assert!(self.in_pass());
        if self.in_pass == 1 {
            return self.segments[self.passed].chunk.bytes();
        }
        scratch.clear();
        for segment in self.segments.range(self.passed..self.passed + self.in_pass) {
            scratch.extend_from_slice(segment.chunk.bytes());
        }
        scratch
    }

    /// Ends the pass, after every client that keeps up was offered its bytes. Keeps what a laggard
    /// needs, drops the rest.
    pub(crate) fn end_pass(&mut self, buffers: &mut Buffers) {
        debug_assert!(self.in_pass());
        for _ in 0..std::mem::take(&mut self.in_pass) {
            self.trim(buffers);
            let at = self.passed;
            self.passed += 1;
            if let Chunk::Part(piece) = &self.segments[at].chunk {
                piece.keep();
                self.undecided += 1;
            } else if self.undecided > 0 {
                self.undecided += 1;
            }
            if at > 0 {
                self.keep_behind(at, buffers);
            } else if self.segments[0].cursors > 0 {
                self.keep_first(buffers);
            }
        }
        self.trim(buffers);
    }

    /// Keeps the first segment from its first cursor on, in no more memory than that takes.
    fn keep_first(&mut self, buffers: &mut Buffers) {
        let segment = &mut self.segments[0];
        let needless = (segment.low - segment.base) as usize;
        let (frames, end) = (
            segment.chunk.frames_up_to(needless),
            segment.chunk.last_end(needless),
        );
        let Chunk::Own(framed) = &mut segment.chunk else {
            return;
        };
        if let Some(end) = end {
            self.begins_at = segment.base + end as u64;
        }
        segment.base = segment.low;
        segment.frames += frames as u64;
        let before = framed.weight();
        fit(framed, needless, buffers);
        self.own_bytes -= before - framed.weight();
    }

    /// Keeps a segment that follows other kept ones: whole, and merged with the previous one if
    /// both are small.
    fn keep_behind(&mut self, at: usize, buffers: &mut Buffers) {
        let Chunk::Own(framed) = &mut self.segments[at].chunk else {
            return;
        };
        let mut framed = std::mem::take(framed);
        let (cursors, low) = (self.segments[at].cursors, self.segments[at].low);
        let previous = &mut self.segments[at - 1];
        if let Chunk::Own(kept) = &mut previous.chunk
            && kept.bytes.len() + framed.bytes.len() <= COALESCE
        {
            reserve(&mut kept.bytes, framed.bytes.len());
            reserve(&mut kept.frames, framed.frames.len());
            kept.append(&framed, 0..framed.bytes.len());
            previous.cursors += cursors;
            previous.low = previous.low.min(low);
            self.segments.remove(at);
            self.passed -= 1;
            self.undecided = self.undecided.saturating_sub(1);
            self.own_bytes -= size_of::<Segment>() + size_of::<Framed>();
            buffers.put(framed);
        } else {
            fit(&mut framed, 0, buffers);
            self.segments[at].chunk = Chunk::Own(framed);
        }
    }

    /// There are kept segments that [`decide`](Log::decide) has not looked at.
    pub(crate) fn is_undecided(&self) -> bool {
        self.undecided > 0
    }

    /// Where logs keep little of shared bytes, this log copies its part of them. To be called when
    /// everything has been offered in all logs: only then is it known what each of them keeps.
    pub(crate) fn decide(&mut self, buffers: &mut Buffers) {
        debug_assert!(self.passed == self.segments.len());
        let from = self.passed - std::mem::take(&mut self.undecided);
        if !self.segments.range(from..).any(Segment::is_wasteful) {
            return;
        }
        // Segments are put back one by one, so that merging two of them moves nothing behind them.
        let undecided = self.segments.split_off(from);
        self.passed = from;
        for segment in undecided {
            let at = self.passed;
            self.segments.push_back(segment);
            self.passed += 1;
            self.copy_if_wasteful(at);
            if at > 0 {
                self.keep_behind(at, buffers);
            }
        }
    }

    fn copy_if_wasteful(&mut self, at: usize) {
        let segment = &mut self.segments[at];
        if let Chunk::Part(piece) = &segment.chunk
            && segment.is_wasteful()
        {
            piece.forget();
            let copied = Chunk::Own(Box::new(piece.copied()));
            self.own_bytes += copied.own_bytes() - segment.chunk.own_bytes();
            segment.chunk = copied;
        }
    }

    /// For tests: the parts of shared bytes, and whether each is kept for laggards.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Piece, bool)> {
        let segments = (0..).zip(&self.segments);
        segments.filter_map(|(at, segment)| match &segment.chunk {
            Chunk::Own(_) => None,
            Chunk::Part(piece) => Some((piece, at < self.passed)),
        })
    }

    /// Drops what no client needs any more. To be called after cursors have moved.
    pub(crate) fn trim(&mut self, buffers: &mut Buffers) {
        while self.passed > 0 && self.segments[0].cursors == 0 {
            let Some(segment) = self.segments.pop_front() else {
                return;
            };
            self.passed -= 1;
            self.undecided = self.undecided.min(self.passed);
            self.own_bytes -= segment.chunk.own_bytes();
            if let Some(end) = segment.chunk.last_end(segment.chunk.len()) {
                self.begins_at = segment.base + end as u64;
            }
            match segment.chunk {
                Chunk::Own(framed) => buffers.put(framed),
                Chunk::Part(piece) => piece.forget(),
            }
        }
    }

    // Cursors.

    /// Counts a cursor at `position`.
    pub(crate) fn enter(&mut self, position: u64) {
        if position == self.tail {
            self.at_tail += 1;
            return;
        }
        let at = self.find(position);
        let segment = &mut self.segments[at];
        segment.low = segment.low.min(position);
        segment.cursors += 1;
    }

    /// No longer counts a cursor at `position`.
    pub(crate) fn depart(&mut self, position: u64) {
        if position == self.tail {
            self.at_tail -= 1;
        } else {
            let at = self.find(position);
            self.segments[at].cursors -= 1;
        }
    }

    /// There are unsent bytes at `position`, up to the reach and to `limit`.
    pub(crate) fn has_unsent(&self, position: u64, limit: u64) -> bool {
        position < limit.min(self.reach())
    }

    /// The unsent bytes at `position`, up to the reach and to `limit`. Those of one segment are
    /// returned in place; if they are few, they are gathered in `scratch` with some that follow.
    pub(crate) fn unsent<'a>(
        &'a self,
        position: u64,
        limit: u64,
        scratch: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        if !self.has_unsent(position, limit) {
            return None;
        }
        let limit = limit.min(self.reach());
        let segment = &self.segments[self.find(position)];
        let end = segment.end().min(limit);
        if end == limit || end - position >= GATHER as u64 {
            let range = (position - segment.base) as usize..(end - segment.base) as usize;
            return Some(&segment.chunk.bytes()[range]);
        }
        scratch.clear();
        self.copy(position, limit.min(position + GATHER as u64), scratch);
        Some(scratch)
    }

    fn copy(&self, mut from: u64, to: u64, into: &mut Vec<u8>) {
        for segment in self.segments.range(self.find(from)..) {
            let end = segment.end().min(to);
            let range = (from - segment.base) as usize..(end - segment.base) as usize;
            into.extend_from_slice(&segment.chunk.bytes()[range]);
            from = end;
            if from == to {
                return;
            }
        }
    }

    /// The bytes of `from..to`, to be held outside the log. They are held by reference if they are
    /// a large part of the buffer they lie in. Else they are copied, and the copy is shared with
    /// other clients of this log that need the same.
    pub(crate) fn pieces(&mut self, mut from: u64, to: u64, tally: &Arc<AtomicU64>) -> Pieces {
        let mut pieces = Pieces::default();
        while from < to {
            let at = self.find(from);
            let end = self.segments[at].end().min(to);
            pieces.push(self.piece(at, from..end, tally));
            from = end;
        }
        pieces
    }

    fn piece(&mut self, at: usize, of: Range<u64>, tally: &Arc<AtomicU64>) -> Piece {
        let is_passed = at < self.passed;
        let segment = &mut self.segments[at];
        let range = (of.start - segment.base) as usize..(of.end - segment.base) as usize;
        let (whole, is_one_frame) = match &segment.chunk {
            Chunk::Own(framed) => (framed.bytes.len(), false),
            Chunk::Part(piece) => (piece.of.len(), piece.of.is_one_frame()),
        };
        // A copy begins where its frame begins. For a frame held on its own, each feed would copy
        // most of it: so such a frame is held by reference.
        if !is_one_frame && range.len() * 4 < whole {
            return self.excerpts.take(segment, range, tally);
        }
        if let Chunk::Own(_) = segment.chunk {
            self.own_bytes -= segment.chunk.own_bytes();
            let piece = segment.share(tally);
            if is_passed {
                piece.keep();
            }
            self.own_bytes += segment.chunk.own_bytes();
        }
        segment.share(tally).part(range)
    }

    fn find(&self, position: u64) -> usize {
        self.segments
            .partition_point(|segment| segment.base <= position)
            - 1
    }

    // Frames.

    /// The first boundary at or after `position`.
    pub(crate) fn boundary_from(&self, position: u64) -> u64 {
        if position <= self.begins_at {
            return self.begins_at;
        }
        let first = self
            .segments
            .partition_point(|segment| segment.base < position);
        for segment in self.segments.range(first.saturating_sub(1)..) {
            let at = position.saturating_sub(segment.base) as usize;
            if at <= segment.chunk.len()
                && let Some(end) = segment.chunk.first_end(at)
            {
                return segment.base + end as u64;
            }
        }
        self.tail
    }

    /// The last boundary up to the reach: laggards may be sent whole frames up to here.
    pub(crate) fn frontier(&self) -> u64 {
        let reached = self.segments.range(..self.passed + self.in_pass).rev();
        let mut ends = reached.filter_map(|segment| {
            let end = segment.chunk.last_end(segment.chunk.len())?;
            Some(segment.base + end as u64)
        });
        ends.next().unwrap_or(self.begins_at)
    }

    /// How many frames of the feed end at or before `position`.
    pub(crate) fn frame_count(&self, position: u64) -> u64 {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= position);
        let Some(at) = after.checked_sub(1) else {
            return self
                .segments
                .front()
                .map_or(self.frames, |segment| segment.frames);
        };
        let segment = &self.segments[at];
        let len = segment.chunk.len().min((position - segment.base) as usize);
        segment.frames + segment.chunk.frames_up_to(len) as u64
    }

    /// How many frames the feed has had in all.
    pub(crate) fn total_frames(&self) -> u64 {
        self.frames
    }

    /// The frames that end after `from` and up to `to`, newest first: the range and channel of
    /// each.
    pub(crate) fn frames_back(
        &self,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = (Range<u64>, u32)> {
        let mut ends = self.ends_back(to).peekable();
        std::iter::from_fn(move || {
            let (end, channel) = ends.next().filter(|(end, _)| *end > from)?;
            let begin = ends.peek().map_or(self.begins_at, |(end, _)| *end);
            Some((begin..end, channel))
        })
    }

    fn ends_back(&self, to: u64) -> impl Iterator<Item = (u64, u32)> {
        let segments = self.segments.partition_point(|segment| segment.base < to);
        self.segments
            .range(..segments)
            .rev()
            .flat_map(move |segment| {
                let len = segment.chunk.len().min((to - segment.base) as usize);
                let (frames, from) = segment.chunk.frames();
                let frames = frames[..segment.chunk.frames_up_to(len)].iter().rev();
                frames.map(move |it| (segment.base + u64::from(it.end - from), it.channel))
            })
    }
}

/// Reserves memory for `more` items. If the list has to grow, it grows by at least half, so that
/// repeated growth stays cheap.
fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 2));
    }
}
