//! Settings of the whole worker.

use std::sync::Arc;

use proto::redis::Server;

use super::values::Fraction;

crate::declare_settings! {
    /// Values for the whole worker; `None` is "not set".
    pub struct Main {
        /// Distinct servers, in the order of their first mention.
        pub brokers: Vec<Arc<Server>>,
        /// A log uses a variable whose value is known only when a client leaves.
        pub logs_the_end: bool,
        /// A log, or anything else, uses a client's channel.
        pub names_channels: bool,
        /// Each NAME of a `$websocket_arg_NAME` in the configuration.
        pub arguments: Vec<Vec<u8>>,
    }

    /// The directives of these settings.
    pub enum MainSetting {
        /// Bytes that a worker may hold for all its clients.
        Memory = c"websocket_memory" => memory: u64 as bytes = 256 << 20;
        /// The part of all connections that is kept free for HTTP.
        Reserve = c"websocket_reserve" => reserve: Fraction as text = Fraction { part: 1, whole: 16 };
        /// Handshakes that may wait for Redis at the same time.
        MaxPending = c"websocket_max_pending" => max_pending: usize as text = 1000;
    }
}

impl Main {
    /// Connections out of `total` that are kept free for HTTP.
    pub fn reserved(&self, total: usize) -> usize {
        let Fraction { part, whole } = self.reserve();
        (total as u64 * part / whole) as usize
    }
}
