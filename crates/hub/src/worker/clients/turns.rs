//! Whose turn it is to be read.
//!
//! As long as one round of the event loop has work left for all who send, each is read when its
//! socket says so. Then they queue. The first in the queue is read first, once all other sockets have
//! been looked at, and goes to the end of the queue if it sends more. So a client that sends little
//! waits for each of those that send much no longer than one [turn](work::TURN).

use fanout::Queue;

use fanout::ClientId;

use crate::answer::Effect;
use crate::outside::Outside;
use crate::session::work;
use crate::worker::Hub;

/// The queue of those who wait, and what this round has left for them.
pub(in crate::worker) struct Turns {
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
    /// A client may be read at once.
    pub(super) fn is_free(&self) -> bool {
        self.left > 0 && self.queue.is_empty()
    }

    /// So much was done for a client.
    pub(super) fn spend(&mut self, work: usize) {
        self.left = self.left.saturating_sub(work);
    }

    /// The first in the queue, if this round has something left.
    fn next(&mut self) -> Option<ClientId> {
        if self.left == 0 {
            return None;
        }
        self.queue.pop()
    }

    /// A client has left.
    pub(super) fn forget(&mut self, id: ClientId) {
        self.queue.remove(id);
    }

    /// A client waits.
    pub(super) fn contains(&self, id: ClientId) -> bool {
        self.queue.contains(id)
    }
}

impl<O: Outside> Hub<O> {
    /// A client that has something to be read is read in its turn.
    pub(super) fn await_turn(&mut self, id: ClientId) {
        self.turns.queue.push(id);
        self.turn = true;
    }

    /// The next round of the event loop has begun.
    pub(in crate::worker) fn begin_turns(&mut self) {
        self.turns.left = work::ROUND;
        self.next_turn();
    }

    /// Each client that waits is read in an event of its own: a panic there costs only that client.
    fn next_turn(&mut self) {
        if let Some(id) = self.turns.next() {
            self.effects.push_back(Effect::Read(id));
        }
    }

    /// For `nginx::event`: a client's turn has come.
    pub fn take_turn(&mut self, id: ClientId) {
        // First, so that the others come to theirs whatever happens in this one.
        self.turn |= !self.turns.queue.is_empty();
        if let Some(broker) = self.resume(id) {
            self.read_turn(id);
            self.call_first(broker);
        } else {
            self.read_client(id);
        }
        self.next_turn();
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
        (1..4).for_each(|id| turns.queue.push(ClientId(id)));
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
