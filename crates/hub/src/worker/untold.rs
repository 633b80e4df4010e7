//! Clients whose message was not published: each is told, once, by its Close.

use std::collections::VecDeque;

use fanout::ClientId;

use crate::broker::Published;
use crate::session::Life;

/// Those that have not been told yet, with the reason; each once.
#[derive(Default)]
pub(super) struct Untold(VecDeque<(ClientId, Life, &'static str)>);

impl Untold {
    /// A client is to be told.
    pub(super) fn push(&mut self, client: (ClientId, Life, &'static str)) {
        self.0.push_back(client);
    }

    /// Who has waited longest.
    pub(super) fn pop(&mut self) -> Option<(ClientId, Life, &'static str)> {
        self.0.pop_front()
    }

    /// All have been told.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A reason for the client: it learns nothing of Redis's users and addresses.
pub(super) fn reason_of(outcome: &Published) -> &'static str {
    match outcome {
        Published::To(_) => "",
        Published::Forbidden(_) => "redis forbids the channel",
        Published::Lost(_) => "redis went away before it answered",
        Published::Refused(_) => "redis refused the message",
    }
}
