//! Bytes to be sent to clients: those of one feed, and those that several feeds hold.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in several places are gathered up to this size, to be offered in one write. It is more
/// than a TLS record, so that what OpenSSL must be offered again is in one piece.
pub const GATHER: usize = 64 << 10;

/// The end of a frame, counted from the start of the buffer that holds it, and its channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) end: u32,
    pub(crate) channel: u32,
}

/// Bytes, and each frame that ends in them.
#[derive(Default)]
pub(crate) struct Framed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<Frame>,
}

impl Framed {
    /// Its part of the memory account, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.frames.len() * size_of::<Frame>()
    }

    /// The frames that end after `range.start` and up to `range.end`.
    pub(crate) fn frames_in(&self, range: Range<usize>) -> &[Frame] {
        &self.frames[self.frames_up_to(range.start)..self.frames_up_to(range.end)]
    }

    fn frames_up_to(&self, at: usize) -> usize {
        self.frames
            .partition_point(|frame| frame.end as usize <= at)
    }

    /// Appends the bytes of `range` of another, and the frames that end there.
    pub(crate) fn append(&mut self, other: &Framed, range: Range<usize>) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[range.clone()]);
        let frames = other.frames_in(range.clone()).iter();
        self.frames.extend(frames.map(|frame| Frame {
            end: (frame.end as usize - range.start + before) as u32,
            channel: frame.channel,
        }));
    }

    /// A copy of `range`, without spare capacity.
    pub(crate) fn exact(&self, range: Range<usize>) -> Framed {
        let mut exact = Framed {
            bytes: Vec::with_capacity(range.len()),
            frames: Vec::with_capacity(self.frames_in(range.clone()).len()),
        };
        exact.append(self, range);
        exact
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.frames.capacity() * size_of::<Frame>()
    }
}

/// Bytes that several feeds and clients may hold. They are counted once, as long as anyone holds
/// them.
pub(crate) struct Held {
    framed: Framed,
    tally: Arc<AtomicU64>,
    /// See [`Held::kept`].
    kept: AtomicU64,
}

impl Held {
    pub(crate) fn new(mut framed: Framed, tally: &Arc<AtomicU64>) -> Arc<Held> {
        if framed.bytes.capacity() > framed.bytes.len() / 8 * 9 {
            framed.bytes.shrink_to_fit();
        }
        if framed.frames.capacity() > framed.frames.len() / 8 * 9 {
            framed.frames.shrink_to_fit();
        }
        let held = Held {
            framed,
            tally: tally.clone(),
            kept: AtomicU64::new(0),
        };
        tally.fetch_add(held.weight() as u64, Ordering::Relaxed);
        Arc::new(held)
    }

    /// Holds `bytes`, which are one frame.
    pub(crate) fn one(bytes: Vec<u8>, channel: u32, tally: &Arc<AtomicU64>) -> Arc<Held> {
        let end = bytes.len() as u32;
        let frames = vec![Frame { end, channel }];
        Held::new(Framed { bytes, frames }, tally)
    }

    pub(crate) fn weight(&self) -> usize {
        size_of::<Held>() + self.framed.weight()
    }

    pub(crate) fn len(&self) -> usize {
        self.framed.bytes.len()
    }

    /// How many of its bytes logs keep for laggards, counted once for each log.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// It holds one frame and nothing else.
    pub(crate) fn is_one_frame(&self) -> bool {
        self.framed.frames.len() == 1
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tally
            .fetch_sub(self.weight() as u64, Ordering::Relaxed);
    }
}

/// A part of shared bytes. Cloning it copies no bytes.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(crate) of: Arc<Held>,
    from: u32,
    to: u32,
}

impl Piece {
    pub(crate) fn new(of: &Arc<Held>, range: Range<usize>) -> Piece {
        debug_assert!(range.end <= of.len());
        Piece {
            of: of.clone(),
            from: range.start as u32,
            to: range.end as u32,
        }
    }

    /// A part of this part.
    pub(crate) fn part(&self, range: Range<usize>) -> Piece {
        let from = self.from as usize;
        Piece::new(&self.of, from + range.start..from + range.end)
    }

    pub(crate) fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.of.framed.bytes[self.range()]
    }

    fn range(&self) -> Range<usize> {
        self.from as usize..self.to as usize
    }

    /// The frames that end in it, and the number to subtract from their ends to count from the
    /// beginning of this part.
    pub(crate) fn frames_there(&self) -> (&[Frame], u32) {
        (self.of.framed.frames_in(self.range()), self.from)
    }

    /// A copy of its bytes and frames.
    pub(crate) fn copied(&self) -> Framed {
        self.of.framed.exact(self.range())
    }

    /// A log keeps it for laggards from now on.
    pub(crate) fn keep(&self) {
        self.of.kept.fetch_add(self.len() as u64, Ordering::Relaxed);
    }

    /// The log no longer keeps it.
    pub(crate) fn forget(&self) {
        self.of.kept.fetch_sub(self.len() as u64, Ordering::Relaxed);
    }

    /// Logs keep less than half of the whole: copies of their parts take less memory.
    pub(crate) fn is_wasteful(&self) -> bool {
        self.of.kept() * 2 < self.of.len() as u64
    }
}

/// Bytes to be sent in order, held by reference. The memory account
/// ([`Registry::log_bytes`](crate::Registry::log_bytes)) counts them once, as long as anyone holds
/// them.
#[derive(Clone, Default)]
pub struct Pieces {
    list: VecDeque<Piece>,
    len: usize,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Piece) {
        self.len += piece.len();
        if let Some(last) = self.list.back_mut()
            && Arc::ptr_eq(&last.of, &piece.of)
            && last.to == piece.from
        {
            last.to = piece.to;
        } else if piece.len() > 0 {
            self.list.push_back(piece);
        }
    }

    pub(crate) fn extend(&mut self, others: Pieces) {
        others.list.into_iter().for_each(|piece| self.push(piece));
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No bytes are left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of the list itself, in bytes.
    pub fn list_bytes(&self) -> usize {
        self.list.len() * size_of::<Piece>()
    }

    /// The bytes to send next, at most `limit`. Small pieces are gathered in `scratch`, with `then`
    /// after the last. Bytes that were offered before and not taken come first, up to [`GATHER`]
    /// bytes of them in one piece.
    pub fn unsent<'a>(&'a self, limit: usize, then: &[u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let limit = limit.min(self.len);
        if let Some(first) = self.list.front()
            && first.len().min(limit) >= GATHER.min(limit + then.len())
        {
            return &first.bytes()[..first.len().min(limit)];
        }
        scratch.clear();
        for piece in &self.list {
            let most = (limit.min(GATHER) - scratch.len()).min(piece.len());
            scratch.extend_from_slice(&piece.bytes()[..most]);
        }
        let room = GATHER.saturating_sub(scratch.len()).min(then.len());
        if scratch.len() == limit {
            scratch.extend_from_slice(&then[..room]);
        }
        scratch
    }

    /// The first `count` bytes were sent.
    pub fn sent(&mut self, mut count: usize) {
        debug_assert!(count <= self.len);
        self.len -= count;
        while let Some(first) = self.list.front_mut() {
            if count < first.len() {
                first.from += count as u32;
                return;
            }
            count -= first.len();
            self.list.pop_front();
        }
    }

    /// The first `count` bytes.
    pub(crate) fn first(&self, mut count: usize) -> Pieces {
        let mut first = Pieces::default();
        for piece in &self.list {
            let most = count.min(piece.len());
            first.push(piece.part(0..most));
            count -= most;
        }
        first
    }

    /// The end, counted from the beginning, and the channel of each frame that ends in it.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (usize, u32)> {
        let mut before = 0;
        self.list.iter().flat_map(move |piece| {
            let base = before;
            before += piece.len();
            let (frames, from) = piece.frames_there();
            let frames = frames.iter();
            frames.map(move |frame| (base + (frame.end - from) as usize, frame.channel))
        })
    }

    /// The first end of a frame at or after `at`.
    pub(crate) fn boundary_from(&self, at: usize) -> usize {
        let mut ends = self.frames().map(|(end, _)| end);
        ends.find(|end| *end >= at).unwrap_or(self.len)
    }

    /// The whole frames after `from`, which is a boundary: each with its channel.
    pub(crate) fn frames_after(&self, from: usize) -> Vec<(Pieces, u32)> {
        let (mut rest, mut at) = (self.clone(), from);
        rest.sent(from);
        let frames = self.frames().filter(|(end, _)| *end > from);
        let cut = frames.map(|(end, channel)| {
            let frame = rest.first(end - at);
            rest.sent(end - at);
            at = end;
            (frame, channel)
        });
        cut.collect()
    }

    /// For tests: the parts that it consists of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Piece> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(sizes: &[usize], tally: &Arc<AtomicU64>) -> Arc<Held> {
        let mut framed = Framed::default();
        for (at, size) in sizes.iter().enumerate() {
            framed.bytes.resize(framed.bytes.len() + size, at as u8);
            framed.frames.push(Frame {
                end: framed.bytes.len() as u32,
                channel: at as u32,
            });
        }
        Held::new(framed, tally)
    }

    #[test]
    fn what_is_held_is_counted_once_until_the_last_lets_go() {
        let tally = Arc::default();
        let held = held(&[100, 200], &tally);
        let weight = held.weight() as u64;
        let mut pieces = Pieces::default();
        pieces.push(Piece::new(&held, 50..100));
        pieces.push(Piece::new(&held, 100..300));
        assert_eq!((pieces.list.len(), pieces.len()), (1, 250));
        let others = pieces.clone();
        drop(held);
        drop(pieces);
        assert_eq!(tally.load(Ordering::Relaxed), weight);
        drop(others);
        assert_eq!(tally.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_lies_apart_is_offered_together_and_again() {
        let tally = Arc::default();
        let (small, large) = (held(&[3, 4], &tally), held(&[GATHER * 2], &tally));
        let mut pieces = Pieces::default();
        pieces.push(Piece::new(&small, 1..7));
        pieces.push(Piece::new(&large, 0..GATHER * 2));
        let scratch = &mut Vec::new();
        assert_eq!(pieces.unsent(4, b"", scratch), [0, 0, 1, 1]);
        let offered = pieces.unsent(usize::MAX, b"end", scratch).to_vec();
        assert_eq!(offered.len(), GATHER);
        pieces.sent(2);
        assert!(pieces.unsent(usize::MAX, b"", scratch)[..GATHER - 2] == offered[2..]);
        pieces.sent(4);
        assert_eq!(pieces.unsent(usize::MAX, b"", scratch).len(), GATHER * 2);
        pieces.sent(GATHER * 2 - 1);
        assert_eq!(pieces.unsent(usize::MAX, b"end", scratch), b"\0end");
    }

    #[test]
    fn frames_are_known_in_every_part() {
        let tally = Arc::default();
        let held = held(&[3, 4, 5], &tally);
        let mut pieces = Pieces::default();
        pieces.push(Piece::new(&held, 1..7));
        pieces.push(Piece::new(&held, 0..12));
        let ends: Vec<_> = pieces.frames().collect();
        assert_eq!(ends, [(2, 0), (6, 1), (9, 0), (13, 1), (18, 2)]);
        assert_eq!((pieces.boundary_from(2), pieces.boundary_from(7)), (2, 9));
        let frames = pieces.frames_after(6);
        let frames: Vec<_> = frames.iter().map(|(it, ch)| (it.len(), *ch)).collect();
        assert_eq!(frames, [(3, 0), (4, 1), (5, 2)]);
    }
}
