//! Frames of a client's own that its socket has not taken yet.

use fanout::{GATHER, Pieces};
use proto::websocket::frame::ControlFrame;

use crate::outside::sockets::RECORD;

// What OpenSSL has taken hold of must be offered again in one piece.
const _: () = assert!(RECORD <= GATHER);

/// A queue of bytes, of which a prefix may be committed: over TLS what was once offered must be
/// offered again unchanged, so bytes only ever join at the end.
#[derive(Default)]
pub struct Outbox {
    /// The rest of a frame of its feed, before all else; others may hold it, too.
    begun: Pieces,
    bytes: Vec<u8>,
    sent: usize,
    /// The newest pong, not yet among `bytes`: an older one that still waits is replaced.
    pong: Option<ControlFrame>,
}

impl Outbox {
    /// Appends whole frames, or the rest of one that was begun.
    pub fn push(&mut self, frames: &[u8]) {
        self.queue_pong();
        self.bytes.extend_from_slice(frames);
    }

    /// Puts the rest of a frame that was begun before all else: frames of its own wait for its end,
    /// so none of them has begun.
    pub fn put_first(&mut self, begun: Pieces) {
        debug_assert!(self.sent == 0 && self.begun.is_empty());
        self.begun = begun;
    }

    /// Replaces a pong that has not begun.
    pub fn set_pong(&mut self, pong: ControlFrame) {
        self.pong = Some(pong);
    }

    /// After a Close nothing may follow, so no pong either.
    pub fn forget_pong(&mut self) {
        self.pong = None;
    }

    /// What to write next; empty when nothing is left. Where little lies together it is put together
    /// in `scratch`.
    pub fn unsent<'a>(&'a mut self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if self.sent == self.bytes.len() {
            self.queue_pong();
        }
        let own = &self.bytes[self.sent..];
        match self.begun.is_empty() {
            true => own,
            false => self.begun.unsent(usize::MAX, own, scratch),
        }
    }

    /// Nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.sent == self.bytes.len() && self.pong.is_none()
    }

    /// The socket took the first `count` bytes of [`Outbox::unsent`].
    pub fn written(&mut self, count: usize) {
        let begun = count.min(self.begun.len());
        self.begun.sent(begun);
        self.sent += count - begun;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// Data frames wait: the client has to take them before it is read again. A pong is no reason.
    pub fn blocks_reading(&self) -> bool {
        self.bytes.len() - self.sent > proto::websocket::frame::MAX_CONTROL + 2
    }

    /// Bytes that wait, pongs not counted.
    pub fn len(&self) -> usize {
        self.begun.len() + self.bytes.len() - self.sent
    }

    /// Its part of the memory account, in bytes, without that of the frame begun: that is counted
    /// with the logs while anybody holds it.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.begun.list_bytes()
    }

    fn queue_pong(&mut self) {
        if let Some(pong) = self.pong.take() {
            self.bytes.extend_from_slice(&pong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_pong_replaces_one_that_has_not_begun() {
        let (mut outbox, scratch) = (Outbox::default(), &mut Vec::new());
        outbox.push(b"echo");
        outbox.set_pong(ControlFrame::pong(b"1"));
        outbox.set_pong(ControlFrame::pong(b"2"));
        assert_eq!(outbox.unsent(scratch), b"echo");
        outbox.written(4);
        assert_eq!(outbox.unsent(scratch), b"\x8a\x012");
        outbox.written(1);
        outbox.set_pong(ControlFrame::pong(b"3"));
        assert_eq!(
            outbox.unsent(scratch),
            b"\x012",
            "what has begun stays as it was offered"
        );
        outbox.written(2);
        assert_eq!(outbox.unsent(scratch), b"\x8a\x013");
        outbox.written(3);
        assert!(outbox.unsent(scratch).is_empty() && outbox.is_empty());
    }

    #[test]
    fn frames_follow_in_the_order_they_came() {
        let (mut outbox, scratch) = (Outbox::default(), &mut Vec::new());
        outbox.set_pong(ControlFrame::pong(b""));
        outbox.push(b"a");
        outbox.push(b"b");
        assert_eq!(outbox.unsent(scratch), b"\x8a\x00ab");
        assert!(!outbox.blocks_reading());
        outbox.push(&[0; 200]);
        assert!(outbox.blocks_reading());
    }
}
