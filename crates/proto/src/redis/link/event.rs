//! Events of a link.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::subscriptions::Outcome;

/// The token for the publish that [`Event::Probe`] requests.
pub const PROBE_TOKEN: u64 = u64::MAX;
/// How the reason of [`Event::NotPublished`] begins when the link was lost.
pub const LINK_LOST: &str = "link lost";

/// The purpose of a link. In RESP2 a connection that subscribes can do little else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It subscribes and receives messages.
    Subscriber,
    /// It publishes.
    Publisher,
}

/// Why a message was not accepted for publishing.
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
    /// Open a socket now, then call `handle_connected` or `handle_disconnected`.
    Connect,
    /// Close the socket. The link has already scheduled the next connection.
    Disconnect {
        /// What is wrong with the connection.
        cause: Cow<'a, str>,
    },
    /// The link is usable: one log line.
    Up {
        /// Milliseconds since the link was found down. `None` at the start.
        was_down_for: Option<u64>,
    },
    /// The link was lost, or the first attempt failed: one log line. Later attempts are silent.
    Down {
        /// Why.
        cause: Cow<'a, str>,
    },
    /// A problem that an operator should fix. The link continues: one log line.
    Warning {
        /// What the problem is.
        reason: String,
    },
    /// The server has confirmed a subscription. This is repeated after each reconnect.
    Confirmed {
        /// The caller's id of the name.
        channel: u32,
    },
    /// The server refuses a name. The name is requested again when it is subscribed again, and
    /// after a reconnect. The caller gives it up with `unsubscribe`.
    Refused {
        /// The caller's id of the name.
        channel: u32,
        /// The server's error text.
        reason: String,
    },
    /// The link has forgotten a name that was unsubscribed. The id may now be used for another
    /// name. Each name ends with this event, once.
    Released {
        /// The caller's id of the name.
        channel: u32,
    },
    /// All names that were confirmed before the link was lost are confirmed or refused again.
    Restored {
        /// Messages published during this time, in milliseconds, may have been missed.
        gap_ms: u64,
    },
    /// A message. Names that are being unsubscribed may still receive some.
    Message {
        /// The caller's id of the channel, or of the pattern that matched.
        channel: u32,
        /// The channel it was published to.
        name: &'a [u8],
        /// The pattern that matched.
        pattern: Option<&'a [u8]>,
        /// The published payload.
        payload: &'a [u8],
    },
    /// The server has taken a message.
    Published {
        /// The caller's token.
        token: u64,
        /// How many connections (not clients) it was delivered to.
        receivers: i64,
    },
    /// The server has refused a message, or the link was lost before the answer. In the latter case
    /// the message may or may not have been published.
    NotPublished {
        /// The caller's token.
        token: u64,
        /// The server's error text, or how the link was lost.
        reason: String,
    },
    /// Publish this with [`PROBE_TOKEN`] through the publisher link to the same server, and report
    /// the outcome with `handle_probe_reply`.
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
