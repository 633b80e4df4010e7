//! Messages for channels with several feeds, before the feeds take them.
//!
//! A message is framed once per variant, at the end of that variant's tape. Consecutive messages of
//! one channel form a stretch, and each feed notes a stretch once. Later the feed's log copies
//! short stretches and holds long ones by reference. So a burst for a thousand feeds is in memory
//! once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::held::{Frame, Framed, Held};
use crate::log::{LARGE, Log};
use crate::segment::Buffers;

/// A tape of this length is given to the logs.
const FULL: usize = 64 << 10;
/// A larger buffer is freed after use.
const MOST_KEPT: usize = 256 << 10;
/// Shorter stretches are copied: a reference takes about as much memory.
const COPIED: usize = 256;

/// Frames of one variant.
#[derive(Default)]
struct Tape {
    variant: u32,
    framed: Framed,
    /// The index of the newest stretch. Valid only while there are stretches.
    newest: usize,
    /// The tape as bytes that logs hold by reference, once one of them does.
    held: Option<Arc<Held>>,
}

/// Consecutive messages of one channel.
struct Stretch {
    channel: u32,
    tape: usize,
    range: Range<u32>,
}

/// What became of a message.
pub(crate) enum Noted {
    /// It was not framed.
    Not,
    /// It extends the newest stretch.
    OnEnd,
    /// It begins a new stretch.
    Anew,
    /// It is large: it is held on its own and no longer on the tape.
    Large(Vec<u8>),
}

/// All tapes.
#[derive(Default)]
pub(crate) struct Stage {
    tapes: Vec<Tape>,
    stretches: Vec<Stretch>,
}

impl Stage {
    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// The index of a variant's tape.
    pub(crate) fn tape(&mut self, variant: u32) -> usize {
        let known = self.tapes.iter().position(|tape| tape.variant == variant);
        known.unwrap_or_else(|| {
            self.tapes.push(Tape {
                variant,
                ..Tape::default()
            });
            self.tapes.len() - 1
        })
    }

    /// Its part of the memory account, in bytes.
    pub(crate) fn weight(&self) -> usize {
        match self.is_empty() {
            true => 0,
            false => self.tapes.iter().map(|tape| tape.framed.weight()).sum(),
        }
    }

    /// Lets `append` write one frame. If it returns `false`, everything it wrote is removed.
    pub(crate) fn note(
        &mut self,
        tape: usize,
        channel: u32,
        append: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> Noted {
        let framed = &mut self.tapes[tape].framed;
        let begin = framed.bytes.len();
        if !append(&mut framed.bytes) || framed.bytes.len() <= begin {
            framed.bytes.truncate(begin);
            return Noted::Not;
        }
        let end = framed.bytes.len();
        if end - begin >= LARGE {
            return Noted::Large(match begin {
                0 => std::mem::take(&mut framed.bytes),
                _ => framed.bytes.split_off(begin),
            });
        }
        let (begin, end) = (begin as u32, end as u32);
        framed.frames.push(Frame { end, channel });
        let newest = &mut self.tapes[tape].newest;
        if let Some(stretch) = self.stretches.get_mut(*newest)
            && (stretch.tape, stretch.channel) == (tape, channel)
            && stretch.range.end == begin
        {
            stretch.range.end = end;
            return Noted::OnEnd;
        }
        *newest = self.stretches.len();
        self.stretches.push(Stretch {
            channel,
            tape,
            range: begin..end,
        });
        Noted::Anew
    }

    /// The tape has its full length.
    pub(crate) fn is_full(&self, tape: usize) -> bool {
        self.tapes[tape].framed.bytes.len() >= FULL
    }

    /// Channel, variant, tape and range of each stretch, in order.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (u32, u32, usize, Range<u32>)> {
        self.stretches.iter().map(|it| {
            let variant = self.tapes[it.tape].variant;
            (it.channel, variant, it.tape, it.range.clone())
        })
    }

    /// Gives a log the part of this tape that is staged for it. Returns by how much the log's own
    /// bytes grew.
    pub(crate) fn give(
        &mut self,
        tape: usize,
        log: &mut Log,
        buffers: &mut Buffers,
        tally: &Arc<AtomicU64>,
    ) -> usize {
        let staged = std::mem::take(&mut log.staged);
        let range = staged.start as usize..staged.end as usize;
        let Tape { framed, held, .. } = &mut self.tapes[tape];
        if range.len() < COPIED {
            return log.append(framed, range, buffers);
        }
        let held =
            held.get_or_insert_with(|| Held::new(framed.exact(0..framed.bytes.len()), tally));
        log.append_held(held, range)
    }

    /// Empties the tapes, once all logs have been given their parts.
    pub(crate) fn clear(&mut self) {
        self.stretches.clear();
        for tape in &mut self.tapes {
            tape.held = None;
            tape.framed.clear();
            if tape.framed.capacity() > MOST_KEPT {
                tape.framed = Framed::default();
            }
        }
    }
}
