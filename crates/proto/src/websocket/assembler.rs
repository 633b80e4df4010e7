//! A message that did not arrive in one piece: its fragments, and its bytes so far.

use super::frame::MAX_CLIENT_HEADER;
use super::mask::Mask;
use super::message::MessageKind;
use super::utf8::{InvalidUtf8, Utf8};

/// Unmasking and checking alternate over blocks of this size, so that the check finds the bytes in
/// the processor's L1 cache. A multiple of the mask's four bytes.
const BLOCK: usize = 16 << 10;
/// A message gets memory for what its header announces, but at most this many times what has
/// arrived.
const TRUST: usize = 16;

/// The kind of an incomplete message, and how far its text has been checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Text(Utf8),
    Binary,
    /// Compressed. Its text is checked when it is inflated.
    Deflated(MessageKind),
}

impl Content {
    pub(super) fn new(kind: MessageKind, deflated: bool) -> Self {
        match kind {
            _ if deflated => Self::Deflated(kind),
            MessageKind::Text => Self::Text(Utf8::default()),
            MessageKind::Binary => Self::Binary,
        }
    }

    pub(super) fn is_deflated(&self) -> bool {
        matches!(self, Self::Deflated(_))
    }

    /// Unmasks the message's next bytes in place and checks them.
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

    /// Ends the message.
    pub(super) fn finish(self) -> Result<MessageKind, InvalidUtf8> {
        match self {
            Self::Binary => Ok(MessageKind::Binary),
            Self::Deflated(kind) => Ok(kind),
            Self::Text(utf8) if utf8.is_complete() => Ok(MessageKind::Text),
            Self::Text(_) => Err(InvalidUtf8),
        }
    }
}

/// A data frame whose payload is incomplete.
#[derive(Debug)]
pub(super) struct Fragment {
    /// Whether it is the message's last.
    pub(super) fin: bool,
    /// The mask, at the next byte.
    pub(super) mask: Mask,
    /// Bytes that have not arrived.
    pub(super) missing: u64,
}

/// An incomplete message. All fragments go to one buffer, whatever their number.
#[derive(Debug)]
pub(super) struct Assembler {
    content: Content,
    fragment: Fragment,
    payload: Vec<u8>,
}

impl Assembler {
    /// A message of which only the header of `first` has arrived.
    pub(super) fn new(content: Content, first: Fragment) -> Self {
        Self {
            content,
            fragment: first,
            payload: Vec::new(),
        }
    }

    /// The next fragment's header has arrived.
    pub(super) fn go_on(&mut self, next: Fragment) {
        self.fragment = next;
    }

    /// Whether the next byte belongs to this message, not to a header.
    pub(super) fn is_in_fragment(&self) -> bool {
        self.fragment.missing > 0
    }

    /// The fragment's bytes that have not arrived.
    pub(super) fn missing(&self) -> u64 {
        self.fragment.missing
    }

    /// Whether all of it has arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.fragment.fin && self.fragment.missing == 0
    }

    /// Whether it is compressed.
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

    /// Unmasks (in place), checks and keeps the fragment's bytes in `arrived`. Returns how many
    /// they are.
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

    /// How many of the fragment's bytes the buffer has space for.
    pub(super) fn room(&self) -> usize {
        let spare = self.payload.capacity() - self.payload.len();
        self.fragment.missing.min(spare as u64) as usize
    }

    /// `read` may append at most [`room`](Self::room) of the fragment's bytes.
    pub(super) fn read_in_place<T>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, InvalidUtf8> {
        let (begin, room) = (self.payload.len(), self.room());
        let outcome = read(&mut self.payload);
        let count = self.payload.len().checked_sub(begin);
        let count = count.filter(|&count| count <= room);
        let count = count.expect("the caller appends, and no more than there is room for");
        let mask = &mut self.fragment.mask;
        self.content.open(&mut self.payload[begin..], mask)?;
        self.fragment.missing -= count as u64;
        Ok(outcome)
    }

    /// Ends the message. Returns its kind and its bytes.
    pub(super) fn finish(self) -> Result<(MessageKind, Vec<u8>), InvalidUtf8> {
        Ok((self.content.finish()?, self.payload))
    }

    // Announcing a large frame costs a client nothing, so a header alone gets no memory: a frame
    // gets space up to its announced end only as far as `TRUST` allows. Space for fragments that no
    // header has announced yet at most doubles what has arrived. The other bytes that arrived may
    // be such fragments; with space for them, they cause no reallocation.
    fn make_room(&mut self, arriving: usize, arrived: usize) {
        let begin = self.payload.len();
        let need = begin + arriving;
        if need > self.payload.capacity() {
            let end = usize::try_from(self.len() + self.fragment.missing).unwrap_or(usize::MAX);
            let wanted = match self.fragment.fin {
                true => end,
                false => end.max(need.saturating_mul(2)).max(begin + arrived),
            };
            let come = MAX_CLIENT_HEADER + begin + arrived;
            let room = wanted.min(come.saturating_mul(TRUST));
            self.payload.reserve_exact(room - begin);
        }
    }
}
