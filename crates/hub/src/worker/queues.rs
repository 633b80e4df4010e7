//! Clients that wait: for their turn to be read, or for space at Redis.

use fanout::{ClientId, Queue};

use crate::session::work;
use crate::settings::Location;

/// The queue of clients that wait for a turn, and the work that this round has left for them.
pub(super) struct Turns {
    left: usize,
    queue: Queue,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            left: work::ROUND,
            queue: Queue::default(),
        }
    }
}

impl Turns {
    /// Whether a client may be read at once.
    pub(super) fn is_free(&self) -> bool {
        self.left > 0 && self.queue.is_empty()
    }

    /// Work was done for a client.
    pub(super) fn spend(&mut self, work: usize) {
        self.left = self.left.saturating_sub(work);
    }

    /// Takes the first client of the queue, if this round has work left.
    pub(super) fn next(&mut self) -> Option<ClientId> {
        if self.left == 0 {
            return None;
        }
        self.queue.pop()
    }

    /// The next round of the event loop has begun.
    pub(super) fn begin(&mut self) {
        self.left = work::ROUND;
    }

    /// Adds a client.
    pub(super) fn push(&mut self, id: ClientId) {
        self.queue.push(id);
    }

    /// Whether no client waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Removes a client that has left.
    pub(super) fn forget(&mut self, id: ClientId) {
        self.queue.remove(id);
    }

    /// Whether a client waits.
    pub(super) fn contains(&self, id: ClientId) -> bool {
        self.queue.contains(id)
    }
}

/// The clients that wait for each Redis.
pub(super) struct Paused(Vec<Queue>);

impl Paused {
    /// Empty queues.
    pub(super) fn new(brokers: usize) -> Paused {
        Paused((0..brokers).map(|_| Queue::default()).collect())
    }

    /// Whether no client waits for this Redis.
    pub(super) fn is_empty(&self, broker: usize) -> bool {
        self.0[broker].is_empty()
    }

    /// Whether a client of this location waits.
    pub(super) fn contains(&self, id: ClientId, location: &Location) -> bool {
        let broker = location.redis.map(usize::from);
        broker.is_some_and(|broker| self.0[broker].contains(id))
    }

    /// Removes a client of this location that has left. Returns whether it waited.
    pub(super) fn forget(&mut self, id: ClientId, location: &Location) -> bool {
        let broker = location.redis.map(usize::from);
        broker.is_some_and(|broker| self.0[broker].remove(id))
    }

    /// Adds a client that waits for this Redis.
    pub(super) fn push(&mut self, id: ClientId, broker: u16) {
        self.0[usize::from(broker)].push(id);
    }

    /// The client that has waited longest for this Redis.
    pub(super) fn first(&self, broker: usize) -> Option<ClientId> {
        self.0[broker].first()
    }

    /// Removes the client that has waited longest for this Redis.
    pub(super) fn pop(&mut self, broker: usize) {
        self.0[broker].pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_others_wait_is_not_read_before_them() {
        let mut turns = Turns::default();
        assert!(turns.is_free());
        turns.spend(work::ROUND + 1);
        assert!(!turns.is_free());
        (1..4).for_each(|id| turns.push(ClientId(id)));
        assert_eq!(turns.next(), None, "nothing is left of this round");
        turns.left = work::ROUND;
        assert!(!turns.is_free());
        turns.forget(ClientId(2));
        assert_eq!(turns.next(), Some(ClientId(1)));
        turns.spend(work::ROUND - 1);
        assert_eq!(turns.next(), Some(ClientId(3)));
        assert!(turns.is_free());
    }
}
