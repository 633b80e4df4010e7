//! What was copied out of a log, to be had again by others who need the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use crate::held::{Held, Piece};
use crate::segment::{Chunk, Segment};

/// So little is copied for each who needs it: to know it takes as much.
const SMALL: usize = 256;

/// Copies of frames that some clients have begun, or keep though the log goes on without them. Each
/// frame is copied once, however many need it.
#[derive(Default)]
pub(crate) struct Excerpts {
    /// By the position where they end: where they begin, and the copy.
    known: BTreeMap<u64, (u64, Weak<Held>)>,
    /// With so many known it is looked which of them are there no more.
    sweep_at: usize,
}

impl Excerpts {
    /// A copy of `range` of a segment.
    pub(crate) fn take(
        &mut self,
        segment: &Segment,
        range: Range<usize>,
        tally: &Arc<AtomicU64>,
    ) -> Piece {
        if range.len() < SMALL {
            return copy(segment, range, tally);
        }
        let from = segment.base + range.start as u64;
        let end = segment.base + range.end as u64;
        if let Some((begin, held)) = self.known.get(&end)
            && *begin <= from
            && let Some(held) = held.upgrade()
        {
            return Piece::new(&held, (from - begin) as usize..held.len());
        }
        let begin = segment.chunk.last_end(range.start).unwrap_or(0);
        let copied = copy(segment, begin..range.end, tally);
        let entry = (segment.base + begin as u64, Arc::downgrade(&copied.of));
        self.known.insert(end, entry);
        self.sweep();
        copied.part(range.start - begin..range.end - begin)
    }

    pub(crate) fn clear(&mut self) {
        self.known = BTreeMap::new();
        self.sweep_at = 0;
    }

    fn sweep(&mut self) {
        if self.known.len() >= self.sweep_at.max(16) {
            self.known.retain(|_, (_, held)| held.strong_count() > 0);
            self.sweep_at = 2 * self.known.len();
        }
    }
}

fn copy(segment: &Segment, range: Range<usize>, tally: &Arc<AtomicU64>) -> Piece {
    let copied = match &segment.chunk {
        Chunk::Own(framed) => framed.exact(range),
        Chunk::Part(piece) => piece.part(range).copied(),
    };
    let len = copied.bytes.len();
    Piece::new(&Held::new(copied, tally), 0..len)
}
