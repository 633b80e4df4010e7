//! The order in which clients are treated when memory is short.

use std::collections::BinaryHeap;

use crate::types::ClientId;

/// Who may be treated, in the order of treatment.
///
/// Who holds more comes first, but not to the byte: of those who hold about as much, those within a
/// frame come by how long they took nothing; then the sharers of a log come together, since it is
/// freed when the last of them has left it. A client within a frame can only be cut off. So it comes
/// last where its policy takes messages, and where it has not stopped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behind {
    pub(super) magnitude: u32,
    pub(super) in_frame: bool,
    /// Milliseconds without progress, or a feed.
    pub(super) group: u32,
    pub(super) bytes: u64,
    pub(super) client: u32,
}

/// A client that holds much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Furthest {
    /// It lags: its policy frees something by `Registry::treat`.
    Lags(ClientId),
    /// It has begun a large frame. That is freed only if the client leaves, and is not sent the rest.
    InFrame(ClientId),
}

/// Rounds over all who hold something, from when memory gets short until it no longer is.
#[derive(Default)]
pub(super) struct Shortage {
    /// Who is still to be named in the round under way.
    pub(super) listed: BinaryHeap<Behind>,
    /// Bytes that the round under way has freed. `None`: there is none.
    pub(super) freed: Option<u64>,
    /// Bytes that were held when the last one was named: what is missing now, its treatment freed.
    pub(super) held_before: u64,
    /// Bytes that were held when a round had been in vain, or less since.
    pub(super) in_vain_at: Option<u64>,
    /// For tests: clients and feeds looked at.
    pub(super) looks: u64,
}

impl Shortage {
    /// So much is held now.
    pub(super) fn note(&mut self, held: u64) {
        if let Some(at) = &mut self.in_vain_at {
            *at = held.min(*at);
        }
    }
}
