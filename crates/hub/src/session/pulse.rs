//! How a client gets on: its signs of life, and the pace of what is under way.
//!
//! Time is counted in ticks of [`TICK_MS`] since the worker began; from 1 on, so that
//! 0 means "nothing is under way". Bytes wrap at 4 GiB, as only differences are of interest.

/// Precision of a session's own clock, in milliseconds.
pub const TICK_MS: u64 = 100;

/// What is under way has to get on by so many bytes a second: a message that comes, a Close that waits
/// for what is before it to be taken.
pub const PACE: u64 = 1_024;

/// When a client was heard last, and since when it is measured what is under way.
pub struct Pulse {
    heard: u32,
    /// 0: nothing is under way.
    measured_at: u32,
    /// What had come of a message then, or what was left for the client to take.
    measured: u32,
    is_pinged: bool,
}

impl Pulse {
    /// Of a client that has just come.
    pub fn new(tick: u32) -> Pulse {
        Pulse {
            heard: tick,
            measured_at: 0,
            measured: 0,
            is_pinged: false,
        }
    }

    /// It has sent something, or taken bytes that its socket had refused before.
    pub fn note_alive(&mut self, tick: u32) {
        self.heard = tick;
        self.is_pinged = false;
    }

    /// It is asked for a sign of life: it has until then for it, and `ticks` ago it was heard.
    pub fn note_pinged(&mut self, ticks: u32, tick: u32) {
        self.is_pinged = true;
        // A worker that was held up asks late, and that is not the client's fault.
        self.heard = self.heard.max(tick.saturating_sub(ticks));
    }

    /// Something begins to be under way, or its time begins anew, with `bytes` of it.
    pub fn measure(&mut self, bytes: u64, tick: u32) {
        self.measured_at = tick.max(1);
        self.measured = bytes as u32;
    }

    /// Nothing is under way any more.
    pub fn rest(&mut self) {
        self.measured_at = 0;
    }

    /// When it was heard last.
    pub fn heard(&self) -> u32 {
        self.heard
    }

    /// It was asked for a sign of life and has given none.
    pub fn is_pinged(&self) -> bool {
        self.is_pinged
    }

    /// Since when it is measured what is under way, if anything is.
    pub fn measured_at(&self) -> Option<u32> {
        (self.measured_at > 0).then_some(self.measured_at)
    }

    /// A message has come on well since it was measured, when there were fewer than these `bytes`.
    pub fn comes_on(&self, bytes: u64, tick: u32) -> bool {
        self.is_on_pace((bytes as u32).wrapping_sub(self.measured), tick)
    }

    /// A client has taken enough since it was measured, when there were more left than these `bytes`.
    pub fn goes_off(&self, bytes: u64, tick: u32) -> bool {
        let left = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.is_on_pace(self.measured.saturating_sub(left), tick)
    }

    fn is_on_pace(&self, bytes: u32, tick: u32) -> bool {
        let ms = u64::from(tick.saturating_sub(self.measured_at)) * TICK_MS;
        u64::from(bytes) * 1_000 >= ms * PACE
    }
}
