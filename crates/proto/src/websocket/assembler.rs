//! A message that did not come in one piece: its fragments, and its bytes so far.

use super::mask::Mask;
use super::utf8::{InvalidUtf8, Utf8};

/// Unmasking and checking go in turns over blocks of this size, so that the check finds the bytes
/// in the processor's first cache. A multiple of the mask's four bytes.
const BLOCK: usize = 16 << 10;
/// The first room of a message whose length no header has told.
const FIRST_ROOM: usize = 512;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// The kind of a message under way, and how far its text is checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Text(Utf8),
    Binary,
    /// Compressed: its text is checked when it is inflated.
    Deflated(Kind),
}

impl Content {
    pub(super) fn new(kind: Kind, deflated: bool) -> Self {
        match kind {
            _ if deflated => Self::Deflated(kind),
            Kind::Text => Self::Text(Utf8::default()),
            Kind::Binary => Self::Binary,
        }
    }

    pub(super) fn is_deflated(&self) -> bool {
        matches!(self, Self::Deflated(_))
    }

    /// Unmasks the message's next bytes in place, and checks them.
    pub(super) fn open(&mut self, bytes: &mut [u8], mask: &mut Mask) -> Result<(), InvalidUtf8> {
        match self {
            Self::Binary | Self::Deflated(_) => mask.apply(bytes),
            Self::Text(utf8) => {
                for block in bytes.chunks_mut(BLOCK) {
                    let is_ascii = mask.apply_and_tell_ascii(block);
                    if !(is_ascii && utf8.is_complete()) {
                        utf8.feed(block)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The message ends here.
    pub(super) fn finish(self) -> Result<Kind, InvalidUtf8> {
        match self {
            Self::Binary => Ok(Kind::Binary),
            Self::Deflated(kind) => Ok(kind),
            Self::Text(utf8) if utf8.is_complete() => Ok(Kind::Text),
            Self::Text(_) => Err(InvalidUtf8),
        }
    }
}

/// A data frame's payload under way.
#[derive(Debug)]
pub(super) struct Fragment {
    /// It is the message's last.
    pub(super) fin: bool,
    /// The mask, at the next byte.
    pub(super) mask: Mask,
    /// Bytes still to come.
    pub(super) missing: u64,
}

/// A message begun and not ended. All fragments go to one buffer, whatever their number.
#[derive(Debug)]
pub(super) struct Assembler {
    content: Content,
    fragment: Fragment,
    /// Fragments before this one.
    before: u32,
    payload: Vec<u8>,
}

impl Assembler {
    /// A message of which all but `first`'s header is still to come.
    pub(super) fn new(content: Content, first: Fragment) -> Self {
        Self {
            content,
            fragment: first,
            before: 0,
            payload: Vec::new(),
        }
    }

    /// The next fragment's header has come.
    pub(super) fn go_on(&mut self, next: Fragment) {
        self.fragment = next;
        self.before = self.before.wrapping_add(1);
    }

    /// The next byte belongs to this message, not to a header.
    pub(super) fn is_in_fragment(&self) -> bool {
        self.fragment.missing > 0
    }

    /// Fragments that have come whole.
    pub(super) fn fragments(&self) -> u32 {
        self.before.wrapping_add(u32::from(!self.is_in_fragment()))
    }

    /// All has come.
    pub(super) fn is_whole(&self) -> bool {
        self.fragment.fin && self.fragment.missing == 0
    }

    /// It is compressed.
    pub(super) fn is_deflated(&self) -> bool {
        self.content.is_deflated()
    }

    /// The message's bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.payload.len() as u64
    }

    /// The heap it holds, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.payload.capacity()
    }

    /// Unmasks (in place), checks and keeps what `arrived` has of the fragment: the bytes used.
    pub(super) fn push(&mut self, arrived: &mut [u8]) -> Result<usize, InvalidUtf8> {
        let used = self.fragment.missing.min(arrived.len() as u64) as usize;
        self.make_room(used, arrived.len());
        for block in arrived[..used].chunks_mut(BLOCK) {
            self.content.open(block, &mut self.fragment.mask)?;
            self.payload.extend_from_slice(block);
        }
        self.fragment.missing -= used as u64;
        Ok(used)
    }

    /// The message ends here: its kind and its bytes.
    pub(super) fn finish(self) -> Result<(Kind, Vec<u8>), InvalidUtf8> {
        Ok((self.content.finish()?, self.payload))
    }

    // A header's word costs a client nothing, so it buys no memory: room at most doubles what has
    // really come, and stops at the message's end once that is known. What else has arrived may be
    // the message's further fragments: with room for them they move nothing.
    fn make_room(&mut self, arriving: usize, arrived: usize) {
        let need = self.payload.len() + arriving;
        if need > self.payload.capacity() {
            let end = match self.fragment.fin {
                true => usize::try_from(self.len() + self.fragment.missing).unwrap_or(usize::MAX),
                false => usize::MAX,
            };
            let room = need
                .saturating_mul(2)
                .max(self.payload.len() + arrived)
                .max(FIRST_ROOM)
                .min(end);
            self.payload.reserve_exact(room - self.payload.len());
        }
    }
}
