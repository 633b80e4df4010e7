//! A link's unsent bytes, and how many the socket has taken.

/// An emptied buffer larger than this many bytes is freed.
const KEPT: usize = 64 << 10;

/// Bytes to be sent to the server.
#[derive(Default)]
pub struct WriteBuffer {
    bytes: Vec<u8>,
    written: usize,
    /// Whether the socket took less than it was offered the last time.
    is_blocked: bool,
}

impl WriteBuffer {
    /// The buffer to append commands to.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes to send.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The socket took `count` bytes. Returns whether it had been full, which proves that the peer
    /// has read.
    pub fn written(&mut self, count: usize) -> bool {
        self.written = self.bytes.len().min(self.written + count);
        let was_blocked = std::mem::replace(&mut self.is_blocked, true);
        if self.written == self.bytes.len() {
            self.is_blocked = false;
            self.written = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        } else if self.written > self.bytes.len() / 2 {
            // Moving the rest never costs more than what was sent.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        was_blocked && count > 0
    }

    /// Discards the unsent bytes.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Heap in use, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_offered_once_and_in_order() {
        let mut buffer = WriteBuffer::default();
        let mut sent = Vec::new();
        for (round, take) in [3, 0, 7, 1, 100, 2, 5, 100].into_iter().enumerate() {
            buffer
                .end()
                .extend_from_slice(format!("[{round}]").as_bytes());
            let taken = buffer.unsent().len().min(take);
            sent.extend_from_slice(&buffer.unsent()[..taken]);
            buffer.written(taken);
        }
        assert_eq!(sent, b"[0][1][2][3][4][5][6][7]");
        assert!(buffer.unsent().is_empty());
    }

    #[test]
    fn only_a_write_after_a_full_socket_tells_that_the_peer_reads() {
        let mut buffer = WriteBuffer::default();
        buffer.end().extend_from_slice(b"0123456789");
        assert!(!buffer.written(4));
        assert!(!buffer.written(0));
        assert!(buffer.written(2));
        assert!(buffer.written(4));
        buffer.end().extend_from_slice(b"0123456789");
        assert!(!buffer.written(10));
    }

    #[test]
    fn a_large_buffer_is_given_back_when_sent() {
        let mut buffer = WriteBuffer::default();
        buffer.end().resize(10 << 20, b'x');
        buffer.written(10 << 20);
        assert!(buffer.memory() <= KEPT);
    }
}
