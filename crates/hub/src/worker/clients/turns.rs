//! Which client is read next.
//!
//! As long as one round of the event loop can serve all that send, each client is read when its
//! socket is readable. Beyond that they queue. The first in the queue is read after all other
//! sockets have been polled, and goes to the end of the queue if it sends more. So a client that
//! sends little waits for each client that sends much no longer than one
//! [turn](crate::session::work::TURN).

use fanout::ClientId;

use crate::answer::Effect;
use crate::broker::Brokers;
use crate::outside::Outside;
use crate::worker::hub::Hub;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Queues a client that has something to read for its turn.
    pub(super) fn await_turn(&mut self, id: ClientId) {
        self.turns.push(id);
        self.turn = true;
    }

    /// The next round of the event loop has begun.
    pub(in crate::worker) fn begin_turns(&mut self) {
        self.turns.begin();
        self.next_turn();
    }

    /// Has the next waiting client read, in an event of its own: a panic there costs only that
    /// client.
    fn next_turn(&mut self) {
        if let Some(id) = self.turns.next() {
            self.effects.push_back(Effect::Read(id));
        }
    }

    /// Called by the outside: a client's turn has come.
    pub fn take_turn(&mut self, id: ClientId) {
        // Set first, so that the others get their turns whatever happens in this one.
        self.turn |= !self.turns.is_empty();
        if let Some(broker) = self.resume(id) {
            self.read_turn(id);
            self.call_first(broker);
        } else {
            self.read_client(id);
        }
        self.next_turn();
    }
}
