//! A queue of clients that wait for something, first come first served.
//!
//! Ids are dense numbers that are reused: a client that leaves is removed at once, so that no other
//! client inherits its place. The queue is a doubly linked list, threaded by index through one
//! array of 8-byte entries. The array is as long as the highest id that has ever waited.

use crate::types::ClientId;

const NONE: u32 = u32::MAX;
/// In `before`: the client is not in the queue.
const OUT: u32 = u32::MAX - 1;

#[derive(Clone, Copy)]
struct Place {
    before: u32,
    behind: u32,
}

const NO_PLACE: Place = Place {
    before: OUT,
    behind: NONE,
};

/// Clients in the order in which they came, each at most once. No operation takes longer with more
/// clients.
pub struct Queue {
    places: Vec<Place>,
    first: u32,
    last: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            places: Vec::new(),
            first: NONE,
            last: NONE,
        }
    }
}

impl Queue {
    /// Adds the client at the end, unless it is in the queue already.
    pub fn push(&mut self, client: ClientId) {
        if self.contains(client) {
            return;
        }
        let at = client.0 as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NO_PLACE);
        }
        self.places[at] = Place {
            before: self.last,
            behind: NONE,
        };
        match self.last {
            NONE => self.first = client.0,
            last => self.places[last as usize].behind = client.0,
        }
        self.last = client.0;
    }

    /// The client that has waited longest.
    pub fn first(&self) -> Option<ClientId> {
        (self.first != NONE).then_some(ClientId(self.first))
    }

    /// Removes and returns the client that has waited longest.
    pub fn pop(&mut self) -> Option<ClientId> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// Removes the client, wherever it stands. Returns whether it was in the queue.
    pub fn remove(&mut self, client: ClientId) -> bool {
        if !self.contains(client) {
            return false;
        }
        let place = std::mem::replace(&mut self.places[client.0 as usize], NO_PLACE);
        match place.before {
            NONE => self.first = place.behind,
            before => self.places[before as usize].behind = place.behind,
        }
        match place.behind {
            NONE => self.last = place.before,
            behind => self.places[behind as usize].before = place.before,
        }
        true
    }

    /// The client is in the queue.
    pub fn contains(&self, client: ClientId) -> bool {
        let place = self.places.get(client.0 as usize);
        place.is_some_and(|place| place.before != OUT)
    }

    /// No client is in the queue.
    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }
}
