//! Clients that are not read until the publisher link of their Redis has space.
//!
//! They wait in a queue. The first is read when the link has space and the client's
//! [turn](super::turns) among all senders has come. The others stay in place until then. If the
//! first sends more than there is space for, it goes to the end of the queue; so does any client
//! that comes while others wait. So a client that floods is read no more often than each of the
//! others.

use fanout::ClientId;

use crate::broker::Brokers;
use crate::outside::{Clients, Io, Outside};
use crate::worker::hub::Hub;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    pub(super) fn is_publisher_congested(&mut self, id: ClientId) -> bool {
        let Some((_, session)) = self.clients.get(id) else {
            return false;
        };
        let (Some(channel), Some(broker)) = (session.publish_channel(), session.location.redis)
        else {
            return false;
        };
        let message = session.location.limits().max_message;
        let message = usize::try_from(message).unwrap_or(usize::MAX);
        let bytes = message.saturating_add(channel.len());
        self.brokers.is_congested(broker, bytes)
    }

    pub(super) fn pause(&mut self, id: ClientId) {
        if let Some((io, session)) = self.clients.get(id)
            && let Some(broker) = session.location.redis
        {
            session.pause(&io);
            self.paused.push(id, broker);
        }
    }

    /// Whether the client has something to publish while others have been waiting to do so.
    pub(super) fn must_queue(&mut self, id: ClientId) -> bool {
        let Some((io, session)) = self.clients.get(id) else {
            return false;
        };
        let Some(broker) = session.location.redis else {
            return false;
        };
        !self.paused.is_empty(usize::from(broker))
            && session.is_open()
            && !session.is_paused()
            && session.publish_channel().is_some()
            && (session.has_kept() || io.is_readable())
    }

    /// The publisher links may have space again.
    pub(in crate::worker) fn resume_reading(&mut self) {
        for broker in 0..self.main.brokers.len() {
            self.call_first(broker);
        }
    }

    /// Queues the client that has waited longest for this Redis for its turn, if there is space for
    /// what it sends.
    pub(super) fn call_first(&mut self, broker: usize) {
        if let Some(id) = self.paused.first(broker)
            && !(self.is_open(id) && self.is_publisher_congested(id))
        {
            self.await_turn(id);
        }
    }

    /// The turn of a client has come. If it is the first of those that wait for a Redis, and there
    /// is space, it stops waiting. Returns that Redis.
    pub(super) fn resume(&mut self, id: ClientId) -> Option<usize> {
        let (_, session) = self.clients.get(id)?;
        let broker = usize::from(session.location.redis?);
        let is_open = session.is_open();
        let is_first = self.paused.first(broker) == Some(id);
        if !is_first || (is_open && self.is_publisher_congested(id)) {
            return None;
        }
        self.paused.pop(broker);
        // Set first, so that the next client is served whatever happens in this turn.
        self.turn |= !self.paused.is_empty(broker);
        let tick = self.session_tick(self.out.now());
        let (_, session) = self.clients.get(id)?;
        session.resume(tick);
        Some(broker)
    }

    pub(super) fn is_open(&mut self, id: ClientId) -> bool {
        let client = self.clients.get(id);
        client.is_some_and(|(_, session)| session.is_open())
    }
}
