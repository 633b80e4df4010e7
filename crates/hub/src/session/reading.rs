//! What a client sends: how much of it is read, and when it is not.

use proto::websocket::connection::Event;
use proto::websocket::deflate::{Inflater, Takeover};
use proto::websocket::misbehaved::Misbehaved;

use super::kept::Kept;
use super::state::{Session, Width};
use crate::outside::sockets::Io;

/// What the kernel may hold of a client's input while the client is not read (`SO_RCVBUF`, which the
/// kernel takes twice, as it counts whole buffers). One read: who is read again finds work at once.
const UNREAD: usize = 64 << 10;

/// Most that is read at a time from a client whose messages may be compressed, beside what is missing
/// of a message begun: a byte may become a thousand.
const DEFLATED_READ: usize = 4 << 10;

impl Session {
    /// It is not read: there is no room for what it sends, in its outbox or at Redis.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// It is not read until there is room at Redis.
    pub fn pause(&mut self, io: &impl Io) {
        self.is_paused = true;
        self.narrow(io);
    }

    /// Redis has room: it is read again, unless it has to take its own frames first.
    pub fn resume(&mut self, tick: u32) {
        self.is_paused = self.must_take_first();
        self.pulse.note_alive(tick);
        self.forgive_message(tick);
    }

    /// Its own frames are out. True if it was paused for them, and is read again.
    pub fn resume_after_outbox(&mut self, tick: u32) -> bool {
        let was_paused = std::mem::take(&mut self.is_paused);
        if was_paused {
            self.forgive_message(tick);
        }
        was_paused
    }

    /// Input is kept that is not taken apart yet.
    pub fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps input that could not be taken apart yet.
    pub fn keep(&mut self, kept: Box<Kept>) {
        self.kept = Some(kept);
    }

    /// Input to go on with.
    pub fn take_kept(&mut self) -> Option<Box<Kept>> {
        self.kept.take()
    }

    /// What its parser finds next in `buf[*at..]`, by `inflater` where permessage-deflate was agreed
    /// and messages are read.
    ///
    /// # Errors
    /// It broke the protocol.
    #[inline]
    pub(super) fn receive(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        inflater: Option<&mut Inflater>,
    ) -> Result<Option<Event>, Misbehaved> {
        let limits = self.location.limits();
        match inflater {
            Some(inflater) => {
                let takeover = Takeover {
                    window_bits: self.context_bits,
                    history: &mut self.history,
                };
                let connection = &mut self.connection;
                connection.receive_deflated(buf, at, &limits, inflater, takeover)
            }
            None if self.deflate_bits > 0 => self.connection.receive_unread(buf, at, &limits),
            None => self.connection.receive(buf, at, &limits),
        }
    }

    /// Its messages may be compressed, and are read.
    pub fn is_inflated(&self) -> bool {
        self.deflate_bits > 0 && self.location.takes_messages()
    }

    /// How much to read at once, at most `most`: of what may become much more, little.
    pub fn read_size(&self, most: usize) -> usize {
        if !self.is_inflated() {
            return most;
        }
        let missing = usize::try_from(self.connection.missing()).unwrap_or(most);
        missing.saturating_add(DEFLATED_READ).min(most)
    }

    /// It is not read though it may send: the kernel holds no more of that than [`UNREAD`].
    pub(super) fn narrow(&mut self, io: &impl Io) {
        if self.width < Width::Narrow {
            self.width = Width::Narrow;
            io.bound_receive_buffer(UNREAD);
        }
    }

    /// It sends more than is read at once: what the kernel holds of that grows no more. An own system
    /// call, so a client that sends less does without.
    pub fn freeze(&mut self, io: &impl Io) {
        if self.width < Width::Frozen {
            self.width = Width::Frozen;
            io.bound_receive_buffer(usize::MAX);
        }
    }

    /// Where its messages are published.
    pub fn publish_channel(&self) -> Option<&[u8]> {
        self.notes.as_ref()?.publish.as_deref()
    }

    /// Echoes of so many bytes and more are compressed for it, if any are.
    pub fn compresses_echoes_from(&self) -> Option<usize> {
        let is_compressed = self.location.echo && self.deflate_bits > 0;
        is_compressed.then(|| self.location.deflate_min_length())
    }
}
