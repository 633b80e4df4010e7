//! What a client is sent besides its feed.

use proto::websocket::frame::ControlFrame;

use super::state::{Phase, Session};
use crate::outside::sockets::{Io, Sent};

impl Session {
    /// The window agreed for permessage-deflate, in bits; 0 if not agreed.
    pub fn deflate_bits(&self) -> u8 {
        self.deflate_bits
    }

    /// Whether some of its own frames wait for its socket.
    pub fn has_own_frames(&self) -> bool {
        self.outbox.is_some()
    }

    /// Queues frames of its own. It is not read until it has taken them.
    pub fn queue(&mut self, frames: &[u8], io: &impl Io) {
        let outbox = self.outbox.get_or_insert_default();
        outbox.push(frames);
        if outbox.blocks_reading() {
            self.pause(io);
        }
    }

    /// Replaces the pong that waits in its outbox. False: it has no outbox.
    pub fn replace_pong(&mut self, pong: ControlFrame) -> bool {
        let Some(outbox) = &mut self.outbox else {
            return false;
        };
        outbox.set_pong(pong);
        true
    }

    /// Writes its own frames once; `scratch` serves to join separate pieces. `None`: there are
    /// none. Otherwise the outcome, and whether all were written.
    pub fn write_own(&mut self, io: &impl Io, scratch: &mut Vec<u8>) -> Option<(Sent, bool)> {
        let outbox = self.outbox.as_mut()?;
        let sent = io.send(outbox.unsent(scratch));
        let mut is_empty = false;
        if let Sent::Bytes(count) = sent {
            outbox.written(count);
            is_empty = outbox.is_empty();
            self.note_sent(count);
        }
        if is_empty {
            self.outbox = None;
        }
        Some((sent, is_empty))
    }

    /// Drops its own frames.
    pub fn drop_own(&mut self) {
        self.outbox = None;
    }

    /// Called before an open client is sent anything: limits what the kernel holds for it to
    /// `websocket_notsent`. This is a system call of its own, so clients that leave earlier are
    /// spared it.
    pub fn apply_notsent(&mut self, io: &impl Io) {
        if self.phase == Phase::Open && !self.is_notsent_applied {
            self.is_notsent_applied = true;
            io.set_notsent_lowat(self.location.notsent());
        }
    }

    /// Whether it has to take what is in its outbox before it is read again.
    pub(super) fn must_take_first(&self) -> bool {
        let outbox = self.outbox.as_ref();
        outbox.is_some_and(|outbox| outbox.blocks_reading())
    }

    /// Bytes that the client has yet to take: its own frames, and what the kernel holds for it.
    pub fn left(&self, io: &impl Io) -> u64 {
        let own = self.outbox.as_ref().map_or(0, |outbox| outbox.len());
        own as u64 + io.unacknowledged()
    }

    /// The socket took `count` bytes of its own frames.
    pub fn note_sent(&mut self, count: usize) {
        if let Some(notes) = &mut self.notes {
            notes.bytes_out += count as u64;
        }
    }
}
