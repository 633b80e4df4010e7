//! A client's life in numbers.

use super::life::Life;
use super::state::Session;

/// A client's life in numbers, for variables.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Its channels, with commas.
    pub channel: Vec<u8>,
    /// 0: none yet.
    pub close_code: u16,
    /// Whole messages received.
    pub messages_in: u64,
    /// Messages sent, its feed's included.
    pub messages_out: u64,
    /// Bytes received after the handshake.
    pub bytes_in: u64,
    /// Bytes sent after the handshake.
    pub bytes_out: u64,
    /// Milliseconds since the 101.
    pub duration_ms: u64,
}

impl Session {
    /// Its numbers so far, without what its feed has sent.
    pub fn summary(&self, now: u64) -> Summary {
        let mut summary = Summary {
            close_code: self.close_code,
            ..Summary::default()
        };
        if let Some(notes) = &self.notes {
            summary.channel.clone_from(&notes.channel);
            summary.messages_in = notes.messages_in;
            summary.bytes_in = notes.bytes_in;
            summary.messages_out = notes.messages_out;
            summary.bytes_out = notes.bytes_out;
            summary.duration_ms = now.saturating_sub(notes.since_ms);
        }
        summary
    }

    /// Notes for its log that it has sent so many whole messages, or bytes.
    pub fn note_in(&mut self, messages: u64, bytes: u64) {
        if let Some(notes) = &mut self.notes {
            notes.messages_in += messages;
            notes.bytes_in += bytes;
        }
    }

    /// Notes for its log that it was sent so many messages, or bytes.
    pub fn note_out(&mut self, messages: u64, bytes: u64) {
        if let Some(notes) = &mut self.notes {
            notes.messages_out += messages;
            notes.bytes_out += bytes;
        }
    }

    /// It is the client of this life, which publishes.
    pub fn is_publisher(&self, life: Life) -> bool {
        self.notes
            .as_ref()
            .is_some_and(|notes| notes.is_publisher(life))
    }

    /// A message of the client of this life was not published. True if that is its first.
    pub fn note_unpublished(&mut self, life: Life) -> bool {
        let notes = self.notes.as_mut().filter(|notes| notes.is_publisher(life));
        notes.is_some_and(|notes| !std::mem::replace(&mut notes.is_untold, true))
    }

    /// See [`Notes::life`].
    pub fn life(&self) -> Life {
        self.notes
            .as_ref()
            .map_or_else(Life::default, |notes| notes.life)
    }
}
