//! Handshakes: those that wait for Redis, and those that do not have to.

use fanout::{ChannelId, ClientId};
use proto::websocket::deflate::Agreed;

use super::encoders::{Deflate, Format};
use super::hub::Hub;
use crate::answer::{Effect, Outcome, Response, Switching};
use crate::broker::{Brokers, Subscribed};
use crate::outside::{Clients, HttpRequest, Io, Outside};
use crate::session::{Notes, Session};
use crate::settings::Detach;
use crate::settings::Location;
use crate::upgrade::{self, Admission, ChannelIds, Refused};

/// How long the socket of a client may refuse the 101 before the client is dropped.
const OPENING_MS: u64 = 10_000;

/// The format of messages for a client.
fn format(location: &Location, deflate_bits: u8) -> Format {
    Format {
        message: location.message_format(),
        deflate: deflate(location, deflate_bits),
    }
}

/// How messages are compressed for a client; `deflate_bits` is 0 if permessage-deflate was not
/// agreed.
pub(super) fn deflate(location: &Location, deflate_bits: u8) -> Option<Deflate> {
    (deflate_bits > 0).then(|| Deflate {
        level: location.deflate_level(),
        window_bits: deflate_bits,
        min_length: location.deflate_min_length(),
    })
}

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Handles a handshake after [`crate::upgrade::check`].
    pub fn handshake(
        &mut self,
        request: O::Request,
        admission: Result<Admission, Refused>,
    ) -> Outcome {
        let welcomed = match admission {
            Ok(admission) => self
                .welcome(request, admission)
                .inspect_err(|refused| upgrade::log_refused(request, refused)),
            // Its log line is already written.
            Err(refused) => Err(refused),
        };
        welcomed.unwrap_or_else(|refused| {
            self.note_refused(request, refused);
            Outcome::Respond(refused.response(request.query()))
        })
    }

    fn welcome(&mut self, request: O::Request, admission: Admission) -> Result<Outcome, Refused> {
        self.has_room()?;
        let now = self.out.now();
        let broker = admission.location.redis.unwrap_or(0);
        let mut channels = ChannelIds::with_capacity(admission.subscriptions.len());
        let mut missing = Vec::new();
        for (kind, name) in &admission.subscriptions {
            let channel = self.registry.channel(broker, *kind, name);
            channels.push(channel);
            match self.brokers.subscribe(broker, channel, *kind, name, now) {
                Subscribed::Already => {}
                Subscribed::Asked => missing.push(channel),
                Subscribed::Away => {
                    self.unsubscribe_unused(&channels);
                    return Err(Refused::BrokerAway);
                }
            }
        }
        if missing.is_empty() {
            let (id, switching) = self.admit(request, admission, &channels);
            return Ok(Outcome::Accept(id, switching));
        }
        if self.waiting.len() >= self.main.max_pending() {
            self.unsubscribe_unused(&channels);
            return Err(Refused::Pending);
        }
        let number = self.park();
        self.waiting
            .enter(number, request, admission, channels, &missing, now);
        self.turn = true; // all SUBSCRIBEs of this round go out together
        Ok(Outcome::Park(number))
    }

    /// A number for a parked request.
    pub(super) fn park(&mut self) -> u64 {
        let number = self.next_parked;
        self.next_parked += 1;
        number
    }

    /// Adds the client and joins its feed, muted: it misses nothing from now on.
    fn admit(
        &mut self,
        request: O::Request,
        admission: Admission,
        channels: &[ChannelId],
    ) -> (ClientId, Switching) {
        let Admission {
            location,
            subscriptions,
            publish,
            mut switching,
        } = admission;
        let now = self.out.now();
        self.decline_without_room(&mut switching);
        let is_logged_last = self.main.logs_the_end || location.detach() == Detach::Off;
        let (counts, names) = (is_logged_last, self.main.names_channels);
        if publish.is_some() {
            self.life = self.life.next();
        }
        let life = self.life;
        let notes = (publish.is_some() || counts || names).then(|| {
            let channels = subscriptions.iter().map(|(_, name)| name.as_slice());
            let channel = if names {
                channels.collect::<Vec<_>>().join(&b","[..])
            } else {
                vec![]
            };
            Box::new(Notes {
                publish,
                life,
                channel,
                since_ms: now,
                ..Notes::default()
            })
        });
        let tick = self.session_tick(now);
        let session = Session::new(location, notes, switching.extensions, tick);
        let format = format(location, session.deflate_bits());
        let id = self.clients.insert(request, session);
        if !channels.is_empty() {
            let socket = self.socket_of(id);
            let (variant, class) = (self.encoders.variant(format), location.slow_class());
            self.registry
                .join(id, socket, channels, variant, class, counts);
        }
        (id, switching)
    }

    /// Declines permessage-deflate if there may be no memory for the history of what the client
    /// sends.
    fn decline_without_room(&mut self, switching: &mut Switching) {
        let agreed = switching.extensions.as_ref();
        let bits = agreed.map_or(0, Agreed::context_bits);
        if bits > 0 && !self.has_room_for_context(1 << bits) {
            switching.extensions = None;
            self.counters.contexts_declined += 1;
        }
    }

    /// The client's socket did not take all of the 101 at once.
    pub fn client_opens_slowly(&mut self, id: ClientId) {
        if !self.wheel.is_scheduled(id.0) {
            self.set_deadline(id, self.out.now() + OPENING_MS);
        }
    }

    /// The socket as the registry knows it: negative for TLS.
    fn socket_of(&mut self, id: ClientId) -> i32 {
        self.clients
            .get(id)
            .and_then(|(io, _)| io.plain_fd())
            .unwrap_or(-1)
    }

    /// Redis confirmed a channel. The handshakes that waited for nothing else are accepted before
    /// the next message is handled.
    pub(super) fn channel_confirmed(&mut self, channel: ChannelId) {
        for number in self.waiting.confirmed(channel) {
            if self.out.is_exiting() {
                self.refuse(number, Refused::Exiting);
                continue;
            }
            let Some(waiting) = self.waiting.leave(number) else {
                continue;
            };
            self.out.unpark(waiting.request, number);
            let (id, switching) = self.admit(waiting.request, waiting.admission, &waiting.channels);
            self.effects.push_back(Effect::Accept(id, switching));
        }
    }

    /// Refuses a waiting handshake.
    pub(super) fn refuse(&mut self, number: u64, refused: Refused) {
        let Some(request) = self.waiting.request(number) else {
            return;
        };
        upgrade::log_refused(request, refused);
        self.note_refused(request, refused);
        self.effects
            .push_back(Effect::Answer(number, refused.response(request.query())));
    }

    /// nginx ended a parked request by itself.
    pub fn parked_gone(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.leave(number) {
            self.unsubscribe_unused(&waiting.channels);
        }
        self.publishes.leave(number);
        self.early_posts.leave(number);
    }

    /// A handshake gave up these channels: unsubscribes those that nobody else wants.
    pub(super) fn unsubscribe_unused(&mut self, channels: &[ChannelId]) {
        for &channel in channels {
            self.unsubscribe_unless_wanted(channel);
        }
    }

    pub(super) fn unsubscribe_unless_wanted(&mut self, channel: ChannelId) {
        if self.registry.has_clients(channel) || self.waiting.wants(channel) {
            return;
        }
        let (broker, kind, name) = self.registry.name(channel);
        let now = self.out.now();
        self.brokers.unsubscribe(broker, kind, name, now);
        self.turn = true;
    }

    /// Refuses handshakes and publishes that have waited too long.
    pub(super) fn end_patience(&mut self, now: u64) {
        for number in self.waiting.expired(now) {
            self.refuse(number, Refused::BrokerSlow);
        }
        for number in self.publishes.expired(now) {
            self.effects
                .push_back(Effect::Answer(number, Response::status(504)));
        }
    }
}
