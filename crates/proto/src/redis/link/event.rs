//! What a link tells.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::subscriptions::Outcome;

/// The token with which the caller publishes what [`Event::Probe`] asks for.
pub const PROBE_TOKEN: u64 = u64::MAX;
/// How the reason of [`Event::NotPublished`] begins where the link was lost.
pub const LINK_LOST: &str = "link lost";

/// What a link is for: in RESP2 a connection that subscribes can do little else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It subscribes, and messages come in.
    Subscriber,
    /// It publishes.
    Publisher,
}

/// Why a message was not taken for publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// The link is down.
    Away,
    /// [`MAX_UNSENT`](super::MAX_UNSENT) or [`MAX_UNANSWERED`](super::MAX_UNANSWERED) is reached.
    QueueFull,
}

/// What the caller must do or may want to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Open a socket now; then `handle_connected` or `handle_disconnected`.
    Connect,
    /// Close the socket; the link has scheduled the next one already.
    Disconnect {
        /// What is wrong with this connection.
        cause: Cow<'a, str>,
    },
    /// The link is usable: one log line.
    Up {
        /// Milliseconds since it was found down; `None` at the start.
        was_down_for: Option<u64>,
    },
    /// The link was lost, or the first attempt failed: one log line. Later attempts are silent.
    Down {
        /// Why.
        cause: Cow<'a, str>,
    },
    /// Something an operator should mend, though the link goes on: one log line.
    Warning {
        /// What.
        reason: String,
    },
    /// The server has confirmed a subscription; again after each reconnect.
    Confirmed {
        /// The caller's id of the name.
        channel: u32,
    },
    /// The server refuses a name. It is asked for again if it is subscribed again, and after a
    /// reconnect; the caller gives it up by `unsubscribe`.
    Refused {
        /// The caller's id of the name.
        channel: u32,
        /// The server's words.
        reason: String,
    },
    /// The link has forgotten a name that was unsubscribed: its id may name another one now.
    /// Each name ends so, once.
    Released {
        /// The caller's id of the name.
        channel: u32,
    },
    /// All that was confirmed before the link was lost is confirmed (or refused) again.
    Restored {
        /// Messages of this time, in milliseconds, may have been missed.
        gap_ms: u64,
    },
    /// A message. Names that are being unsubscribed still have some.
    Message {
        /// The caller's id of the channel, or of the pattern that matched.
        channel: u32,
        /// The channel it was published to.
        name: &'a [u8],
        /// The pattern that matched.
        pattern: Option<&'a [u8]>,
        /// What was published.
        payload: &'a [u8],
    },
    /// The server has taken a message.
    Published {
        /// The caller's.
        token: u64,
        /// How many connections (not clients) it was delivered to.
        receivers: i64,
    },
    /// The server has refused a message, or the link was lost before it said anything: then the
    /// message may have been published, or not.
    NotPublished {
        /// The caller's.
        token: u64,
        /// The server's words, or how the link was lost.
        reason: String,
    },
    /// Publish this by the publisher link to the same server, with [`PROBE_TOKEN`], and report
    /// the outcome by `handle_probe_reply`.
    Probe {
        /// The channel.
        channel: Bytes,
        /// The payload.
        payload: Bytes,
    },
}

pub(super) fn told(outcome: Outcome, reason: &str) -> Event<'static> {
    match outcome {
        Outcome::Confirmed { channel } => Event::Confirmed { channel },
        Outcome::Refused { channel } => Event::Refused {
            channel,
            reason: reason.to_owned(),
        },
        Outcome::Released { channel } => Event::Released { channel },
    }
}
