//! What was read from a client and is not parsed yet.

/// Input that waits for its turn, or for space downstream. A session has at most one, from one
/// read: it is not read again before this is done.
pub struct Kept {
    /// What was read. It is parsed in place.
    pub bytes: Vec<u8>,
    /// How far it has been parsed.
    pub at: usize,
}

impl Kept {
    /// Keeps `bytes`, all of them unparsed.
    pub fn new(bytes: Vec<u8>) -> Box<Kept> {
        Box::new(Kept { bytes, at: 0 })
    }

    /// Whether all of it has been parsed.
    pub fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The bytes to enter in the memory account.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }
}
