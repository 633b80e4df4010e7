//! Clients whose message Redis did not take: each is told, once, by its Close.

use std::collections::VecDeque;

use proto::redis::LINK_LOST;
use proto::websocket::close::CloseCode;

use super::Hub;
use crate::outside::{Clients, Level, Outside};
use crate::session::{Life, Notes};
use fanout::ClientId;

/// So many are told in one round of the event loop: a lost link may concern all clients.
const TELL_BUDGET: usize = 500;

/// Those that have not been told yet, with the reason; each once.
#[derive(Default)]
pub(super) struct Untold(VecDeque<(ClientId, Life, &'static str)>);

/// A reason for the client: it learns nothing of Redis's users and addresses.
fn reason_of(cause: &str) -> &'static str {
    if cause.starts_with("NOPERM") {
        "redis forbids the channel"
    } else if cause.starts_with(LINK_LOST) {
        "redis went away before it answered"
    } else {
        "redis refused the message"
    }
}

impl<O: Outside> Hub<O> {
    /// A message of this client was not published, for `cause`.
    pub(super) fn note_untold(&mut self, id: ClientId, life: Life, cause: &str) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let is_it = |notes: &&mut Box<Notes>| notes.is_publisher(life);
        let Some(notes) = session.notes.as_mut().filter(is_it) else {
            return;
        };
        if !std::mem::replace(&mut notes.is_untold, true) {
            self.untold.0.push_back((id, life, reason_of(cause)));
            self.turn = true;
        }
    }

    /// Closes some of those that have not been told.
    pub(super) fn tell_untold(&mut self) {
        for _ in 0..TELL_BUDGET {
            let Some((id, life, reason)) = self.untold.0.pop_front() else {
                return;
            };
            let session = self.clients.get(id).map(|(_, session)| session);
            let notes = session.and_then(|session| session.notes.as_ref());
            if notes.is_some_and(|notes| notes.is_publisher(life)) {
                self.close(id, CloseCode::TRY_AGAIN, reason, Level::Info);
            }
        }
        self.turn |= !self.untold.0.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_no_words_of_redis() {
        let cause = "NOPERM User guest has no permissions to access the 'x' channel";
        assert_eq!(reason_of(cause), "redis forbids the channel");
        assert_eq!(
            reason_of("OOM command not allowed"),
            "redis refused the message"
        );
        let cause = format!("{LINK_LOST}: connection closed by server");
        assert_eq!(reason_of(&cause), "redis went away before it answered");
    }
}
