//! One feed's byte stream, as far as somebody still has to be sent it.
//!
//! ```text
//!   kept for laggards      pass          pending
//! |  segment | segment | segment | segment | segment |
//!                      ^ floor   ^ reach             ^ tail
//! ```
//!
//! A pass offers one segment to every client that keeps up. Before it begins, and after it ends,
//! all of them stand at the floor; in between, each at the floor or at the reach. A segment counts
//! the cursors in it: a passed one is dropped when there are none in it or before it. So nothing
//! is kept while nobody lags, and no operation walks all laggards.
//!
//! Positions are byte offsets since the feed began. A *boundary* is a position between frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::registry::{ToFrame, Variant};

/// The most that one client is offered by one write.
pub(crate) const MAX_WRITE: usize = 1 << 20;
/// Frames from this size on are held by reference, in segments of their own.
pub(crate) const LARGE: usize = 64 << 10;
/// A buffer of this size takes no more frames.
const FULL: usize = MAX_WRITE - LARGE;
/// Kept segments are put together up to this size.
const COALESCE: usize = 64 << 10;
/// Spare buffers are freed rather than kept beyond this sum of their sizes.
const SPARE_BYTES: usize = 4 << 20;

/// Empty buffers for the next run.
#[derive(Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = self.spare_bytes + buffer.capacity();
        if buffer.capacity() > 0 && bytes <= SPARE_BYTES {
            buffer.clear();
            self.spare.push(buffer);
            self.spare_bytes = bytes;
        }
    }
}

/// A large frame that several feeds, and several segments of one, may hold. Its bytes are counted
/// once, while anybody holds it.
pub(crate) struct Large {
    bytes: Vec<u8>,
    tally: Arc<AtomicU64>,
}

impl Large {
    pub(crate) fn new(bytes: Vec<u8>, tally: &Arc<AtomicU64>) -> Arc<Large> {
        tally.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Arc::new(Large {
            bytes,
            tally: tally.clone(),
        })
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.tally
            .fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

enum Chunk {
    Own(Vec<u8>),
    Part {
        of: Arc<Large>,
        from: usize,
        to: usize,
    },
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Part { of, from, to } => &of.bytes[*from..*to],
        }
    }
}

struct Segment {
    base: u64,
    chunk: Chunk,
    /// Cursors in `base..end`.
    cursors: u32,
    /// No cursor in this segment is before this position.
    low: u64,
    /// Nothing may be added: its pass has begun, or a cursor stands at its end.
    sealed: bool,
}

impl Segment {
    fn end(&self) -> u64 {
        self.base + self.chunk.bytes().len() as u64
    }
}

/// Where a frame ends, and whose it is.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) end: u64,
    pub(crate) channel: u32,
}

#[derive(Default)]
pub(crate) struct Log {
    segments: VecDeque<Segment>,
    /// Segments whose pass is over; they are here for laggards only.
    passed: usize,
    /// The pass over `segments[passed]` has begun.
    begun: bool,
    tail: u64,
    /// Cursors at the tail: those of the next segment's base.
    at_tail: u32,
    /// Every frame that ends after `frames_from`, which is a boundary.
    frames: VecDeque<Frame>,
    frames_from: u64,
    /// Frames of this feed that ended up to `frames_from`.
    frames_before: u64,
    own_bytes: usize,
}

/// Frames on their way to a log's end. The buffer they go to is out of the log as long, so that a
/// frame looks nothing up; [`Run::end`] brings it back.
pub(crate) struct Run<'a> {
    log: &'a mut Log,
    buffers: &'a mut Buffers,
    large_bytes: &'a Arc<AtomicU64>,
    channel: u32,
    open: Vec<u8>,
    /// What of it the log has already; 0 where it is to be a new segment.
    kept: usize,
    /// The position of its first byte.
    base: u64,
    /// The log's own bytes when the run began.
    before: usize,
}

impl Run<'_> {
    /// Lets `message` append one frame. Its `false` takes everything it wrote away again.
    #[inline(always)]
    pub(crate) fn note(&mut self, variant: Variant, message: &mut impl ToFrame) -> bool {
        let before = self.open.len();
        if !message.append(variant, &mut self.open) || self.open.len() <= before {
            self.open.truncate(before);
            return false;
        }
        let len = self.open.len();
        if len - before >= LARGE {
            self.note_large(before);
            return true;
        }
        self.log.frames.push_back(Frame {
            end: self.base + len as u64,
            channel: self.channel,
        });
        if len >= FULL {
            self.close();
            self.open();
        }
        true
    }

    /// The frame that begins there goes to segments of its own.
    #[inline(never)]
    fn note_large(&mut self, begin: usize) {
        let large = match begin {
            0 => std::mem::take(&mut self.open),
            _ => self.open.split_off(begin),
        };
        self.close();
        let large = Large::new(large, self.large_bytes);
        self.log.append_large(self.channel, &large);
        self.open();
    }

    fn open(&mut self) {
        self.open = match self.log.open_buffer() {
            Some(open) => std::mem::take(open),
            None => self.buffers.take(),
        };
        self.kept = self.open.len();
        self.base = self.log.tail - self.kept as u64;
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        let grown = open.len() - self.kept;
        if self.kept > 0 {
            if let Some(last) = self.log.segments.back_mut() {
                last.chunk = Chunk::Own(open);
            }
            self.log.own_bytes += grown;
            self.log.tail += grown as u64;
        } else if grown > 0 {
            self.log.push_own(open);
        } else {
            self.buffers.put(open);
        }
    }

    /// Returns by how much [`own_bytes`](Log::own_bytes) grew: by something if a frame was noted.
    #[inline]
    pub(crate) fn end(mut self) -> usize {
        self.close();
        self.log.own_bytes() - self.before
    }
}

impl Log {
    /// Begins at a boundary with nothing in it; `frames` ended before.
    pub(crate) fn restart(&mut self, tail: u64, frames: u64) {
        debug_assert!(self.segments.is_empty() && self.at_tail == 0 && !self.begun);
        self.frames.clear();
        (self.tail, self.frames_from, self.frames_before) = (tail, tail, frames);
    }

    /// Where those who keep up stand, unless the pass has reached them.
    pub(crate) fn floor(&self) -> u64 {
        self.segments
            .get(self.passed)
            .map_or(self.tail, |segment| segment.base)
    }

    /// Where those who keep up stand once the pass has reached them.
    pub(crate) fn reach(&self) -> u64 {
        if self.begun {
            self.segments[self.passed].end()
        } else {
            self.floor()
        }
    }

    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// What it weighs when it is empty: room for segments and frames to come.
    pub(crate) fn spare_bytes(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>()
            + self.frames.capacity() * size_of::<Frame>()
    }

    /// Bytes held here, without those that are held by reference.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes + self.frames.len() * size_of::<Frame>()
    }

    // Growing.

    /// Begins to append frames of `channel`.
    #[inline]
    pub(crate) fn run<'a>(
        &'a mut self,
        channel: u32,
        buffers: &'a mut Buffers,
        large_bytes: &'a Arc<AtomicU64>,
    ) -> Run<'a> {
        let mut run = Run {
            before: self.own_bytes(),
            log: self,
            buffers,
            large_bytes,
            channel,
            open: Vec::new(),
            kept: 0,
            base: 0,
        };
        run.open();
        run
    }

    /// Appends one small frame. Returns by how much [`own_bytes`](Log::own_bytes) grew.
    pub(crate) fn append(&mut self, channel: u32, bytes: &[u8], buffers: &mut Buffers) -> usize {
        if let Some(buffer) = self.open_buffer() {
            buffer.extend_from_slice(bytes);
            self.own_bytes += bytes.len();
            self.tail += bytes.len() as u64;
        } else {
            let mut buffer = buffers.take();
            buffer.extend_from_slice(bytes);
            self.push_own(buffer);
        }
        self.note_frame(channel);
        bytes.len() + size_of::<Frame>()
    }

    /// Appends one frame by reference, in segments of at most [`MAX_WRITE`]. Returns by how much
    /// [`own_bytes`](Log::own_bytes) grew.
    pub(crate) fn append_large(&mut self, channel: u32, large: &Arc<Large>) -> usize {
        let mut from = 0;
        while from < large.bytes.len() {
            let to = large.bytes.len().min(from + MAX_WRITE);
            self.push(
                Chunk::Part {
                    of: large.clone(),
                    from,
                    to,
                },
                true,
            );
            from = to;
        }
        self.note_frame(channel);
        size_of::<Frame>()
    }

    /// What comes from now on goes to another segment, so that a pass ends at the tail as it is.
    pub(crate) fn seal(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.sealed = true;
        }
    }

    #[inline]
    fn open_buffer(&mut self) -> Option<&mut Vec<u8>> {
        if self.segments.len() <= self.passed {
            return None;
        }
        match self.segments.back_mut()? {
            Segment {
                sealed: false,
                chunk: Chunk::Own(buffer),
                ..
            } if buffer.len() < FULL => Some(buffer),
            _ => None,
        }
    }

    fn push_own(&mut self, buffer: Vec<u8>) {
        self.own_bytes += buffer.len();
        self.push(Chunk::Own(buffer), false);
    }

    fn push(&mut self, chunk: Chunk, sealed: bool) {
        let base = self.tail;
        self.tail += chunk.bytes().len() as u64;
        let cursors = std::mem::take(&mut self.at_tail);
        let low = if cursors > 0 { base } else { u64::MAX };
        self.segments.push_back(Segment {
            base,
            chunk,
            cursors,
            low,
            sealed,
        });
    }

    #[inline]
    fn note_frame(&mut self, channel: u32) {
        self.frames.push_back(Frame {
            end: self.tail,
            channel,
        });
    }

    // Passes.

    /// Begins the next pass, unless one is under way. Returns whether there is one.
    pub(crate) fn begin_pass(&mut self) -> bool {
        if let Some(segment) = self.segments.get_mut(self.passed) {
            segment.sealed = true;
            self.begun = true;
        }
        self.begun
    }

    pub(crate) fn in_pass(&self) -> bool {
        self.begun
    }

    /// What the pass offers.
    pub(crate) fn pass_bytes(&self) -> &[u8] {
        debug_assert!(self.begun);
        self.segments[self.passed].chunk.bytes()
    }

    /// All who keep up have had their offer: keeps what a laggard needs, drops the rest.
    pub(crate) fn end_pass(&mut self, buffers: &mut Buffers) {
        debug_assert!(self.begun);
        self.begun = false;
        self.trim(buffers);
        let at = self.passed;
        self.passed += 1;
        if at > 0 {
            self.keep_behind(at, buffers);
        } else if self.segments[0].cursors > 0 {
            self.keep_first(buffers);
        }
        self.trim(buffers);
    }

    /// The first segment to be kept: from its first cursor on, in as much memory as that takes.
    fn keep_first(&mut self, buffers: &mut Buffers) {
        let segment = &mut self.segments[0];
        let Chunk::Own(bytes) = &mut segment.chunk else {
            return;
        };
        let needless = (segment.low - segment.base) as usize;
        segment.base = segment.low;
        self.own_bytes -= needless;
        fit(bytes, needless, buffers);
    }

    /// A segment behind others that are kept: whole, and in one with the last if both are small.
    fn keep_behind(&mut self, at: usize, buffers: &mut Buffers) {
        let Segment {
            chunk: Chunk::Own(bytes),
            cursors,
            low,
            ..
        } = &mut self.segments[at]
        else {
            return;
        };
        let (cursors, low, mut bytes) = (*cursors, *low, std::mem::take(bytes));
        let previous = &mut self.segments[at - 1];
        if let Chunk::Own(kept) = &mut previous.chunk
            && kept.len() + bytes.len() <= COALESCE
        {
            if kept.capacity() - kept.len() < bytes.len() {
                kept.reserve_exact(bytes.len().max(kept.len() / 2));
            }
            kept.extend_from_slice(&bytes);
            previous.cursors += cursors;
            previous.low = previous.low.min(low);
            self.segments.remove(at);
            self.passed -= 1;
            buffers.put(bytes);
        } else {
            fit(&mut bytes, 0, buffers);
            self.segments[at].chunk = Chunk::Own(bytes);
        }
    }

    /// Drops what nobody needs any more. To be called after cursors have moved on.
    pub(crate) fn trim(&mut self, buffers: &mut Buffers) {
        while self.passed > 0 && self.segments[0].cursors == 0 {
            if let Some(Segment {
                chunk: Chunk::Own(bytes),
                ..
            }) = self.segments.pop_front()
            {
                self.own_bytes -= bytes.len();
                buffers.put(bytes);
            }
            self.passed -= 1;
        }
        let Some(first) = self.segments.front() else {
            self.frames_before += self.frames.len() as u64;
            self.frames_from = self.tail;
            self.frames.clear();
            return;
        };
        let needed = first.base;
        while let Some(frame) = self.frames.front().filter(|frame| frame.end <= needed) {
            self.frames_from = frame.end;
            self.frames_before += 1;
            self.frames.pop_front();
        }
    }

    // Cursors.

    /// A cursor is at `position` now.
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

    /// A cursor is at `position` no more.
    pub(crate) fn depart(&mut self, position: u64) {
        if position == self.tail {
            self.at_tail -= 1;
        } else {
            let at = self.find(position);
            self.segments[at].cursors -= 1;
        }
    }

    /// The unsent bytes at `position` that lie together, up to the reach and to `limit`.
    pub(crate) fn unsent(&self, position: u64, limit: u64) -> Option<&[u8]> {
        let limit = limit.min(self.reach());
        if position >= limit {
            return None;
        }
        let segment = &self.segments[self.find(position)];
        let to = (segment.end().min(limit) - segment.base) as usize;
        Some(&segment.chunk.bytes()[(position - segment.base) as usize..to])
    }

    /// Appends the bytes of `from..to` to `into`.
    pub(crate) fn copy(&self, mut from: u64, to: u64, into: &mut Vec<u8>) {
        while from < to {
            let segment = &self.segments[self.find(from)];
            let end = segment.end().min(to);
            let bytes = segment.chunk.bytes();
            into.extend_from_slice(
                &bytes[(from - segment.base) as usize..(end - segment.base) as usize],
            );
            from = end;
        }
    }

    fn find(&self, position: u64) -> usize {
        self.segments
            .partition_point(|segment| segment.base <= position)
            - 1
    }

    // Frames.

    /// The first boundary that is not before `position`.
    pub(crate) fn boundary_from(&self, position: u64) -> u64 {
        if position <= self.frames_from {
            return self.frames_from;
        }
        let at = self.frames.partition_point(|frame| frame.end < position);
        self.frames.get(at).map_or(self.tail, |frame| frame.end)
    }

    /// The last boundary up to the reach: laggards may be sent whole frames up to here.
    pub(crate) fn frontier(&self) -> u64 {
        match self.frames_up_to(self.reach()) {
            0 => self.frames_from,
            frames => self.frames[frames - 1].end,
        }
    }

    /// Frames of the feed that ended up to `position`.
    pub(crate) fn frame_count(&self, position: u64) -> u64 {
        self.frames_before + self.frames_up_to(position) as u64
    }

    /// Frames of the feed in all.
    pub(crate) fn total_frames(&self) -> u64 {
        self.frames_before + self.frames.len() as u64
    }

    /// The frames that end after `from` and up to `to`, newest first, with where they begin.
    pub(crate) fn frames_back(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Frame)> {
        let frames = self.frames_up_to(from)..self.frames_up_to(to);
        frames.rev().map(|at| {
            let begin = if at == 0 {
                self.frames_from
            } else {
                self.frames[at - 1].end
            };
            (begin, self.frames[at])
        })
    }

    fn frames_up_to(&self, position: u64) -> usize {
        self.frames.partition_point(|frame| frame.end <= position)
    }
}

/// Takes the first `needless` bytes off, and copies the rest to a buffer of its size: unless that
/// is most of a large one, which then stays where it is.
fn fit(bytes: &mut Vec<u8>, needless: usize, buffers: &mut Buffers) {
    let large = bytes.len() > COALESCE && bytes.len() >= bytes.capacity() / 4 * 3;
    if needless > 0 || !large {
        let exact = bytes[needless..].to_vec();
        buffers.put(std::mem::replace(bytes, exact));
    }
}
