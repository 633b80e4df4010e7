//! Message kinds, payloads and size limits.

use std::ops::Range;

use super::misbehaved::Misbehaved;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// Limits on what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a message, all its fragments together.
    pub max_message: u64,
    /// The most bytes of one data frame's payload.
    pub max_frame: u64,
}

impl Limits {
    /// DEFLATE's fixed codes take nine bits for some bytes; block headers come on top.
    pub(super) fn of_deflated(&self) -> Self {
        const HEADERS: u64 = 64;
        let deflated = |bytes: u64| bytes.saturating_add(bytes / 8 + HEADERS);
        Self {
            max_message: deflated(self.max_message),
            max_frame: deflated(self.max_frame),
        }
    }

    pub(super) fn check(&self, before: u64, payload: u64) -> Result<(), Misbehaved> {
        if payload > self.max_frame {
            return Err(Misbehaved::FrameTooBig { announced: payload });
        }
        // Both are below 2^63.
        let announced = before + payload;
        if announced > self.max_message {
            return Err(Misbehaved::MessageTooBig { announced });
        }
        Ok(())
    }
}

/// Where an event's unmasked bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the buffer given to [`Connection::receive`](super::connection::Connection::receive).
    /// Before them is their own header, which is now free space: at least four bytes more than the
    /// header of a server's frame with the same payload.
    InPlace(Range<usize>),
    /// Collected from several buffers or fragments, or inflated.
    Assembled(Vec<u8>),
}

impl Payload {
    /// The bytes. `buf` is the buffer of the `receive` that returned the event.
    pub fn bytes<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        match self {
            Self::InPlace(range) => &buf[range.clone()],
            Self::Assembled(bytes) => bytes,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::InPlace(range) => range.len(),
            Self::Assembled(bytes) => bytes.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
