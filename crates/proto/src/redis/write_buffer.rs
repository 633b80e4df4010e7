//! What a link has to send, and how far the socket has taken it.

/// An emptied buffer beyond this many bytes is given back.
const KEPT: usize = 64 << 10;

/// Bytes on their way to the server.
#[derive(Default)]
pub struct WriteBuffer {
    bytes: Vec<u8>,
    written: usize,
    /// The socket took less than it was offered the last time.
    is_blocked: bool,
}

impl WriteBuffer {
    /// Where commands are appended.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What is to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// The socket took `count` bytes. Tells whether it had been full, and so the peer has read.
    pub fn written(&mut self, count: usize) -> bool {
        self.written = self.bytes.len().min(self.written + count);
        let was_blocked = std::mem::replace(&mut self.is_blocked, true);
        if self.written == self.bytes.len() {
            self.is_blocked = false;
            self.written = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        } else if self.written > self.bytes.len() / 2 {
            // Moving what is left never costs more than what was sent.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        was_blocked && count > 0
    }

    /// Forgets what was not sent.
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
