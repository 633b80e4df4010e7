//! The state of one client.

use proto::websocket::connection::Connection;
use proto::websocket::deflate::History;

use super::kept::Kept;
use super::life::Life;
use super::outbox::Outbox;
use super::pulse::{Pulse, TICK_MS};
use crate::outside::sockets::Io;
use crate::settings::Location;

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
/// nginx's part of a seat takes some of them.
pub struct Session {
    /// Parser of what the client sends.
    pub connection: Connection,
    /// How it is served.
    pub location: &'static Location,
    /// Own frames that the socket has not taken: pongs, echoes, Close.
    pub outbox: Option<Box<Outbox>>,
    /// Input that is not taken apart yet.
    pub kept: Option<Box<Kept>>,
    /// What only some clients have.
    pub notes: Option<Box<Notes>>,
    /// The end of its compressed messages, for the next to refer to; `None` before the first.
    pub history: Option<Box<History>>,
    /// How it gets on: while it is open its message under way, then its Close.
    pub pulse: Pulse,
    /// The close code for the log; 0 while there is none.
    pub close_code: u16,
    /// The window agreed for permessage-deflate, in bits; 0: not agreed.
    pub deflate_bits: u8,
    /// How much `history` keeps, in bits; 0: nothing.
    pub context_bits: u8,
    /// Where it stands.
    pub phase: Phase,
    /// Its 101 went out.
    pub opened: bool,
    /// Why its Close is due with the wheel's next call.
    pub leaving: Option<Leaving>,
    /// Messages for it may have been missed, and it is to be told.
    pub missed: bool,
    /// Reading waits for room: in its outbox, or at the publisher link.
    pub paused: bool,
    /// `websocket_notsent` has been told to its socket.
    bounded: bool,
    /// What has been told to its socket of input that is not read.
    width: Width,
}

/// How much of a client's input the kernel holds that is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    /// What it finds right.
    Open,
    /// What it found right when more had come than was read at once.
    Frozen,
    /// [`UNREAD`].
    Narrow,
}

/// Whose Close has gone out gets so long for its FIN, and again as long as what the kernel still has
/// for it is taken at [`pulse::PACE`]. So has one that was too slow for its Close.
pub const LINGER_MS: u64 = 2_000;

/// Who is told to go, and has yet to take what is before its Close, gets so long; and again as long as
/// that is taken at [`pulse::PACE`].
pub const PARTING_MS: u64 = 5_000;

/// What the kernel may hold of a client's input while the client is not read (`SO_RCVBUF`, which the
/// kernel takes twice, as it counts whole buffers). One read: who is read again finds work at once.
const UNREAD: usize = 64 << 10;

/// Most that is read at a time from a client whose messages may be compressed, beside what is missing
/// of a message begun: a byte may become a thousand.
const DEFLATED_READ: usize = 4 << 10;

/// What only some sessions need.
#[derive(Default)]
pub struct Notes {
    /// Where its messages are published.
    pub publish: Option<Box<[u8]>>,
    /// Which of its id's clients it is, if it publishes.
    pub life: Life,
    /// A message of it was not published, and its Close is to tell so.
    pub is_untold: bool,
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

impl Notes {
    /// It is the client of this life, which publishes. Only publishers are told apart by their lives.
    pub fn is_publisher(&self, life: Life) -> bool {
        self.publish.is_some() && self.life == life
    }
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
            kept: None,
            notes,
            history: None,
            pulse: Pulse::new(tick),
            close_code: 0,
            deflate_bits: 0,
            context_bits: 0,
            phase: Phase::Opening,
            opened: false,
            leaving: None,
            missed: false,
            paused: false,
            bounded: false,
            width: Width::Open,
        }
    }

    /// Heap that the memory account has to know: input not taken apart, a partial message, and frames
    /// not taken.
    pub fn held_bytes(&self) -> usize {
        self.connection.held_bytes()
            + self.outbox.as_ref().map_or(0, |outbox| outbox.held_bytes())
            + self.kept.as_ref().map_or(0, |kept| kept.held_bytes())
    }

    /// Heap of its context, which the account keeps apart.
    pub fn context_bytes(&self) -> usize {
        let history = self.history.as_ref();
        history.map_or(0, |history| history.held_bytes())
    }

    /// Its messages may be compressed, and are read.
    pub fn is_inflated(&self) -> bool {
        self.deflate_bits > 0 && self.location.takes_messages()
    }

    /// How much to read at once, at most `most`: of what may become much more, little.
    pub fn read_size(&self, most: usize) -> usize {
        if !self.is_inflated() {
            return most;
        }
        let missing = usize::try_from(self.connection.missing()).unwrap_or(most);
        missing.saturating_add(DEFLATED_READ).min(most)
    }

    /// It is not read though it may send: the kernel holds no more of that than [`UNREAD`].
    pub fn narrow(&mut self, io: &impl Io) {
        if self.width < Width::Narrow {
            self.width = Width::Narrow;
            io.bound_receive_buffer(UNREAD);
        }
    }

    /// It sends more than is read at once: what the kernel holds of that grows no more. An own system
    /// call, so a client that sends less does without.
    pub fn freeze(&mut self, io: &impl Io) {
        if self.width < Width::Frozen {
            self.width = Width::Frozen;
            io.bound_receive_buffer(usize::MAX);
        }
    }

    /// Before an open client is sent anything: the kernel holds no more of it than
    /// `websocket_notsent` says. An own system call, so a client that leaves before does without.
    pub fn bound(&mut self, io: &impl Io) {
        if self.phase == Phase::Open && !self.bounded {
            self.bounded = true;
            io.set_notsent_lowat(self.location.notsent());
        }
    }

    /// Echoes of so many bytes and more are compressed for it, if any are.
    pub fn compresses_echoes_from(&self) -> Option<usize> {
        let is_compressed = self.location.echo && self.deflate_bits > 0;
        is_compressed.then(|| self.location.deflate_min_length())
    }

    /// It is not read before it has taken what waits in its outbox.
    pub fn must_take_first(&self) -> bool {
        let outbox = self.outbox.as_ref();
        outbox.is_some_and(|outbox| outbox.blocks_reading())
    }

    /// Bytes that the client has yet to take: its own frames, and what the kernel holds for it.
    pub fn left(&self, io: &impl Io) -> u64 {
        let own = self.outbox.as_ref().map_or(0, |outbox| outbox.len());
        own as u64 + io.unacknowledged()
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

    /// See [`Notes::life`].
    pub fn life(&self) -> Life {
        self.notes
            .as_ref()
            .map_or_else(Life::default, |notes| notes.life)
    }

    /// Bytes came and were taken apart. `messages` of them ended in it, and `heard` says whether
    /// any frame did.
    pub fn note_input(&mut self, messages: u64, heard: bool, tick: u32) {
        self.pulse.note_alive(tick);
        let message = self.connection.message_bytes();
        if !self.connection.is_mid_message() {
            self.pulse.rest();
        } else if self.pulse.measured_at().is_none() || messages > 0 || (heard && message.is_none())
        {
            // What is under way began with these bytes.
            self.pulse.measure(0, tick);
        }
    }

    /// It is we who did not listen, or do not: the message under way has all its time again.
    pub fn forgive_message(&mut self, tick: u32) {
        if self.pulse.measured_at().is_some() {
            let bytes = self.connection.message_bytes().unwrap_or(0);
            self.pulse.measure(bytes, tick);
        }
    }

    /// When to look at it next after `tick`, in ticks: `None` when nothing is to be watched.
    pub fn next_check(&self, tick: u32) -> Option<u32> {
        let (ping, timeout) = (self.location.ping_interval(), self.location.timeout());
        let heard = self.pulse.heard();
        let silent = (timeout > 0).then(|| heard.saturating_add(ticks(timeout)));
        // A pong does not set the deadline anew: look again when the next ping may be due.
        let last = if self.pulse.is_pinged() { tick } else { heard };
        let due_ping = (ping > 0).then(|| last.saturating_add(ticks(ping)));
        let measured = self.pulse.measured_at().filter(|_| timeout > 0);
        let message = measured.map(|since| since.saturating_add(ticks(timeout)));
        [silent, due_ping, message].into_iter().flatten().min()
    }

    /// What liveness asks for at `tick`. Who is paused for the publisher is not to be asked about.
    pub fn check(&mut self, tick: u32) -> Check {
        let since = |then: u32| u64::from(tick.saturating_sub(then)) * TICK_MS;
        let (ping, timeout) = (self.location.ping_interval(), self.location.timeout());
        let silent = since(self.pulse.heard());
        let is_pinged = ping == 0 || self.pulse.is_pinged() || (timeout > 0 && ping >= timeout);
        if !is_pinged && silent >= ping {
            return Check::Ping;
        }
        if timeout > 0 && silent >= timeout {
            return Check::Silent;
        }
        let measured = self.pulse.measured_at().filter(|_| timeout > 0);
        if measured.is_some_and(|then| since(then) >= timeout) {
            let bytes = self.connection.message_bytes().unwrap_or(0);
            if !self.paused && !self.pulse.comes_on(bytes, tick) {
                return Check::Unfinished;
            }
            self.pulse.measure(bytes, tick);
        }
        Check::Alive
    }

    /// It is pinged, and has the rest of its `websocket_timeout` to answer.
    pub fn note_pinged(&mut self, tick: u32) {
        self.pulse
            .note_pinged(ticks(self.location.ping_interval()), tick);
    }
}

/// Milliseconds in ticks.
fn ticks(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2)
}

/// What [`Session::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing to do.
    Alive,
    /// Silent for `websocket_ping_interval`, or longer if nobody has looked.
    Ping,
    /// Silent for `websocket_timeout`.
    Silent,
    /// For `websocket_timeout` its message has come slower than [`pulse::PACE`].
    Unfinished,
}

#[cfg(test)]
mod tests {
    use super::super::inbox::Inbox;
    use super::super::pulse::PACE;
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
        session.note_pinged(20);
        assert_eq!(session.next_check(20), Some(30));
        assert_eq!(session.next_check(30), Some(40));
        assert_eq!(session.check(39), Check::Alive);
        assert_eq!(session.check(40), Check::Silent);
        session.pulse.note_alive(39);
        assert_eq!(session.check(40), Check::Alive);
    }

    #[test]
    fn a_client_that_was_not_pinged_in_time_is_pinged_late_and_has_its_time_to_answer() {
        let mut session = session(1_000, 3_000);
        assert_eq!(session.check(1_000), Check::Ping);
        session.note_pinged(1_000);
        assert_eq!(session.next_check(1_000), Some(1_010));
        assert_eq!(session.check(1_019), Check::Alive);
        assert_eq!(session.check(1_020), Check::Silent);
    }

    #[test]
    fn without_pings_silence_is_all_there_is() {
        let mut quiet = session(0, 3_000);
        assert_eq!(quiet.next_check(10), Some(40));
        assert_eq!(quiet.check(40), Check::Silent);
        let mut too_late = session(5_000, 3_000);
        assert_eq!(too_late.check(60), Check::Silent);
        let mut only_pings = session(1_000, 0);
        assert_eq!(only_pings.check(60), Check::Ping);
        only_pings.note_pinged(60);
        assert_eq!(only_pings.check(1_000_000), Check::Alive);
    }

    /// `bytes` of a masked binary frame that announces `announced`, at `tick`.
    fn hear(session: &mut Session, mut bytes: Vec<u8>, tick: u32) {
        let mut inbox = Inbox::default();
        inbox.fill(session, &mut bytes, &mut 0, None);
        assert!(inbox.end.is_none());
        session.note_input(inbox.messages, inbox.heard, tick);
    }

    fn header(first: u8, announced: u16) -> Vec<u8> {
        let [high, low] = announced.to_be_bytes();
        vec![first, 0xfe, high, low, 0, 0, 0, 0]
    }

    #[test]
    fn a_message_that_comes_drop_by_drop_is_given_up() {
        for beginning in [header(0x82, 60_000), header(0x82, 60_000)[..1].to_vec()] {
            let mut session = session(0, 3_000);
            hear(&mut session, beginning, 20);
            assert_eq!(session.next_check(20), Some(50));
            for tick in 21..50 {
                assert_eq!(session.check(tick), Check::Alive);
                let drop = if tick == 21 { 0xfd } else { 0x00 };
                hear(&mut session, vec![drop], tick);
            }
            assert_eq!(session.check(50), Check::Unfinished);
        }
    }

    #[test]
    fn a_message_is_measured_though_control_frames_come_between() {
        let mut session = session(0, 3_000);
        hear(
            &mut session,
            [&header(0x02, 200)[..], &[0; 200]].concat(),
            20,
        );
        for tick in 21..50 {
            hear(&mut session, vec![0x8a, 0x80, 0, 0, 0, 0], tick);
            assert_eq!(session.check(tick), Check::Alive);
        }
        assert_eq!(session.check(50), Check::Unfinished);
    }

    #[test]
    fn a_message_that_comes_steadily_has_its_time_again_and_again() {
        let mut session = session(0, 3_000);
        hear(&mut session, header(0x82, 60_000), 20);
        let mut checked = 0;
        for tick in 21..250 {
            hear(&mut session, vec![0; 110], tick);
            if session.next_check(tick) == Some(tick) {
                assert_eq!(session.check(tick), Check::Alive);
                checked += 1;
            }
        }
        assert!(checked > 5);
        // What has come does not count for ever.
        let stalled = (250..290).find(|&tick| {
            hear(&mut session, vec![0], tick);
            session.check(tick) == Check::Unfinished
        });
        assert!(stalled.is_some());
    }

    #[test]
    fn each_message_has_its_own_time() {
        let mut session = session(0, 3_000);
        let whole_and_begun = [&header(0x82, 200)[..], &[0; 200], &header(0x82, 200)].concat();
        hear(&mut session, header(0x82, 200), 20);
        hear(&mut session, vec![0; 200], 21);
        assert_eq!(session.pulse.measured_at(), None);
        hear(&mut session, header(0x82, 200), 22);
        hear(&mut session, [&[0; 200], &whole_and_begun[..]].concat(), 40);
        assert_eq!(session.pulse.measured_at(), Some(40));
        // Pings of which each read ends within one.
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        hear(&mut session, [&[0; 200], &ping[..3]].concat(), 50);
        for tick in 51..100 {
            hear(&mut session, [&ping[3..], &ping[..3]].concat(), tick);
            assert_eq!(session.check(tick), Check::Alive);
        }
    }

    #[test]
    fn while_it_is_we_who_pause_the_time_of_a_message_stands_still() {
        let mut session = session(0, 3_000);
        hear(&mut session, header(0x82, 200), 20);
        session.paused = true;
        session.pulse.note_alive(90);
        assert_eq!(session.check(90), Check::Alive);
        session.paused = false;
        session.forgive_message(100);
        session.pulse.note_alive(129);
        assert_eq!(session.check(129), Check::Alive);
        assert_eq!(session.check(130), Check::Unfinished);
    }

    #[test]
    fn what_is_left_for_a_client_has_to_go_at_its_pace() {
        let mut pulse = Pulse::new(10);
        pulse.measure(1_000_000, 10);
        assert!(pulse.goes_off(1_000_000 - 5 * PACE, 60));
        assert!(!pulse.goes_off(1_000_000 - 5 * PACE + 1, 60));
        // TLS adds to what is left.
        assert!(!pulse.goes_off(1_000_100, 60));
    }

    #[test]
    fn nothing_is_watched_when_both_times_are_0() {
        let mut session = session(0, 0);
        assert_eq!(session.next_check(10), None);
        assert_eq!(session.check(u32::MAX), Check::Alive);
    }
}
