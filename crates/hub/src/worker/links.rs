//! Events of brokers.

use fanout::{ChannelId, ClientId};

use super::delivery::{Delivery, most_unoffered};
use super::hub::Hub;
use crate::broker::{Brokers, Event, Published};
use crate::outside::{Outside, PeerId};
use crate::session::{Leaving, Unpublished, life};
use crate::upgrade::Refused;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// A peer has something to read, or has connected.
    pub fn peer_readable(&mut self, peer: PeerId) {
        let now = self.out.now();
        self.brokers.peer_readable(peer, now);
        self.hear(now);
        self.flush();
    }

    /// A peer can be written to, or has connected.
    pub fn peer_writable(&mut self, peer: PeerId) {
        let now = self.out.now();
        self.brokers.peer_writable(peer, now);
        self.hear(now);
    }

    /// `worker_shutdown_timeout`: the link ends for good.
    pub fn peer_told_to_close(&mut self, peer: PeerId) {
        let now = self.out.now();
        self.brokers.peer_told_to_close(peer, now);
        self.hear(now);
    }

    /// Handles the brokers' events until there are none left, or so many that clients come first.
    /// The rest follows in the next round.
    pub(super) fn hear(&mut self, now: u64) {
        loop {
            let mut delivery = Delivery {
                registry: &mut self.registry,
                encoders: &mut self.encoders,
                counters: &mut self.counters,
                most_unoffered: most_unoffered(self.budget.limit()),
            };
            let event = self.brokers.next_event(&mut self.out, &mut delivery, now);
            if self.encoders.dropped().total() > self.counters.dropped() {
                self.report_dropped();
            }
            match event {
                Some(event) => self.handle(event, now),
                None => break,
            }
        }
        self.turn |= self.brokers.take_turn();
    }

    fn handle(&mut self, event: Event, now: u64) {
        match event {
            Event::Confirmed(channel) => self.channel_confirmed(channel),
            Event::Refused(channel, reason) => self.channel_refused(channel, &reason, now),
            Event::Released(channel) => {
                // A handshake may have asked for the name again before this event was handled. Then
                // the broker knows the new subscription by the same id.
                if !self.waiting.wants(channel) {
                    self.registry.release_channel(channel);
                }
            }
            Event::Lost { broker, missed } => {
                for number in self.waiting.at_broker(broker) {
                    self.refuse(number, Refused::BrokerAway);
                }
                self.note_missed(broker, missed, now);
            }
            Event::Restored { broker } => self.broker_restored(broker, now),
            Event::Publishing { broker } => self.end_early_posts(broker),
            Event::Published {
                broker,
                token,
                outcome,
            } => self.publish_answered(broker, token, outcome),
        }
    }

    /// Redis's ACL forbids a channel: handshakes that wait for it get 403, its clients 1008. A
    /// change of the ACL may forbid thousands of channels at once, so the wheel closes the clients,
    /// a limited number at a time.
    fn channel_refused(&mut self, channel: ChannelId, reason: &str, now: u64) {
        self.report_refused(channel, reason, now);
        for number in self.waiting.waiting_for(channel) {
            self.refuse(number, Refused::Forbidden);
        }
        let clients: Vec<ClientId> = self.registry.listeners_of(channel).collect();
        for id in clients {
            self.ask_to_leave(id, Leaving::Forbidden, now);
        }
        self.unsubscribe_unless_wanted(channel);
    }

    fn publish_answered(&mut self, broker: u16, token: u64, outcome: Published) {
        let failed = match &outcome {
            Published::To(_) => None,
            Published::Refused(cause) => Some((Unpublished::Refused, cause)),
            Published::Forbidden(cause) => Some((Unpublished::Forbidden, cause)),
            Published::Lost(cause) => Some((Unpublished::Lost, cause)),
        };
        if let Some((_, cause)) = failed {
            self.counters.publish_failed += 1;
            self.report_not_published(cause);
        }
        match (life::client_of(token), failed) {
            (Some(_), None) => {}
            (Some((id, life)), Some((why, _))) => self.note_untold(id, life, why),
            (None, _) => self.post_answered(token, &outcome),
        }
        if !self.paused.is_empty(broker.into()) || self.early_posts.len() > 0 {
            self.turn = true;
        }
    }
}
