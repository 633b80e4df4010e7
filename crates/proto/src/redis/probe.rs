//! Proof that published messages reach this link. A PING proves only a connection: after a failover
//! the publisher may be connected to the new master and the subscriber still to the old one.
//!
//! ```text
//!              tick                  PUBLISH answered
//!   Quiet ───────────> Given ──────────────────────────> Published
//!     ^                  │ heard, or not published        │ heard
//!     └──────────────────┴─────────────────────────────────┘
//! ```
//!
//! When the PUBLISH is answered, a PING (the fence) is sent behind it. In the stream, its answer
//! comes after the probe. So a worker that reads late is not taken for a link that delivers
//! nothing.

use bytes::Bytes;

/// The prefix of channels that links use for themselves. Clients must not name them, and pattern
/// matches on them are not delivered.
pub const PROBE_PREFIX: &[u8] = b"ngx_ws_probe:";

/// How long a published probe may stay unheard, in milliseconds.
const UNHEARD_MS: u64 = 5_000;

/// The probes of one subscriber link.
#[derive(Debug)]
pub struct Probe {
    channel: Bytes,
    round: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The server has not confirmed the probe's channel.
    Deaf,
    Quiet,
    Given,
    Published {
        until: u64,
        fence_passed: bool,
    },
    /// An ACL forbids the channel, so only PING is used.
    Forbidden,
}

impl Probe {
    /// Creates a probe whose channel is named by `identity`: 128 random bits, so that no two links
    /// share a channel.
    pub fn new(identity: u128) -> Self {
        let prefix = str::from_utf8(PROBE_PREFIX).unwrap_or_default();
        let channel = Bytes::from(format!("{prefix}{identity:032x}"));
        Self {
            channel,
            round: 0,
            state: State::Deaf,
        }
    }

    pub fn channel(&self) -> &Bytes {
        &self.channel
    }

    /// The connection is lost. A new one knows nothing of the old one's probes.
    pub fn handle_lost(&mut self) {
        self.state = State::Deaf;
    }

    pub fn handle_confirmed(&mut self) {
        self.state = State::Quiet;
    }

    pub fn handle_forbidden(&mut self) {
        self.state = State::Forbidden;
    }

    /// Begins the next round: returns what to publish, or `None` if no probe is possible now.
    pub fn next_round(&mut self) -> Option<Bytes> {
        match self.state {
            State::Deaf | State::Published { .. } | State::Forbidden => None,
            State::Quiet | State::Given => {
                self.round += 1;
                self.state = State::Given;
                Some(Bytes::from(self.round.to_string()))
            }
        }
    }

    /// The publisher's server has accepted the probe. Returns the round of the fence to send,
    /// unless the probe has already been heard.
    pub fn handle_published(&mut self, now: u64) -> Option<u64> {
        match self.state {
            State::Given => {
                self.state = State::Published {
                    until: now + UNHEARD_MS,
                    fence_passed: false,
                };
                Some(self.round)
            }
            _ => None,
        }
    }

    /// The publisher could not publish the probe, which proves nothing either way.
    pub fn handle_not_published(&mut self) {
        if let State::Given = self.state {
            self.state = State::Quiet;
        }
    }

    /// A probe was received.
    pub fn handle_heard(&mut self, payload: &[u8]) {
        let is_current = payload == self.round.to_string().as_bytes();
        if is_current && matches!(self.state, State::Given | State::Published { .. }) {
            self.state = State::Quiet;
        }
    }

    /// The fence of `round` was answered.
    pub fn handle_fence(&mut self, round: u64) {
        if let State::Published { fence_passed, .. } = &mut self.state {
            *fence_passed |= round == self.round;
        }
    }

    /// The caller has not read until now, so an unheard probe proves nothing yet.
    pub fn handle_unread(&mut self, now: u64) {
        if let State::Published { until, .. } = &mut self.state {
            *until = now + UNHEARD_MS;
        }
    }

    /// When an unheard probe proves that the link is broken.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Published {
                until,
                fence_passed: true,
            } => Some(until),
            _ => None,
        }
    }
}
