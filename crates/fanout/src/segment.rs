//! One segment of a feed's byte stream, and spare buffers for the next ones.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::held::{Frame, Framed, Held, Piece};

/// Kept segments are merged up to this size. Parts of shared bytes are copied only up to this size.
pub(crate) const COALESCE: usize = 64 << 10;
/// Buffers beyond this total size are freed, not kept as spares.
const SPARE_BYTES: usize = 4 << 20;

pub(crate) enum Chunk {
    Own(Box<Framed>),
    Part(Piece),
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(framed) => &framed.bytes,
            Chunk::Part(piece) => piece.bytes(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Chunk::Own(framed) => framed.bytes.len(),
            Chunk::Part(piece) => piece.len(),
        }
    }

    /// The frames that end in it, and the number to subtract from their ends to count from its
    /// beginning.
    pub(crate) fn frames(&self) -> (&[Frame], u32) {
        match self {
            Chunk::Own(framed) => (&framed.frames, 0),
            Chunk::Part(piece) => piece.frames_there(),
        }
    }

    /// How many frames end in its first `len` bytes.
    pub(crate) fn frames_up_to(&self, len: usize) -> usize {
        let (frames, from) = self.frames();
        frames.partition_point(|frame| (frame.end - from) as usize <= len)
    }

    /// The last end of a frame in its first `len` bytes.
    pub(crate) fn last_end(&self, len: usize) -> Option<usize> {
        let (frames, from) = self.frames();
        let last = frames[..self.frames_up_to(len)].last();
        last.map(|frame| (frame.end - from) as usize)
    }

    /// The first end of a frame from `at` on.
    pub(crate) fn first_end(&self, at: usize) -> Option<usize> {
        let (frames, from) = self.frames();
        let before = frames.partition_point(|frame| ((frame.end - from) as usize) < at);
        let first = frames.get(before);
        first.map(|frame| (frame.end - from) as usize)
    }

    /// Its share of the log's own memory, in bytes. Bytes that others may hold are counted
    /// elsewhere.
    pub(crate) fn own_bytes(&self) -> usize {
        size_of::<Segment>()
            + match self {
                Chunk::Own(framed) => size_of::<Framed>() + framed.weight(),
                Chunk::Part(_) => 0,
            }
    }
}

pub(crate) struct Segment {
    pub(crate) base: u64,
    /// How many frames of the feed end at or before the base.
    pub(crate) frames: u64,
    pub(crate) chunk: Chunk,
    /// No cursor in this segment is before this position.
    pub(crate) low: u64,
    /// Cursors in `base..end`.
    pub(crate) cursors: u32,
    /// Nothing may be added: its pass has begun, or a cursor stands at its end.
    pub(crate) sealed: bool,
}

impl Segment {
    pub(crate) fn end(&self) -> u64 {
        self.base + self.chunk.len() as u64
    }

    /// It is a small part of shared bytes of which logs keep little.
    pub(crate) fn is_wasteful(&self) -> bool {
        match &self.chunk {
            Chunk::Own(_) => false,
            Chunk::Part(piece) => piece.len() <= COALESCE && piece.is_wasteful(),
        }
    }

    /// Makes its bytes shareable, so that others may hold them too.
    pub(crate) fn share(&mut self, tally: &Arc<AtomicU64>) -> &Piece {
        if let Chunk::Own(framed) = &mut self.chunk {
            let framed = std::mem::take(&mut **framed);
            let len = framed.bytes.len();
            self.chunk = Chunk::Part(Piece::new(&Held::new(framed, tally), 0..len));
        }
        match &self.chunk {
            Chunk::Part(piece) => piece,
            Chunk::Own(_) => unreachable!("it has just been shared"),
        }
    }
}

/// Empty buffers for the next run.
#[derive(Default)]
pub(crate) struct Buffers {
    // Boxed because segments hold them boxed.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Framed>>,
    spare_bytes: usize,
}

impl Buffers {
    pub(crate) fn take(&mut self) -> Box<Framed> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    pub(crate) fn put(&mut self, mut buffer: Box<Framed>) {
        let bytes = self.spare_bytes + buffer.capacity();
        if buffer.capacity() > 0 && bytes <= SPARE_BYTES {
            buffer.clear();
            self.spare.push(buffer);
            self.spare_bytes = bytes;
        }
    }
}

/// Drops the first `needless` bytes and copies the rest to a buffer of exact size. If nothing is
/// dropped, a buffer of exact size stays, and so does a large one that is mostly full.
pub(crate) fn fit(framed: &mut Framed, needless: usize, buffers: &mut Buffers) {
    let (len, capacity) = (framed.bytes.len(), framed.bytes.capacity());
    let large = len > COALESCE && len >= capacity / 4 * 3;
    let fits = large || framed.capacity() == framed.weight();
    if needless > 0 || !fits {
        let exact = framed.exact(needless..len);
        buffers.put(Box::new(std::mem::replace(framed, exact)));
    }
}
