//! What only some sessions need.

use super::life::Life;

/// What only some sessions need.
#[derive(Default)]
pub struct Notes {
    /// The channel that its messages are published to.
    pub publish: Option<Box<[u8]>>,
    /// Tells apart the clients that have had its id, if it publishes.
    pub life: Life,
    /// A message of the client was not published, and its Close will say so.
    pub is_untold: bool,
    /// Names of its channels, for the log.
    pub channel: Vec<u8>,
    /// When it began, in milliseconds of nginx's clock.
    pub since_ms: u64,
    /// Counters for the log.
    pub messages_in: u64,
    /// Control and echo frames, without those of its feed.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes of control and echo frames.
    pub bytes_out: u64,
}

impl Notes {
    /// Whether it is the publisher with this life. Only publishers are told apart by their lives.
    pub fn is_publisher(&self, life: Life) -> bool {
        self.publish.is_some() && self.life == life
    }
}
