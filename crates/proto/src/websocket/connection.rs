//! The machine of one client: its bytes in, events out.
//!
//! ```text
//!              ┌─────────────── whole frame in the buffer: event in place, no heap
//!    nothing ──┤
//!       ▲      └─ Header ──> Data ──> (fin) event ──> nothing
//!       │           ▲    └─> Control ──> event ──┐
//!       │           │  (more fragments)          │
//!       └───────────┴──── Between <──────────────┘
//! ```

use super::assembler::{Assembler, Content, Fragment};
use super::deflate::{Inflater, Takeover};
use super::frame::{Header, Opcode};

mod parts;

use parts::{Aside, Compressed, Control, Part, Pending, Prefix, Rules, Signal};

pub use super::event::Event;
pub use super::message::{Limits, MessageKind, Payload};
pub use super::misbehaved::Misbehaved;

/// One client's incoming side. Between messages it is two words and owns no heap.
///
/// Give each buffer read from the client to [`receive`](Self::receive), again and again until it
/// says `None`; after a [`Event::Close`] or an error never again.
#[derive(Debug, Default)]
pub struct Connection {
    pending: Option<Box<Pending>>,
    over: bool,
}

impl Connection {
    /// The next event in `buf[*at..]`; `*at` moves behind what was used up. Payloads are unmasked
    /// in place. `None`: the buffer is used up, and what it began is kept here.
    ///
    /// # Errors
    /// The client's misdeed, as soon as its first wrong byte is there: a frame or message that is
    /// too big before its payload has come.
    pub fn receive(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        limits: &Limits,
    ) -> Result<Option<Event>, Misbehaved> {
        let mut rules = Rules {
            limits,
            compressed: Compressed::Refused,
        };
        self.receive_by(buf, at, &mut rules)
    }

    /// [`receive`](Self::receive) for a client with which permessage-deflate was
    /// [agreed](super::deflate::negotiate): any message may be compressed (RFC 7692, 6.2). It is
    /// inflated when all of it is there.
    ///
    /// Both limits count a message's bytes before compression. Of a compressed one an eighth more
    /// may arrive, since what can't be compressed becomes so much longer; what it inflates to is
    /// held to `max_message` exactly.
    ///
    /// # Errors
    /// Those of `receive`, a message that can't be inflated, or that inflates to too much: no more
    /// than one byte beyond `max_message` is.
    pub fn receive_deflated(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        limits: &Limits,
        inflater: &mut Inflater,
        takeover: Takeover<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        let mut rules = Rules {
            limits,
            compressed: Compressed::Inflated(inflater, takeover),
        };
        self.receive_by(buf, at, &mut rules)
    }

    /// [`receive_deflated`](Self::receive_deflated) where nobody reads the client's messages: of a
    /// compressed one the frames are checked, and nothing is inflated. What it would say is not
    /// judged either: an endpoint has to fail text that is not UTF-8 when it is to interpret it
    /// (RFC 6455, 8.1).
    ///
    /// # Errors
    /// Those of `receive`.
    pub fn receive_unread(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        limits: &Limits,
    ) -> Result<Option<Event>, Misbehaved> {
        let mut rules = Rules {
            limits,
            compressed: Compressed::Unread,
        };
        self.receive_by(buf, at, &mut rules)
    }

    /// So many bytes of a message under way can be [read in place](Self::read_in_place). 0: none is,
    /// or it waits for a header, or has not come far enough to have more memory.
    pub fn room(&self) -> usize {
        match self.pending.as_deref() {
            Some(Pending {
                message: Some(message),
                aside: Aside::None,
            }) => message.room(),
            _ => 0,
        }
    }

    /// Spares the rest of a long message its way over a buffer: `read` appends what comes next from
    /// the client, at most [`room`](Self::room) bytes. What it returns is handed on.
    ///
    /// A message that ends so is told by the next [`receive`](Self::receive) or its like, whose
    /// buffer may be empty.
    ///
    /// # Errors
    /// Text that is not UTF-8.
    ///
    /// # Panics
    /// There is no room, or `read` appends more, or takes away.
    pub fn read_in_place<T>(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, Misbehaved> {
        let Some(Pending {
            message: Some(message),
            aside: Aside::None,
        }) = self.pending.as_deref_mut()
        else {
            panic!("there is no room");
        };
        message.read_in_place(read).map_err(|invalid| {
            self.end();
            invalid.into()
        })
    }

    fn receive_by(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        debug_assert!(!self.over, "received after a Close or a misdeed");
        if self.over {
            *at = buf.len();
            return Ok(None);
        }
        let outcome = self.next_event(buf, at, rules);
        if matches!(outcome, Ok(Some(Event::Close(_))) | Err(_)) {
            self.end();
        }
        outcome
    }

    fn end(&mut self) {
        *self = Self {
            pending: None,
            over: true,
        };
    }

    /// Heap held for what has begun and not ended, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.pending
            .as_deref()
            .map_or(0, |pending| size_of::<Pending>() + pending.held_bytes())
    }

    /// A message, or any frame, has begun and not ended.
    pub fn is_mid_message(&self) -> bool {
        self.pending.is_some()
    }

    /// Bytes of the frame under way that have not come: the next so many are no new message's.
    pub fn missing(&self) -> u64 {
        match self.pending.as_deref() {
            Some(Pending {
                aside: Aside::Control(control),
                ..
            }) => control.missing as u64,
            Some(Pending {
                message: Some(message),
                aside: Aside::None,
            }) => message.missing(),
            _ => 0,
        }
    }

    /// So much has come of the message under way, in bytes of payload. `None`: none is; a control
    /// frame, or a header, may be.
    pub fn message_bytes(&self) -> Option<u64> {
        let message = self.pending.as_deref()?.message.as_ref();
        message.map(Assembler::len)
    }

    /// A message's last bytes were read in place.
    fn has_whole_message(&self) -> bool {
        let pending = self.pending.as_deref();
        let message = pending.and_then(|pending| pending.message.as_ref());
        message.is_some_and(Assembler::is_whole)
    }

    fn next_event(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        while *at < buf.len() || self.has_whole_message() {
            let event = match self.pending.as_deref_mut() {
                Some(pending) if pending.is_in_payload() => self.fill(buf, at, rules)?,
                Some(Pending {
                    aside: Aside::Header(prefix),
                    ..
                }) => match prefix.complete(buf, at)? {
                    Some(header) => {
                        let part = self.check(header, rules)?;
                        self.collect(part, header, buf, at, rules)?
                    }
                    None => None,
                },
                _ => self.begin_frame(buf, at, rules)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    #[inline]
    fn begin_frame(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        // Usual frames have a road of their own, so that their header stays in registers.
        match Header::parse_usual(&buf[*at..]) {
            Some((header, header_len)) => {
                *at += header_len;
                self.begin_payload(header, buf, at, rules)
            }
            None => self.begin_other_frame(buf, at, rules),
        }
    }

    #[inline(never)]
    fn begin_other_frame(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        let Some((header, header_len)) = Header::parse_any(&buf[*at..])? else {
            let prefix = Prefix::new(&buf[*at..]);
            self.pending.get_or_insert_default().aside = Aside::Header(prefix);
            *at = buf.len();
            return Ok(None);
        };
        *at += header_len;
        self.begin_payload(header, buf, at, rules)
    }

    #[inline(always)]
    fn begin_payload(
        &mut self,
        header: Header,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        let part = self.check(header, rules)?;
        if header.payload > (buf.len() - *at) as u64 {
            return self.collect(part, header, buf, at, rules);
        }
        let place = *at..*at + header.payload as usize;
        let bytes = &mut buf[place.clone()];
        let mut mask = header.mask;
        let event = match part {
            Part::First(kind) if header.fin => {
                let mut content = Content::new(kind, header.rsv1);
                content.open(bytes, &mut mask)?;
                match content.is_deflated() {
                    true => rules.read_compressed(bytes, kind)?,
                    false => Event::Message {
                        kind: content.finish()?,
                        payload: Payload::InPlace(place.clone()),
                    },
                }
            }
            Part::Control(signal) => {
                mask.apply(bytes);
                signal.event(Payload::InPlace(place.clone()), buf)?
            }
            Part::First(_) | Part::Next => return self.collect(part, header, buf, at, rules),
        };
        *at = place.end;
        Ok(Some(event))
    }

    /// Whether the frame may come now, and may be so big.
    #[inline(always)]
    fn check(&self, header: Header, rules: &Rules<'_>) -> Result<Part, Misbehaved> {
        let message = self
            .pending
            .as_ref()
            .and_then(|pending| pending.message.as_ref());
        let part = match (header.opcode, message) {
            (Opcode::Close, _) => Part::Control(Signal::Close),
            (Opcode::Ping, _) => Part::Control(Signal::Ping),
            (Opcode::Pong, _) => Part::Control(Signal::Pong),
            (Opcode::Text, None) => Part::First(MessageKind::Text),
            (Opcode::Binary, None) => Part::First(MessageKind::Binary),
            (Opcode::Continuation, Some(_)) => Part::Next,
            (Opcode::Continuation, None) => return Err(Misbehaved::LoneContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Misbehaved::InterleavedMessage),
        };
        let may_be_deflated = matches!(part, Part::First(_)) && rules.compressed.is_agreed();
        if header.rsv1 && !may_be_deflated {
            return Err(Misbehaved::ReservedBits);
        }
        if let Part::First(_) | Part::Next = part {
            let deflated = header.rsv1 || message.is_some_and(Assembler::is_deflated);
            let limits = match deflated {
                true => rules.limits.of_deflated(),
                false => *rules.limits,
            };
            limits.check(message.map_or(0, Assembler::len), header.payload)?;
        }
        Ok(part)
    }

    /// A frame begins that is not an event in place: its payload goes to the heap.
    #[inline(never)]
    fn collect(
        &mut self,
        part: Part,
        header: Header,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        let Header {
            fin,
            rsv1,
            mask,
            payload: missing,
            ..
        } = header;
        let Pending { message, aside } = &mut **self.pending.get_or_insert_default();
        *aside = Aside::None;
        let fragment = Fragment { fin, mask, missing };
        match (part, message) {
            (Part::Control(signal), _) => {
                *aside = Aside::Control(Control::new(signal, mask, missing as usize));
            }
            (Part::Next, Some(message)) => message.go_on(fragment),
            (Part::First(kind), message) => {
                *message = Some(Assembler::new(Content::new(kind, rsv1), fragment));
            }
            (Part::Next, None) => return Err(Misbehaved::LoneContinuation),
        }
        self.fill(buf, at, rules)
    }

    /// Takes what there is of the payload under way: the event, if that ends one.
    #[inline(never)]
    fn fill(
        &mut self,
        buf: &mut [u8],
        at: &mut usize,
        rules: &mut Rules<'_>,
    ) -> Result<Option<Event>, Misbehaved> {
        let Some(pending) = &mut self.pending else {
            return Ok(None);
        };
        if let Aside::Control(control) = &mut pending.aside {
            *at += control.push(&buf[*at..]);
            if control.missing > 0 {
                return Ok(None);
            }
            let payload = Payload::Assembled(std::mem::take(&mut control.payload));
            let event = control.signal.event(payload, buf);
            pending.aside = Aside::None;
            self.pending.take_if(|pending| pending.message.is_none());
            return event.map(Some);
        }
        if let Some(message) = &mut pending.message {
            *at += message.push(&mut buf[*at..])?;
        }
        let Some(message) = pending.message.take_if(|message| message.is_whole()) else {
            return Ok(None);
        };
        self.pending = None;
        let deflated = message.is_deflated();
        let (kind, bytes) = message.finish()?;
        Ok(Some(match deflated {
            true => rules.read_compressed(&bytes, kind)?,
            false => Event::Message {
                kind,
                payload: Payload::Assembled(bytes),
            },
        }))
    }
}
