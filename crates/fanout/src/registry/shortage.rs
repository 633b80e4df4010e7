//! The order in which clients are treated when memory is short.

use std::collections::BinaryHeap;

use crate::types::ClientId;

/// A client that may be treated, in the order of treatment.
///
/// Clients that hold more come first, by powers of two. Among those of one magnitude, clients
/// within a frame come first, the longest without progress at the head. Then the laggards of one
/// feed come together, since a log is freed when the last of them has left it.
///
/// A client within a frame can only be cut off. So it comes last if its policy skips messages, or
/// if it has not stopped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behind {
    pub(super) magnitude: u32,
    pub(super) in_frame: bool,
    /// Milliseconds without progress if it is within a frame, else the feed.
    pub(super) group: u32,
    pub(super) bytes: u64,
    pub(super) client: u32,
}

/// A client that holds much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Furthest {
    /// It lags: `Registry::treat` applies its policy, which frees memory.
    Lags(ClientId),
    /// It has been sent a part of a large frame. That is freed only if the client leaves and is not
    /// sent the rest.
    InFrame(ClientId),
}

/// Rounds over all clients that hold memory, from when memory gets short until it no longer is.
#[derive(Default)]
pub(super) struct Shortage {
    /// Clients still to be named in the current round.
    pub(super) listed: BinaryHeap<Behind>,
    /// Bytes that the current round has freed; `None` if there is no round.
    pub(super) freed: Option<u64>,
    /// Bytes held when the last client was named. The difference to what is held now was freed by
    /// its treatment.
    pub(super) held_before: u64,
    /// Bytes held when a round ended in vain, or the least held since then.
    pub(super) in_vain_at: Option<u64>,
    /// For tests: clients and feeds looked at.
    pub(super) looks: u64,
}

impl Shortage {
    /// Notes that `held` bytes are held now.
    pub(super) fn note(&mut self, held: u64) {
        if let Some(at) = &mut self.in_vain_at {
            *at = held.min(*at);
        }
    }
}
