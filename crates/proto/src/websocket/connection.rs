//! The state machine of one client: its bytes in, events out.
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
/// Pass each buffer read from the client to [`receive`](Self::receive), repeatedly until it returns
/// `None`. Do not call it after an [`Event::Close`] or an error.
#[derive(Debug, Default)]
pub struct Connection {
    pending: Option<Box<Pending>>,
    over: bool,
}

impl Connection {
    /// Returns the next event in `buf[*at..]` and moves `*at` behind the bytes used. Payloads are
    /// unmasked in place. `None`: the buffer is used up, and an incomplete frame is kept here.
    ///
    /// # Errors
    /// The client's violation, as soon as its first wrong byte has arrived. For a frame or message
    /// that is too big, this is before its payload has arrived.
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
    /// [agreed](super::deflate::negotiate). Any message may be compressed (RFC 7692, 6.2). It is
    /// inflated when all of it has arrived.
    ///
    /// Both limits count a message's bytes before compression. A compressed message may be an
    /// eighth longer on arrival, since incompressible data becomes that much longer. What it
    /// inflates to must not exceed `max_message`.
    ///
    /// # Errors
    /// Those of `receive`; a message that can't be inflated, or that inflates to too much. At most
    /// one byte beyond `max_message` is inflated.
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

    /// [`receive_deflated`](Self::receive_deflated) if nobody reads the client's messages. The
    /// frames of a compressed message are checked, but nothing is inflated. So its text is not
    /// checked either: an endpoint has to fail text that is not UTF-8 only when it is to interpret
    /// it (RFC 6455, 8.1).
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

    /// How many bytes of an incomplete message can be [read in place](Self::read_in_place). 0:
    /// there is none, it waits for a header, or too little has arrived for it to get more memory.
    pub fn room(&self) -> usize {
        match self.pending.as_deref() {
            Some(Pending {
                message: Some(message),
                aside: Aside::None,
            }) => message.room(),
            _ => 0,
        }
    }

    /// Reads the rest of a long message without an intermediate buffer. `read` appends the client's
    /// next bytes, at most [`room`](Self::room). Its result is returned.
    ///
    /// If this completes a message, the next [`receive`](Self::receive) or variant returns it. Its
    /// buffer may be empty.
    ///
    /// # Errors
    /// The text is not UTF-8.
    ///
    /// # Panics
    /// There is no room, or `read` appends more, or removes bytes.
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

    /// Heap held for an incomplete message or frame, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.pending
            .as_deref()
            .map_or(0, |pending| size_of::<Pending>() + pending.held_bytes())
    }

    /// Whether a message, or any frame, is incomplete.
    pub fn is_mid_message(&self) -> bool {
        self.pending.is_some()
    }

    /// Bytes of the incomplete frame that have not arrived. No new message begins within them.
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

    /// Payload bytes received of the incomplete message. `None`: there is none, though a control
    /// frame or a header may be incomplete.
    pub fn message_bytes(&self) -> Option<u64> {
        let message = self.pending.as_deref()?.message.as_ref();
        message.map(Assembler::len)
    }

    /// Whether a message's last bytes were read in place.
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
        // Usual frames have a separate path, so that their header stays in registers.
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

    /// Checks whether the frame is allowed now, and at this size.
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

    /// Begins a frame that is not an event in place: its payload goes to the heap.
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

    /// Takes the available payload bytes. Returns an event if they complete one.
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
