//! One WebSocket client: what it has begun, what it is still owed, how it ends.
//!
//! ```text
//! Opening ──101 is out──> Open ──Close queued──> Closing ──Close is out──> Lingering ──> gone
//!                          └──────────── connection lost ──────> Lost ──────────────> gone
//! ```
//!
//! A session that keeps up is a seat in its feed and nothing else: [`Outbox`] and
//! [`Notes`] are boxes that most clients never have.

mod inbox;
mod outbox;

use proto::websocket::connection::Connection;
use proto::websocket::deflate::History;

pub use inbox::{End, Inbox};
pub use outbox::Outbox;

use crate::conf::Location;
use crate::nginx::Io;

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

/// What the module keeps for one client. Small: the connection's pool has room for 128 bytes, and
/// nginx's part of a seat takes some of them.
pub struct Session {
    /// Parser of what the client sends.
    pub connection: Connection,
    /// How it is served.
    pub location: &'static Location,
    /// Own frames that the socket has not taken: pongs, echoes, Close.
    pub outbox: Option<Box<Outbox>>,
    /// What only some clients have.
    pub notes: Option<Box<Notes>>,
    /// The end of its compressed messages, where context takeover was agreed.
    pub history: Option<Box<History>>,
    /// Last sign of life, in [`TICK_MS`] since the worker began.
    pub heard: u32,
    /// When the message under way began, likewise; 0 if none is.
    pub began: u32,
    /// The close code for the log; 0 while there is none.
    pub close_code: u16,
    /// The window agreed for permessage-deflate, in bits; 0: not agreed.
    pub deflate_bits: u8,
    /// Where it stands.
    pub phase: Phase,
    /// A ping is unanswered.
    pub pinged: bool,
    /// Its 101 went out.
    pub opened: bool,
    /// Its Close is due with the wheel's next call.
    pub leaving: bool,
    /// Messages for it may have been missed, and it is to be told.
    pub missed: bool,
    /// Reading waits for room: in its outbox, or at the publisher link.
    pub paused: bool,
    /// `websocket_notsent` has been told to its socket.
    bounded: bool,
}

/// Precision of a session's own clock, in milliseconds.
pub const TICK_MS: u64 = 100;

/// A closing session gets so long for its Close, and then again for the client's FIN.
pub const LINGER_MS: u64 = 2_000;

/// What only some sessions need.
#[derive(Default)]
pub struct Notes {
    /// Where its messages are published.
    pub publish: Option<Box<[u8]>>,
    /// Names of its channels, for the log.
    pub channel: Vec<u8>,
    /// When it began, in milliseconds of nginx's clock.
    pub since_ms: u64,
    /// Counters for the log.
    pub messages_in: u64,
    /// Own frames, not those of its feed.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes of own frames.
    pub bytes_out: u64,
}

/// A client's life in numbers, for variables.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Its channels, with commas.
    pub channel: Vec<u8>,
    /// 0: none yet.
    pub close_code: u16,
    /// Whole messages received.
    pub messages_in: u64,
    /// Messages sent, its feed's included.
    pub messages_out: u64,
    /// Bytes received after the handshake.
    pub bytes_in: u64,
    /// Bytes sent after the handshake.
    pub bytes_out: u64,
    /// Milliseconds since the 101.
    pub duration_ms: u64,
}

impl Session {
    /// A session whose 101 is not out yet.
    pub fn new(location: &'static Location, notes: Option<Box<Notes>>, tick: u32) -> Session {
        Session {
            connection: Connection::default(),
            location,
            outbox: None,
            notes,
            history: None,
            heard: tick,
            began: 0,
            close_code: 0,
            deflate_bits: 0,
            phase: Phase::Opening,
            pinged: false,
            opened: false,
            leaving: false,
            missed: false,
            paused: false,
            bounded: false,
        }
    }

    /// Heap that the memory account has to know: a partial message, and frames not taken.
    pub fn held_bytes(&self) -> usize {
        self.connection.held_bytes()
            + self
                .history
                .as_ref()
                .map_or(0, |history| history.held_bytes())
            + self.outbox.as_ref().map_or(0, |outbox| outbox.held_bytes())
    }

    /// Before an open client is sent anything: the kernel holds no more of it than
    /// `websocket_notsent` says. An own system call, so a client that leaves before does without.
    pub fn bound(&mut self, io: &Io) {
        if self.phase == Phase::Open && !self.bounded {
            self.bounded = true;
            io.set_notsent_lowat(self.location.notsent());
        }
    }

    /// The socket took `count` bytes of its own frames.
    pub fn note_sent(&mut self, count: usize) {
        if let Some(notes) = &mut self.notes {
            notes.bytes_out += count as u64;
        }
    }

    /// Where its messages are published.
    pub fn publish_channel(&self) -> Option<&[u8]> {
        self.notes.as_ref()?.publish.as_deref()
    }

    /// The client has sent a whole frame, or taken bytes that the socket had refused before.
    pub fn note_alive(&mut self, tick: u32) {
        self.heard = tick;
        self.pinged = false;
    }

    /// When to look at it next after `tick`, in ticks: `None` when nothing is to be watched.
    pub fn next_check(&self, tick: u32) -> Option<u32> {
        let ticks = |ms: u64| u32::try_from(ms.div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2);
        let (ping, timeout) = (self.location.ping_interval(), self.location.timeout());
        let silent = (timeout > 0).then(|| self.heard.saturating_add(ticks(timeout)));
        // A pong does not set the deadline anew: look again when the next ping may be due.
        let last = if self.pinged { tick } else { self.heard };
        let due_ping = (ping > 0).then(|| last.saturating_add(ticks(ping)));
        let message = (timeout > 0 && self.began > 0).then(|| self.began + ticks(timeout));
        [silent, due_ping, message].into_iter().flatten().min()
    }

    /// What liveness asks for at `tick`.
    pub fn check(&self, tick: u32) -> Check {
        let since = |then: u32| u64::from(tick.saturating_sub(then)) * TICK_MS;
        let (ping, timeout) = (self.location.ping_interval(), self.location.timeout());
        if timeout > 0 && since(self.heard) >= timeout {
            Check::Silent
        } else if timeout > 0 && self.began > 0 && since(self.began) >= timeout {
            Check::Unfinished
        } else if ping > 0 && !self.pinged && since(self.heard) >= ping {
            Check::Ping
        } else {
            Check::Alive
        }
    }
}

/// A panic in a session, for the test that it costs that session only.
#[cfg(feature = "test-panic")]
pub fn panic_if_asked(inbox: &Inbox, input: &[u8]) {
    assert!(
        !inbox.bodies(input).any(|body| body == b"panic, please"),
        "asked for by a client"
    );
}

/// What [`Session::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing to do.
    Alive,
    /// Silent for `websocket_ping_interval`.
    Ping,
    /// Silent for `websocket_timeout`.
    Silent,
    /// A message that began `websocket_timeout` ago has not ended.
    Unfinished,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(ping_ms: u64, timeout_ms: u64) -> Session {
        let location = Location {
            ping_interval: Some(ping_ms),
            timeout: Some(timeout_ms),
            ..Location::default()
        };
        Session::new(Box::leak(Box::new(location)), None, 10)
    }

    #[test]
    fn a_session_fits_the_spare_room_of_its_connection_pool() {
        // nginx's part of a seat takes 16 bytes more.
        assert!(size_of::<Session>() <= 96, "{}", size_of::<Session>());
    }

    #[test]
    fn a_silent_client_is_pinged_once_then_given_up() {
        let mut session = session(1_000, 3_000);
        assert_eq!(session.next_check(10), Some(20));
        assert_eq!(session.check(19), Check::Alive);
        assert_eq!(session.check(20), Check::Ping);
        session.pinged = true;
        assert_eq!(session.next_check(20), Some(30));
        assert_eq!(session.next_check(30), Some(40));
        assert_eq!(session.check(39), Check::Alive);
        assert_eq!(session.check(40), Check::Silent);
        session.note_alive(39);
        assert_eq!(session.check(40), Check::Alive);
    }

    #[test]
    fn a_message_that_never_ends_is_given_up_though_its_frames_do() {
        let mut session = session(0, 3_000);
        session.began = 15;
        session.note_alive(44);
        assert_eq!(session.check(44), Check::Alive);
        assert_eq!(session.check(45), Check::Unfinished);
    }

    #[test]
    fn nothing_is_watched_when_both_times_are_0() {
        let session = session(0, 0);
        assert_eq!(session.next_check(10), None);
        assert_eq!(session.check(u32::MAX), Check::Alive);
    }
}
