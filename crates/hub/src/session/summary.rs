//! The figures of a client's session.

use super::life::Life;
use super::state::Session;

/// The figures of a client's session, for variables.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Its channels, separated by commas.
    pub channel: Vec<u8>,
    /// The close code; 0 if there is none yet.
    pub close_code: u16,
    /// Whole messages received.
    pub messages_in: u64,
    /// Messages sent, including those of its feed.
    pub messages_out: u64,
    /// Bytes received after the handshake.
    pub bytes_in: u64,
    /// Bytes sent after the handshake.
    pub bytes_out: u64,
    /// Milliseconds since the 101.
    pub duration_ms: u64,
}

impl Session {
    /// Its figures so far, without those of its feed.
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

    /// Counts messages and bytes received, for the log.
    pub fn note_in(&mut self, messages: u64, bytes: u64) {
        if let Some(notes) = &mut self.notes {
            notes.messages_in += messages;
            notes.bytes_in += bytes;
        }
    }

    /// Counts messages and bytes sent, for the log.
    pub fn note_out(&mut self, messages: u64, bytes: u64) {
        if let Some(notes) = &mut self.notes {
            notes.messages_out += messages;
            notes.bytes_out += bytes;
        }
    }

    /// Whether it is the publisher with this life.
    pub fn is_publisher(&self, life: Life) -> bool {
        self.notes
            .as_ref()
            .is_some_and(|notes| notes.is_publisher(life))
    }

    /// A message of the client with this life was not published. True if it is the first one.
    pub fn note_unpublished(&mut self, life: Life) -> bool {
        let notes = self.notes.as_mut().filter(|notes| notes.is_publisher(life));
        notes.is_some_and(|notes| !std::mem::replace(&mut notes.is_untold, true))
    }

    /// See [`Notes::life`](super::notes::Notes::life).
    pub fn life(&self) -> Life {
        self.notes
            .as_ref()
            .map_or_else(Life::default, |notes| notes.life)
    }
}
