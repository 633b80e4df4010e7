//! What `websocket_status` counts.

use serde::Serialize;

use crate::upgrade::refused::Refused;

/// Counters of a worker since its start.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Handshakes answered with 101.
    pub accepted: u64,
    /// Clients that have left.
    pub closed: u64,
    /// Whole messages from clients.
    pub messages_in: u64,
    /// Bytes from clients after the handshake.
    pub bytes_in: u64,
    /// Messages from Redis.
    pub redis_messages: u64,
    /// Messages for clients: each message once per client of its channels. What a client lost is
    /// counted in `skipped`, or by the counter of its close.
    pub messages_out: u64,
    /// Messages echoed.
    pub echoed: u64,
    /// Messages compressed: each once per level and window in use among the clients of its feeds.
    pub deflated: u64,
    /// Handshakes that got no permessage-deflate because there was no memory for contexts.
    pub contexts_declined: u64,
    /// Messages handed to Redis for clients and `websocket_publisher`.
    pub published: u64,
    /// Messages that Redis did not take, or may not have taken.
    pub publish_failed: u64,
    /// Messages dropped because `websocket_frame text` cannot carry them.
    pub not_text: u64,
    /// Messages dropped for the clients of one format because a bug of the module prevented their
    /// framing.
    pub unframed: u64,
    /// Messages from Redis that no client wanted any more.
    pub unwanted: u64,
    /// Messages that slow clients lost to `drop_oldest` or `latest`.
    pub skipped: u64,
    /// Slow clients closed.
    pub slow_closed: u64,
    /// Clients closed because they broke the protocol.
    pub protocol_errors: u64,
    /// Clients closed because they were silent, or their message came too slowly.
    pub timed_out: u64,
    /// Clients closed because messages may have been missed.
    pub gap_closed: u64,
    /// Times that messages may have been missed.
    pub gaps: u64,
    /// Clients closed because their worker exits.
    pub drained: u64,
    /// Clients closed because Redis's ACL forbids their channel.
    pub forbidden_closed: u64,
    /// Sessions ended by a bug of the module.
    pub panics: u64,
}

impl Counters {
    /// Messages that were dropped for the clients of some format.
    pub fn dropped(&self) -> u64 {
        self.not_text + self.unframed
    }
}

/// Refused handshakes, by reason.
#[derive(Debug, Default, Serialize)]
pub struct Refusals {
    /// Requests that the RFC does not allow.
    pub handshake: u64,
    /// `websocket_origin`.
    pub origin: u64,
    /// A channel's name.
    pub channel: u64,
    /// Redis's ACL.
    pub forbidden: u64,
    /// Subrequests, and failures of the module.
    pub internal: u64,
    /// `error_page` led to the location.
    pub error_page: u64,
    /// Posts to `websocket_publisher` that are invalid, or come from a foreign page.
    pub publish: u64,
    /// `websocket_max_pending`.
    pub max_pending: u64,
    /// `websocket_reserve`.
    pub reserve: u64,
    /// `websocket_memory`.
    pub memory: u64,
    /// The worker was about to exit.
    pub exiting: u64,
    /// Redis was away.
    pub redis_away: u64,
    /// Redis was too slow.
    pub redis_slow: u64,
}

impl Refusals {
    /// Counts one refusal. Returns the name of its counter and the new count.
    pub fn count(&mut self, refused: Refused) -> (&'static str, u64) {
        let (name, counter) = match refused {
            Refused::Handshake(_) => ("handshake", &mut self.handshake),
            Refused::Origin => ("origin", &mut self.origin),
            Refused::Channel(_) => ("channel", &mut self.channel),
            Refused::Forbidden => ("forbidden", &mut self.forbidden),
            Refused::Subrequest | Refused::Internal => ("internal", &mut self.internal),
            Refused::ErrorPage(_) => ("error_page", &mut self.error_page),
            Refused::Pending => ("max_pending", &mut self.max_pending),
            Refused::Reserve => ("reserve", &mut self.reserve),
            Refused::Memory => ("memory", &mut self.memory),
            Refused::Exiting => ("exiting", &mut self.exiting),
            Refused::BrokerAway => ("redis_away", &mut self.redis_away),
            Refused::BrokerSlow => ("redis_slow", &mut self.redis_slow),
        };
        *counter += 1;
        (name, *counter)
    }
}
