//! Bytes in transit: pushed in at one end, taken out at the other.

#[derive(Default)]
pub struct Pipe {
    bytes: Vec<u8>,
    at: usize,
}

impl Pipe {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub fn drop_front(&mut self, count: usize) {
        self.at += count;
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        } else if self.at > 64 << 10 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }

    /// Moves at most `most` bytes on, and returns how many.
    pub fn pour(&mut self, into: &mut Pipe, most: usize) -> usize {
        let count = self.len().min(most);
        into.push(&self.bytes()[..count]);
        self.drop_front(count);
        count
    }

    /// Takes as much as fits into `buf`.
    pub fn read(&mut self, buf: &mut [u8]) -> usize {
        let count = self.len().min(buf.len());
        buf[..count].copy_from_slice(&self.bytes()[..count]);
        self.drop_front(count);
        count
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }
}
