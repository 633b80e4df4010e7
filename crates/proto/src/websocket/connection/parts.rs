//! A client's incomplete message and frame, and the rules for reading them.

use super::super::assembler::Assembler;
use super::super::close::CloseReceived;
use super::super::deflate::{Inflater, Takeover};
use super::super::event::Event;
use super::super::frame::{Header, MAX_CLIENT_HEADER};
use super::super::mask::Mask;
use super::super::message::{Limits, MessageKind, Payload};
use super::super::misbehaved::Misbehaved;

/// What is incomplete: a message, a frame, or a frame within a message.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) message: Option<Assembler>,
    pub(super) aside: Aside,
}

/// What comes between a message's bytes.
#[derive(Debug, Default)]
pub(super) enum Aside {
    /// Nothing: the next byte is the message's, or the first of a header.
    #[default]
    None,
    Header(Prefix),
    Control(Control),
}

/// The first bytes of a header.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) bytes: [u8; MAX_CLIENT_HEADER],
    pub(super) len: usize,
}

/// A control frame whose payload is incomplete.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) signal: Signal,
    pub(super) mask: Mask,
    pub(super) missing: usize,
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Close,
    Ping,
    Pong,
}

/// What was agreed with the client.
pub(super) struct Rules<'a> {
    pub(super) limits: &'a Limits,
    pub(super) compressed: Compressed<'a>,
}

/// How compressed messages are handled.
pub(super) enum Compressed<'a> {
    /// permessage-deflate was not agreed.
    Refused,
    /// Nobody reads them.
    Unread,
    Inflated(&'a mut Inflater, Takeover<'a>),
}

/// A frame's role in the current message.
pub(super) enum Part {
    First(MessageKind),
    Next,
    Control(Signal),
}

impl Rules<'_> {
    /// Reads a whole message that is still compressed.
    #[inline(never)]
    pub(super) fn read_compressed(
        &mut self,
        compressed: &[u8],
        kind: MessageKind,
    ) -> Result<Event, Misbehaved> {
        match &mut self.compressed {
            Compressed::Refused => Err(Misbehaved::ReservedBits),
            Compressed::Unread => Ok(Event::Unread),
            Compressed::Inflated(inflater, takeover) => {
                let limit = self.limits.max_message;
                let message = inflater.message(compressed, kind, limit, takeover)?;
                let payload = Payload::Assembled(message);
                Ok(Event::Message { kind, payload })
            }
        }
    }
}

impl Compressed<'_> {
    pub(super) fn is_agreed(&self) -> bool {
        !matches!(self, Self::Refused)
    }
}

impl Pending {
    pub(super) fn held_bytes(&self) -> usize {
        let aside = match &self.aside {
            Aside::None | Aside::Header(_) => 0,
            Aside::Control(control) => control.payload.capacity(),
        };
        aside + self.message.as_ref().map_or(0, Assembler::held_bytes)
    }

    /// Whether the next byte is payload rather than a header's, or the message's last byte was read
    /// in place.
    pub(super) fn is_in_payload(&self) -> bool {
        match &self.aside {
            Aside::None => self
                .message
                .as_ref()
                .is_some_and(|message| message.is_in_fragment() || message.is_whole()),
            Aside::Header(_) => false,
            Aside::Control(_) => true,
        }
    }
}

impl Prefix {
    /// `begun` is shorter than a header.
    pub(super) fn new(begun: &[u8]) -> Self {
        let mut bytes = [0; MAX_CLIENT_HEADER];
        bytes[..begun.len()].copy_from_slice(begun);
        Self {
            bytes,
            len: begun.len(),
        }
    }

    /// Takes the header's next bytes from `buf`.
    pub(super) fn complete(
        &mut self,
        buf: &[u8],
        at: &mut usize,
    ) -> Result<Option<Header>, Misbehaved> {
        while let Some(&byte) = buf.get(*at) {
            self.bytes[self.len] = byte;
            self.len += 1;
            *at += 1;
            if let Some((header, _)) = Header::parse(&self.bytes[..self.len])? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

impl Control {
    /// `missing` is at most 125: `Header::parse` accepts no longer control frame.
    pub(super) fn new(signal: Signal, mask: Mask, missing: usize) -> Self {
        Self {
            signal,
            mask,
            missing,
            payload: Vec::with_capacity(missing),
        }
    }

    /// Unmasks and keeps the payload bytes in `arrived`. Returns how many they are.
    pub(super) fn push(&mut self, arrived: &[u8]) -> usize {
        let used = self.missing.min(arrived.len());
        let begin = self.payload.len();
        self.payload.extend_from_slice(&arrived[..used]);
        self.mask.apply(&mut self.payload[begin..]);
        self.missing -= used;
        used
    }
}

impl Signal {
    pub(super) fn event(self, payload: Payload, buf: &[u8]) -> Result<Event, Misbehaved> {
        Ok(match self {
            Self::Close => Event::Close(CloseReceived::parse(payload.bytes(buf))?),
            Self::Ping => Event::Ping(payload),
            Self::Pong => Event::Pong(payload),
        })
    }
}
