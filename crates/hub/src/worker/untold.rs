//! Clients whose message was not published. Each is told once, by its Close.

use std::collections::VecDeque;

use fanout::ClientId;

use crate::session::{Life, Unpublished};

/// The clients not told yet, with the reason; each at most once.
#[derive(Default)]
pub(super) struct Untold(VecDeque<(ClientId, Life, Unpublished)>);

impl Untold {
    /// Adds a client that must be told.
    pub(super) fn push(&mut self, client: (ClientId, Life, Unpublished)) {
        self.0.push_back(client);
    }

    /// Takes the client that has waited longest.
    pub(super) fn pop(&mut self) -> Option<(ClientId, Life, Unpublished)> {
        self.0.pop_front()
    }

    /// Whether all have been told.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
