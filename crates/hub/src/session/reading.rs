//! What a client sends: how much of it is read, and when it is not read.

use proto::websocket::connection::Event;
use proto::websocket::deflate::{Inflater, Takeover};
use proto::websocket::misbehaved::Misbehaved;

use super::kept::Kept;
use super::state::{Session, Width};
use crate::outside::sockets::Io;

/// Most input that the kernel may hold for a client that is not being read (`SO_RCVBUF`, which the
/// kernel doubles, because it counts whole buffers). This is one read: a client that is read again
/// has work ready at once.
const UNREAD: usize = 64 << 10;

/// Most that is read at a time from a client whose messages may be compressed, plus the missing
/// part of a message begun: one byte may inflate to a thousand.
const DEFLATED_READ: usize = 4 << 10;

impl Session {
    /// Whether the client is not read because there is no space for what it sends, in its outbox or
    /// at Redis.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Stops reading until there is space at Redis.
    pub fn pause(&mut self, io: &impl Io) {
        self.is_paused = true;
        self.narrow(io);
    }

    /// Redis has space: reads again, unless the client has to take its own frames first.
    pub fn resume(&mut self, tick: u32) {
        self.is_paused = self.must_take_first();
        self.pulse.note_alive(tick);
        self.forgive_message(tick);
    }

    /// Its own frames are sent. True if it was paused for them and is now read again.
    pub fn resume_after_outbox(&mut self, tick: u32) -> bool {
        let was_paused = std::mem::take(&mut self.is_paused);
        if was_paused {
            self.forgive_message(tick);
        }
        was_paused
    }

    /// Whether it has input that is not parsed yet.
    pub fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps input that could not be parsed yet.
    pub fn keep(&mut self, kept: Box<Kept>) {
        self.kept = Some(kept);
    }

    /// Takes the kept input out, to go on with it.
    pub fn take_kept(&mut self) -> Option<Box<Kept>> {
        self.kept.take()
    }

    /// Parses the next event in `buf[*at..]`, with `inflater` if permessage-deflate was agreed and
    /// messages are read.
    ///
    /// # Errors
    /// The client broke the protocol.
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

    /// Whether its messages are read and may be compressed.
    pub fn is_inflated(&self) -> bool {
        self.deflate_bits > 0 && self.location.takes_messages()
    }

    /// How much to read at once, at most `most`. Less if the input may be compressed.
    pub fn read_size(&self, most: usize) -> usize {
        if !self.is_inflated() {
            return most;
        }
        let missing = usize::try_from(self.connection.missing()).unwrap_or(most);
        missing.saturating_add(DEFLATED_READ).min(most)
    }

    /// The client is not read, though it may send: limits what the kernel holds of that to
    /// [`UNREAD`].
    pub(super) fn narrow(&mut self, io: &impl Io) {
        if self.width < Width::Narrow {
            self.width = Width::Narrow;
            io.bound_receive_buffer(UNREAD);
        }
    }

    /// The client sends more than one read takes: keeps the kernel's buffer from growing. This is a
    /// system call of its own, so clients that send less are spared it.
    pub fn freeze(&mut self, io: &impl Io) {
        if self.width < Width::Frozen {
            self.width = Width::Frozen;
            io.bound_receive_buffer(usize::MAX);
        }
    }

    /// The channel that its messages are published to.
    pub fn publish_channel(&self) -> Option<&[u8]> {
        self.notes.as_ref()?.publish.as_deref()
    }

    /// The least size of an echo that is compressed for it; `None` if echoes are not compressed.
    pub fn compresses_echoes_from(&self) -> Option<usize> {
        let is_compressed = self.location.echo && self.deflate_bits > 0;
        is_compressed.then(|| self.location.deflate_min_length())
    }
}
