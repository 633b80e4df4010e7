//! Copies of frames taken out of a log, shared by all clients that need the same frame.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use crate::held::{Held, Piece};
use crate::segment::{Chunk, Segment};

/// Fewer bytes than this are copied for each client: an entry here would take as much memory.
const SMALL: usize = 256;

/// Copies of frames that clients have begun, or keep after the log has dropped them. Each frame is
/// copied once, however many clients need it.
#[derive(Default)]
pub(crate) struct Excerpts {
    /// By the position where a copy ends: where it begins, and the copy.
    known: BTreeMap<u64, (u64, Weak<Held>)>,
    /// At this many entries, those whose copy is no longer held are removed.
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
