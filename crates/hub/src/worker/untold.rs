//! Clients whose message was not published: each is told, once, by its Close.

use std::collections::VecDeque;

use fanout::ClientId;

use crate::session::{Life, Unpublished};

/// Those that have not been told yet, with the reason; each once.
#[derive(Default)]
pub(super) struct Untold(VecDeque<(ClientId, Life, Unpublished)>);

impl Untold {
    /// A client is to be told.
    pub(super) fn push(&mut self, client: (ClientId, Life, Unpublished)) {
        self.0.push_back(client);
    }

    /// Who has waited longest.
    pub(super) fn pop(&mut self) -> Option<(ClientId, Life, Unpublished)> {
        self.0.pop_front()
    }

    /// All have been told.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
