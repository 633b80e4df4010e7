//! Appending frames to a log.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::held::{Frame, Framed, Held};
use crate::log::{FULL, LARGE, Log};
use crate::segment::{Buffers, Chunk};
use crate::types::{FormatId, ToFrame};

/// A run of frames appended to a log. It takes the log's open buffer out, so that appending a frame
/// needs no lookup; [`Run::end`] puts it back.
pub(crate) struct Run<'a> {
    log: &'a mut Log,
    buffers: &'a mut Buffers,
    tally: &'a Arc<AtomicU64>,
    channel: u32,
    open: Vec<u8>,
    frames: Vec<Frame>,
    /// How many bytes of `open` the log has counted already; 0 if it becomes a new segment.
    kept: usize,
    kept_frames: usize,
    /// The box for `open` and `frames` if they become a new segment.
    shell: Option<Box<Framed>>,
    /// The log's own bytes when the run began.
    before: usize,
}

impl<'a> Run<'a> {
    /// Begins to append frames of `channel`.
    #[inline]
    pub(crate) fn begin(
        log: &'a mut Log,
        channel: u32,
        buffers: &'a mut Buffers,
        tally: &'a Arc<AtomicU64>,
    ) -> Run<'a> {
        let mut run = Run {
            before: log.own_bytes(),
            log,
            buffers,
            tally,
            channel,
            open: Vec::new(),
            frames: Vec::new(),
            kept: 0,
            kept_frames: 0,
            shell: None,
        };
        run.open();
        run
    }

    /// Lets `message` append one frame. If it returns `false`, everything it wrote is removed.
    #[inline(always)]
    pub(crate) fn note(&mut self, variant: FormatId, message: &mut impl ToFrame) -> bool {
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
        self.frames.push(Frame {
            end: len as u32,
            channel: self.channel,
        });
        if len >= FULL {
            self.close();
            self.open();
        }
        true
    }

    /// Moves the frame at `begin` to segments of its own.
    #[inline(never)]
    fn note_large(&mut self, begin: usize) {
        let large = match begin {
            0 => std::mem::take(&mut self.open),
            _ => self.open.split_off(begin),
        };
        // The buffer still has the capacity that the frame took, and no account counts it.
        self.open.shrink_to(LARGE);
        self.close();
        let large = Held::one(large, self.channel, self.tally);
        self.log.append_held(&large, 0..large.len());
        self.open();
    }

    fn open(&mut self) {
        let framed = match self.log.open() {
            Some(open) => &mut **open,
            None => &mut **self.shell.insert(self.buffers.take()),
        };
        self.open = std::mem::take(&mut framed.bytes);
        self.frames = std::mem::take(&mut framed.frames);
        (self.kept, self.kept_frames) = (self.open.len(), self.frames.len());
    }

    fn close(&mut self) {
        let framed = Framed {
            bytes: std::mem::take(&mut self.open),
            frames: std::mem::take(&mut self.frames),
        };
        let bytes = framed.bytes.len() - self.kept;
        let frames = framed.frames.len() - self.kept_frames;
        if let Some(mut shell) = self.shell.take() {
            *shell = framed;
            if bytes > 0 {
                self.log.push_own(shell);
            } else {
                self.buffers.put(shell);
            }
        } else if let Some(last) = self.log.segments.back_mut()
            && let Chunk::Own(open) = &mut last.chunk
        {
            **open = framed;
            let weight = bytes + frames * size_of::<Frame>();
            self.log.grown(weight, bytes, frames);
        }
    }

    /// Puts the buffer back. Returns by how much [`own_bytes`](Log::own_bytes) grew, which is more
    /// than 0 if a frame was noted.
    #[inline]
    pub(crate) fn end(mut self) -> usize {
        self.close();
        self.log.own_bytes() - self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_leaves_no_room_that_is_not_counted() {
        let (mut log, mut buffers, tally) = (Log::default(), Buffers::default(), Arc::default());
        let mut run = Run::begin(&mut log, 0, &mut buffers, &tally);
        for size in [10, 1 << 20, 10, 1 << 20] {
            let mut message = |_, out: &mut Vec<u8>| {
                out.extend(std::iter::repeat_n(0, size));
                true
            };
            assert!(run.note(FormatId(0), &mut message));
        }
        run.end();
        let room = log.segments.iter().map(|segment| match &segment.chunk {
            Chunk::Own(framed) => framed.capacity(),
            Chunk::Part(_) => 0,
        });
        assert!(room.sum::<usize>() <= 2 * (LARGE + 100));
        assert_eq!(log.segments.len(), 4);
    }
}
