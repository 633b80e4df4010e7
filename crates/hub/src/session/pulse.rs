//! How a client gets on: its signs of life, and the pace of what is under way.
//!
//! Time is counted in ticks of [`TICK_MS`] since the worker started. Ticks start at 1, so that 0
//! means "nothing is under way". Byte counts wrap at 4 GiB; only differences matter.

/// Resolution of a session's clock, in milliseconds.
pub const TICK_MS: u64 = 100;

/// The least progress in bytes per second: of a message that arrives, and of a client that takes
/// what precedes its Close.
pub const PACE: u64 = 1_024;

/// When a client was last heard, and since when the transfer under way is measured.
pub struct Pulse {
    heard: u32,
    /// 0: nothing is under way.
    measured_at: u32,
    /// Bytes of the message that had arrived then, or bytes that the client still had to take.
    measured: u32,
    is_pinged: bool,
}

impl Pulse {
    /// The pulse of a new client.
    pub fn new(tick: u32) -> Pulse {
        Pulse {
            heard: tick,
            measured_at: 0,
            measured: 0,
            is_pinged: false,
        }
    }

    /// The client sent something, or took bytes that its socket had refused before.
    pub fn note_alive(&mut self, tick: u32) {
        self.heard = tick;
        self.is_pinged = false;
    }

    /// A sign of life is asked for. The client counts as heard no earlier than `ticks` ago, so that
    /// it has the rest of its timeout to answer.
    pub fn note_pinged(&mut self, ticks: u32, tick: u32) {
        self.is_pinged = true;
        // If a held-up worker asks late, that is not the client's fault.
        self.heard = self.heard.max(tick.saturating_sub(ticks));
    }

    /// Starts a measurement, or restarts it, at `bytes`.
    pub fn measure(&mut self, bytes: u64, tick: u32) {
        self.measured_at = tick.max(1);
        self.measured = bytes as u32;
    }

    /// Ends the measurement: nothing is under way any more.
    pub fn rest(&mut self) {
        self.measured_at = 0;
    }

    /// When the client was last heard.
    pub fn heard(&self) -> u32 {
        self.heard
    }

    /// Whether a sign of life was asked for and has not come.
    pub fn is_pinged(&self) -> bool {
        self.is_pinged
    }

    /// Since when the transfer under way is measured; `None` if there is none.
    pub fn measured_at(&self) -> Option<u32> {
        (self.measured_at > 0).then_some(self.measured_at)
    }

    /// Whether a message that has now reached `bytes` came fast enough since the measurement
    /// started.
    pub fn comes_on(&self, bytes: u64, tick: u32) -> bool {
        self.is_on_pace((bytes as u32).wrapping_sub(self.measured), tick)
    }

    /// Whether a client that still has to take `bytes` took enough since the measurement started.
    pub fn goes_off(&self, bytes: u64, tick: u32) -> bool {
        let left = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.is_on_pace(self.measured.saturating_sub(left), tick)
    }

    fn is_on_pace(&self, bytes: u32, tick: u32) -> bool {
        let ms = u64::from(tick.saturating_sub(self.measured_at)) * TICK_MS;
        u64::from(bytes) * 1_000 >= ms * PACE
    }
}
