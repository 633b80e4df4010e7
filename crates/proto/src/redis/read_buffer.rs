//! A link's receive buffer. It is small and reused from its beginning, so that it stays in the CPU
//! cache. It is large only while a large reply is arriving.

use std::ops::Range;

/// The size of one read, in bytes. A larger read more often empties the socket's queue. The kernel
/// then sends an ACK at once, on the reader's CPU time. The data also leaves the cache before it is
/// parsed.
const PIECE: usize = 16 << 10;
/// A grown buffer of up to this many bytes is kept until the link is idle.
const KEPT: usize = 256 << 10;

/// Received bytes not yet consumed by a reply.
pub struct ReadBuffer {
    bytes: Vec<u8>,
    held: Range<usize>,
    /// How many bytes must be held before parsing is tried again.
    need: usize,
}

impl ReadBuffer {
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            held: 0..0,
            need: 0,
        }
    }

    /// The space to receive into.
    pub fn room(&mut self) -> &mut [u8] {
        if self.held.is_empty() {
            self.held = 0..0;
            if self.bytes.len() > KEPT {
                self.bytes = Vec::new();
            }
        } else if self.held.start > 0 && self.bytes.len() - self.held.end < PIECE {
            // At most one piece is moved per piece received, or the first bytes of a large reply.
            self.bytes.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        let wanted = self.held.end + PIECE;
        if self.bytes.len() < wanted {
            // An announced length alone gets no memory: the buffer doubles as bytes arrive.
            let grown = self.need.min(self.held.end.saturating_mul(2)).max(wanted);
            self.bytes.reserve_exact(grown - self.bytes.len());
            self.bytes.resize(grown, 0);
        }
        let end = match self.need > wanted {
            true => self.bytes.len(),
            false => wanted,
        };
        &mut self.bytes[self.held.end..end]
    }

    /// `count` bytes were received into [`room`](Self::room).
    pub fn filled(&mut self, count: usize) {
        self.held.end = self.bytes.len().min(self.held.end + count);
    }

    /// The held bytes and their offset, if there are enough to try parsing.
    #[inline]
    pub fn held(&self) -> Option<(usize, &[u8])> {
        if self.held.len() < self.need.max(1) {
            return None;
        }
        Some((self.held.start, &self.bytes[self.held.clone()]))
    }

    /// An incomplete reply is held. Parse again when there are `need` bytes.
    pub fn await_more(&mut self, need: usize) {
        self.need = need;
    }

    /// Consumes the first `count` held bytes. They stay readable until the next
    /// [`room`](Self::room).
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.held.start += count;
        self.need = 0;
    }

    /// The bytes of the buffer at `place`.
    #[inline]
    pub fn slice(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// Discards the held bytes.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The link is idle: frees what exceeds one piece.
    pub fn shrink(&mut self) {
        if self.held.is_empty() && self.bytes.len() > PIECE {
            self.clear();
        }
    }

    /// Heap beyond the one piece that every link has, in bytes.
    pub fn oversize(&self) -> usize {
        self.bytes.capacity().saturating_sub(PIECE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffer: &mut ReadBuffer, count: usize) {
        let room = buffer.room();
        let count = count.min(room.len());
        room[..count].fill(b'x');
        buffer.filled(count);
    }

    #[test]
    fn an_emptied_buffer_is_used_again_from_its_beginning() {
        let mut buffer = ReadBuffer::new();
        for _ in 0..100 {
            receive(&mut buffer, 1_000);
            assert_eq!(buffer.held().unwrap().0, 0);
            buffer.consume(1_000);
        }
        assert_eq!(buffer.oversize(), 0);
        assert_eq!(buffer.room().len(), PIECE);
    }

    #[test]
    fn an_announced_length_gets_memory_only_as_its_bytes_come() {
        let mut buffer = ReadBuffer::new();
        receive(&mut buffer, 20);
        buffer.await_more(512 << 20);
        for _ in 0..50 {
            let held = buffer.held.len();
            receive(&mut buffer, 1_000);
            assert!(buffer.bytes.capacity() <= 2 * (held + PIECE), "{held}");
        }
        assert!(buffer.held().is_none());
    }

    #[test]
    fn a_large_reply_is_received_in_few_reads_and_its_room_given_back() {
        let mut buffer = ReadBuffer::new();
        receive(&mut buffer, 20);
        buffer.await_more(8 << 20);
        let mut reads = 0;
        while buffer.held().is_none() {
            receive(&mut buffer, usize::MAX);
            reads += 1;
        }
        assert!(reads < 20, "{reads}");
        assert!(buffer.oversize() > 7 << 20);
        let held = buffer.held().unwrap().1.len();
        buffer.consume(held);
        buffer.room();
        assert_eq!(buffer.oversize(), 0);
    }

    #[test]
    fn a_rest_is_moved_to_the_beginning_unchanged() {
        let mut buffer = ReadBuffer::new();
        receive(&mut buffer, PIECE);
        let last = buffer.bytes.len() - 3;
        buffer.bytes[last..].copy_from_slice(b"abc");
        buffer.consume(last);
        buffer.await_more(4);
        assert_eq!(buffer.room().len(), PIECE);
        buffer.filled(1);
        assert_eq!(&buffer.held().unwrap().1[..3], b"abc");
    }
}
