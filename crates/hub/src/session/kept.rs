//! What was read from a client and not taken apart yet.

/// Input that waits for its turn, or for room downstream. A session has one at most, of one read at
/// most: it is not read again before.
pub struct Kept {
    /// What was read. It is taken apart in place.
    pub bytes: Vec<u8>,
    /// So far it has been taken apart.
    pub at: usize,
}

impl Kept {
    /// Keeps `bytes`, none of which has been taken apart.
    pub fn new(bytes: Vec<u8>) -> Box<Kept> {
        Box::new(Kept { bytes, at: 0 })
    }

    /// All of it has been taken apart.
    pub fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Its part of the memory account, in bytes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }
}
