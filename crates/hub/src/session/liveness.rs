//! Whether a client is alive and makes progress.

use super::pulse::TICK_MS;
use super::state::Session;
use crate::outside::sockets::Io;

/// How long a client whose Close has been sent gets for its FIN. It gets the same time again as
/// long as it takes what the kernel still holds for it at [`PACE`](super::pulse::PACE). A client that was too
/// slow gets this time for its Close, too.
pub const LINGER_MS: u64 = 2_000;

/// How long a client that is told to leave gets to take what precedes its Close. It gets the same
/// time again as long as it takes that at [`PACE`](super::pulse::PACE).
pub const PARTING_MS: u64 = 5_000;

impl Session {
    /// The client sent something, or took bytes that its socket had refused before.
    pub fn note_alive(&mut self, tick: u32) {
        self.pulse.note_alive(tick);
    }

    /// Starts to measure how fast the client takes what is `left`.
    pub fn measure_left(&mut self, left: u64, tick: u32) {
        self.pulse.measure(left, tick);
    }

    /// Whether the client has taken enough since the measurement started.
    pub fn goes_off(&self, io: &impl Io, tick: u32) -> bool {
        self.pulse.goes_off(self.left(io), tick)
    }

    /// Bytes arrived and were parsed. They completed this many `messages`; `heard` says whether
    /// they completed any frame.
    pub fn note_input(&mut self, messages: u64, heard: bool, tick: u32) {
        self.pulse.note_alive(tick);
        let message = self.connection.message_bytes();
        if !self.connection.is_mid_message() {
            self.pulse.rest();
        } else if self.pulse.measured_at().is_none() || messages > 0 || (heard && message.is_none())
        {
            // The message under way began with these bytes.
            self.pulse.measure(0, tick);
        }
    }

    /// The pause is ours, not the client's: the message under way gets its full time again.
    pub(super) fn forgive_message(&mut self, tick: u32) {
        if self.pulse.measured_at().is_some() {
            let bytes = self.connection.message_bytes().unwrap_or(0);
            self.pulse.measure(bytes, tick);
        }
    }

    /// When to check the session next after `tick`, in ticks; `None` if there is nothing to watch.
    pub fn next_check(&self, tick: u32) -> Option<u32> {
        let (ping, timeout) = (self.location.ping_interval(), self.location.timeout());
        let heard = self.pulse.heard();
        let silent = (timeout > 0).then(|| heard.saturating_add(ticks(timeout)));
        // A pong does not move the deadline: check again when the next ping may be due.
        let last = if self.pulse.is_pinged() { tick } else { heard };
        let due_ping = (ping > 0).then(|| last.saturating_add(ticks(ping)));
        let measured = self.pulse.measured_at().filter(|_| timeout > 0);
        let message = measured.map(|since| since.saturating_add(ticks(timeout)));
        [silent, due_ping, message].into_iter().flatten().min()
    }

    /// What is due at `tick`. Must not be called for a client that is paused for the publisher.
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
            if !self.is_paused && !self.pulse.comes_on(bytes, tick) {
                return Check::Unfinished;
            }
            self.pulse.measure(bytes, tick);
        }
        Check::Alive
    }

    /// A ping was sent. The client has the rest of its `websocket_timeout` to answer.
    pub fn note_pinged(&mut self, tick: u32) {
        self.pulse
            .note_pinged(ticks(self.location.ping_interval()), tick);
    }
}

/// Converts milliseconds to ticks.
fn ticks(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2)
}

/// The result of [`Session::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing to do.
    Alive,
    /// Silent for `websocket_ping_interval`, or longer if the check was late.
    Ping,
    /// Silent for `websocket_timeout`.
    Silent,
    /// The client's message came slower than [`PACE`](super::pulse::PACE) for `websocket_timeout`.
    Unfinished,
}

#[cfg(test)]
mod tests {
    use super::super::inbox::Inbox;
    use super::super::pulse::{PACE, Pulse};
    use super::*;
    use crate::settings::Location;

    fn session(ping_ms: u64, timeout_ms: u64) -> Session {
        let location = Location {
            ping_interval: Some(ping_ms),
            timeout: Some(timeout_ms),
            ..Location::default()
        };
        Session::new(Box::leak(Box::new(location)), None, None, 10)
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
        // What has arrived does not count forever.
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
        // Pings, cut so that each read ends within one.
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
        session.is_paused = true;
        session.pulse.note_alive(90);
        assert_eq!(session.check(90), Check::Alive);
        session.is_paused = false;
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
