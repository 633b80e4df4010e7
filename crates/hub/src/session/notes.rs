//! What only some sessions need.

use super::life::Life;

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
