//! The state of one client.

use fanout::Pieces;
use proto::websocket::connection::Connection;
use proto::websocket::deflate::{Agreed, History};

use super::kept::Kept;
use super::notes::Notes;
use super::outbox::Outbox;
use super::pulse::Pulse;
use crate::settings::{Gap, Location};

/// The phases of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The session has joined its feed, muted; its 101 is being sent.
    Opening,
    /// Frames go both ways.
    Open,
    /// The session has left its feed. Its Close is queued and not yet sent.
    Closing,
    /// Our side is shut down. What the client still sends is dropped until its FIN: closing with
    /// unread input would reset the connection, and the client would lose the Close.
    Lingering,
    /// The connection is about to be freed: nothing more is read, written or reported.
    Lost,
}

/// Why the worker closes a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// The worker exits.
    Exit,
    /// Messages may have been missed.
    Gap,
    /// Redis's ACL forbids one of its channels.
    Forbidden,
}

/// What the module keeps for one client. It is small: the connection's pool has space for 128
/// bytes, and nginx's part of a slot takes some of them.
pub struct Session {
    /// Parser of the client's input.
    pub(super) connection: Connection,
    /// The settings of its location.
    pub location: &'static Location,
    /// Its own frames that the socket has not taken: pongs, echoes, Close.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Input that is not parsed yet.
    pub(super) kept: Option<Box<Kept>>,
    /// Fields that only some clients need.
    pub(super) notes: Option<Box<Notes>>,
    /// The end of its compressed messages, which the next one may refer to; `None` before the
    /// first.
    pub(super) history: Option<Box<History>>,
    /// Its progress: of the message under way while it is open, then of its Close.
    pub(super) pulse: Pulse,
    /// The close code for the log; 0 while there is none.
    pub(super) close_code: u16,
    /// The window agreed for permessage-deflate, in bits; 0 if not agreed.
    pub(super) deflate_bits: u8,
    /// How much `history` keeps, in bits; 0 if nothing.
    pub(super) context_bits: u8,
    /// Its phase.
    pub(super) phase: Phase,
    /// Its 101 was sent.
    pub(super) is_opened: bool,
    /// The reason of the Close that the wheel's next call will send.
    pub(super) leaving: Option<Leaving>,
    /// The client may have missed messages, and will be told so.
    pub(super) is_missed: bool,
    /// Reading waits for space: in its outbox, or at the publisher link.
    pub(super) is_paused: bool,
    /// `websocket_notsent` has been set on its socket.
    pub(super) is_notsent_applied: bool,
    /// The receive buffer that has been set on its socket.
    pub(super) width: Width,
}

/// How much unread input of a client the kernel may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    /// As much as the kernel decides.
    Open,
    /// As much as the kernel had decided when more arrived than one read takes.
    Frozen,
    /// At most `UNREAD`.
    Narrow,
}

/// Heap memory of a session, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Unparsed input, a partial message, frames not taken.
    pub messages: usize,
    /// Its compression history.
    pub context: usize,
}

impl Session {
    /// A session whose 101 has not been sent yet, with what was `agreed` about permessage-deflate.
    pub fn new(
        location: &'static Location,
        notes: Option<Box<Notes>>,
        agreed: Option<Agreed>,
        tick: u32,
    ) -> Session {
        Session {
            connection: Connection::default(),
            location,
            outbox: None,
            kept: None,
            notes,
            history: None,
            pulse: Pulse::new(tick),
            close_code: 0,
            deflate_bits: agreed.map_or(0, |agreed| agreed.server_window_bits()),
            context_bits: agreed.map_or(0, |agreed| agreed.context_bits()),
            phase: Phase::Opening,
            is_opened: false,
            leaving: None,
            is_missed: false,
            is_paused: false,
            is_notsent_applied: false,
            width: Width::Open,
        }
    }

    /// Its heap memory, for the memory account.
    #[inline]
    pub fn weight(&self) -> Weight {
        let outbox = self.outbox.as_ref().map_or(0, |outbox| outbox.held_bytes());
        let kept = self.kept.as_ref().map_or(0, |kept| kept.held_bytes());
        let history = self.history.as_ref();
        Weight {
            messages: self.connection.held_bytes() + outbox + kept,
            context: history.map_or(0, |history| history.held_bytes()),
        }
    }

    /// See [`Phase`].
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Frames go both ways.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether its 101 was sent, whatever happened since.
    pub fn was_opened(&self) -> bool {
        self.is_opened
    }

    /// Its 101 has been sent.
    pub fn open(&mut self, tick: u32) {
        self.phase = Phase::Open;
        self.is_opened = true;
        self.pulse.note_alive(tick);
    }

    /// Asks the session to leave. True if it is open: its Close is due with the wheel's next call.
    /// Otherwise it is closed as soon as its 101 is sent, unless it is ending anyway.
    pub fn ask_to_leave(&mut self, leaving: Leaving) -> bool {
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.leaving = Some(leaving);
        }
        self.is_open()
    }

    /// Why it was asked to leave.
    pub fn leaving(&self) -> Option<Leaving> {
        self.leaving
    }

    /// The client may have missed messages. It will be told, unless its location says otherwise.
    pub fn note_missed(&mut self) {
        self.is_missed = self.location.gap() != Gap::Keep;
    }

    /// Whether to tell the client that it may have missed messages. Resets the flag.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.is_missed)
    }

    /// Queues the Close behind the rest of a frame that was `begun`. From now on the client's
    /// messages are not read.
    pub fn begin_closing(&mut self, begun: Pieces, close: &[u8], code: u16) {
        self.phase = Phase::Closing;
        self.close_code = code;
        self.history = None;
        self.kept = None;
        let outbox = self.outbox.get_or_insert_default();
        outbox.forget_pong();
        if !begun.is_empty() {
            outbox.put_first(begun);
        }
        outbox.push(close);
    }

    /// The client was sent its Close by one write, without the queue.
    pub fn note_told(&mut self, code: u16) {
        self.close_code = code;
    }

    /// The Close has been sent.
    pub fn begin_lingering(&mut self) {
        self.phase = Phase::Lingering;
    }

    /// The client left without a Close of ours, or before it was sent.
    pub fn note_lost(&mut self) {
        if self.close_code == 0 {
            self.close_code = 1006;
        }
    }

    /// The connection will be freed. True the first time.
    pub fn end(&mut self) -> bool {
        std::mem::replace(&mut self.phase, Phase::Lost) != Phase::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_fits_the_spare_room_of_its_connection_pool() {
        // nginx's part of a slot takes 16 bytes more.
        assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
    }
}
