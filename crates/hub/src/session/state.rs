//! Where one client stands.

use fanout::Pieces;
use proto::websocket::connection::Connection;
use proto::websocket::deflate::{Agreed, History};

use super::kept::Kept;
use super::notes::Notes;
use super::outbox::Outbox;
use super::pulse::Pulse;
use crate::settings::{Gap, Location};

/// How far a session's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has joined its feed, muted; its 101 is on its way.
    Opening,
    /// Frames go both ways.
    Open,
    /// It has left its feed; its Close is queued and not yet out.
    Closing,
    /// Our side is shut. What the client still sends is dropped, until its FIN: closing with
    /// unread input would reset the connection, and the client would lose the Close.
    Lingering,
    /// Its connection is about to be freed: nothing more is read, written or told.
    Lost,
}

/// Why a client is about to be told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// The worker exits.
    Exit,
    /// Messages may have been missed.
    Gap,
    /// Redis's ACL forbids one of its channels.
    Forbidden,
}

/// What the module keeps for one client. Small: the connection's pool has room for 128 bytes, and
/// nginx's part of a slot takes some of them.
pub struct Session {
    /// Parser of what the client sends.
    pub(super) connection: Connection,
    /// How it is served.
    pub location: &'static Location,
    /// Own frames that the socket has not taken: pongs, echoes, Close.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Input that is not taken apart yet.
    pub(super) kept: Option<Box<Kept>>,
    /// What only some clients have.
    pub(super) notes: Option<Box<Notes>>,
    /// The end of its compressed messages, for the next to refer to; `None` before the first.
    pub(super) history: Option<Box<History>>,
    /// How it gets on: while it is open its message under way, then its Close.
    pub(super) pulse: Pulse,
    /// The close code for the log; 0 while there is none.
    pub(super) close_code: u16,
    /// The window agreed for permessage-deflate, in bits; 0: not agreed.
    pub(super) deflate_bits: u8,
    /// How much `history` keeps, in bits; 0: nothing.
    pub(super) context_bits: u8,
    /// Where it stands.
    pub(super) phase: Phase,
    /// Its 101 went out.
    pub(super) is_opened: bool,
    /// Why its Close is due with the wheel's next call.
    pub(super) leaving: Option<Leaving>,
    /// Messages for it may have been missed, and it is to be told.
    pub(super) is_missed: bool,
    /// Reading waits for room: in its outbox, or at the publisher link.
    pub(super) is_paused: bool,
    /// `websocket_notsent` has been told to its socket.
    pub(super) is_notsent_applied: bool,
    /// What has been told to its socket of input that is not read.
    pub(super) width: Width,
}

/// How much of a client's input the kernel holds that is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    /// What it finds right.
    Open,
    /// What it found right when more had come than was read at once.
    Frozen,
    /// [`UNREAD`].
    Narrow,
}

/// Heap of a session, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Input not taken apart, a message begun, frames not taken.
    pub messages: usize,
    /// Its compression history.
    pub context: usize,
}

impl Session {
    /// A session whose 101 is not out yet; `agreed` about permessage-deflate.
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

    /// What the memory account has to know of it.
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

    /// Its 101 went out, whatever came then.
    pub fn was_opened(&self) -> bool {
        self.is_opened
    }

    /// Its 101 is out.
    pub fn open(&mut self, tick: u32) {
        self.phase = Phase::Open;
        self.is_opened = true;
        self.pulse.note_alive(tick);
    }

    /// It is told to go. True if it is open: then its Close is due with the wheel's next call; else
    /// it is told as soon as its 101 is out, unless it is ending anyway.
    pub fn ask_to_leave(&mut self, leaving: Leaving) -> bool {
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.leaving = Some(leaving);
        }
        self.is_open()
    }

    /// Why it is told to go.
    pub fn leaving(&self) -> Option<Leaving> {
        self.leaving
    }

    /// Messages for it may have been missed: it is to be told, unless its location says otherwise.
    pub fn note_missed(&mut self) {
        self.is_missed = self.location.gap() != Gap::Keep;
    }

    /// Whether it is to be told that messages may have been missed. Said once.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.is_missed)
    }

    /// Its Close is queued, behind the rest of a frame that was `begun`. From here on it is not read
    /// for messages.
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

    /// It was told by one write, without the queue.
    pub fn note_told(&mut self, code: u16) {
        self.close_code = code;
    }

    /// Its Close is out.
    pub fn begin_lingering(&mut self) {
        self.phase = Phase::Lingering;
    }

    /// It has gone without a Close of ours, or before that was out.
    pub fn note_lost(&mut self) {
        if self.close_code == 0 {
            self.close_code = 1006;
        }
    }

    /// Its connection is to be freed. True the first time.
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
