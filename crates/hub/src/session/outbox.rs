//! A client's own frames (pongs, echoes, Close) that its socket has not taken yet.

use fanout::{GATHER, Pieces};
use proto::websocket::frame::ControlFrame;

use crate::outside::sockets::RECORD;

// What OpenSSL has committed to must be offered again in one piece.
const _: () = assert!(RECORD <= GATHER);

/// A queue of bytes, of which a prefix may be committed: over TLS, what was offered once must be
/// offered again unchanged. So bytes are only appended.
#[derive(Default)]
pub struct Outbox {
    /// The rest of a frame of the feed, sent before everything else. It may be shared with other
    /// clients.
    begun: Pieces,
    bytes: Vec<u8>,
    sent: usize,
    /// The newest pong, not yet among `bytes`. It replaces an older one that still waits.
    pong: Option<ControlFrame>,
}

impl Outbox {
    /// Appends whole frames, or the rest of a partly sent one.
    pub fn push(&mut self, frames: &[u8]) {
        self.queue_pong();
        self.bytes.extend_from_slice(frames);
    }

    /// Puts the rest of a partly sent frame of the feed first. The client's own frames wait for its
    /// end, so none of them has been started.
    pub fn put_first(&mut self, begun: Pieces) {
        debug_assert!(self.sent == 0 && self.begun.is_empty());
        self.begun = begun;
    }

    /// Sets the pong, and replaces one that has not been started.
    pub fn set_pong(&mut self, pong: ControlFrame) {
        self.pong = Some(pong);
    }

    /// Drops the pong: nothing may follow a Close.
    pub fn forget_pong(&mut self) {
        self.pong = None;
    }

    /// What to write next; empty if nothing is left. Short pieces are joined in `scratch`.
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

    /// Whether nothing is left to write.
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

    /// Whether data frames wait: the client has to take them before it is read again. A waiting
    /// pong does not stop reading.
    pub fn blocks_reading(&self) -> bool {
        self.bytes.len() - self.sent > proto::websocket::frame::MAX_CONTROL + 2
    }

    /// Bytes that wait, without pongs.
    pub fn len(&self) -> usize {
        self.begun.len() + self.bytes.len() - self.sent
    }

    /// The bytes to enter in the memory account, without the partly sent frame of the feed: that
    /// one is counted with the logs as long as anyone holds it.
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
