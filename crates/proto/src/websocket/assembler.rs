//! A message that did not come in one piece: its fragments, and its bytes so far.

use super::frame::MAX_CLIENT_HEADER;
use super::mask::Mask;
use super::message::MessageKind;
use super::utf8::{InvalidUtf8, Utf8};

/// Unmasking and checking go in turns over blocks of this size, so that the check finds the bytes
/// in the processor's first cache. A multiple of the mask's four bytes.
const BLOCK: usize = 16 << 10;
/// A message has room for what its header announces, up to so many times what has really come.
const TRUST: usize = 16;

/// The kind of a message under way, and how far its text is checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Text(Utf8),
    Binary,
    /// Compressed: its text is checked when it is inflated.
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
    pub(super) fn finish(self) -> Result<MessageKind, InvalidUtf8> {
        match self {
            Self::Binary => Ok(MessageKind::Binary),
            Self::Deflated(kind) => Ok(kind),
            Self::Text(utf8) if utf8.is_complete() => Ok(MessageKind::Text),
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
    payload: Vec<u8>,
}

impl Assembler {
    /// A message of which all but `first`'s header is still to come.
    pub(super) fn new(content: Content, first: Fragment) -> Self {
        Self {
            content,
            fragment: first,
            payload: Vec::new(),
        }
    }

    /// The next fragment's header has come.
    pub(super) fn go_on(&mut self, next: Fragment) {
        self.fragment = next;
    }

    /// The next byte belongs to this message, not to a header.
    pub(super) fn is_in_fragment(&self) -> bool {
        self.fragment.missing > 0
    }

    /// Bytes of the fragment that have not come.
    pub(super) fn missing(&self) -> u64 {
        self.fragment.missing
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

    /// So many of the fragment's bytes have a place to stay.
    pub(super) fn room(&self) -> usize {
        let spare = self.payload.capacity() - self.payload.len();
        self.fragment.missing.min(spare as u64) as usize
    }

    /// `read` appends no more of the fragment's bytes than there is [`room`](Self::room) for.
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

    /// The message ends here: its kind and its bytes.
    pub(super) fn finish(self) -> Result<(MessageKind, Vec<u8>), InvalidUtf8> {
        Ok((self.content.finish()?, self.payload))
    }

    // A header's word costs a client nothing, so it buys no memory by itself: a frame has room up to
    // its announced end as far as `TRUST` allows. Room for fragments that no header has announced
    // yet at most doubles what has come. What else has arrived may be such fragments: with room for
    // them they move nothing.
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
