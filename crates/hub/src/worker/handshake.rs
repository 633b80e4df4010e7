//! Handshakes: those that wait for Redis, and those that need not.

use fanout::{ChannelId, ClientId, Kind};
use proto::redis::{self, Role, Subscribed};
use proto::websocket::deflate::Agreed;

use super::Hub;
use super::wires::{Deflate, Form};
use crate::answer::{Effect, Outcome, Response, Switching};
use crate::http::publish::{self, Post};
use crate::outside::{Clients, HttpRequest, Io, Outside};
use crate::session::{Notes, Session};
use crate::settings::Detach;
use crate::settings::Location;
use crate::upgrade::{self, Channels, Refused, Wish};

/// A client whose 101 the socket does not take for so long is given up.
const OPENING_MS: u64 = 10_000;

/// The form of messages for a client.
fn form(location: &Location, deflate_bits: u8) -> Form {
    Form {
        wire: location.wire(),
        deflate: deflate(location, deflate_bits),
    }
}

/// How messages are compressed for a client; `deflate_bits` is 0 if that was not agreed.
pub(super) fn deflate(location: &Location, deflate_bits: u8) -> Option<Deflate> {
    (deflate_bits > 0).then(|| Deflate {
        level: location.deflate_level(),
        window_bits: deflate_bits,
        min_length: location.deflate_min_length(),
    })
}

fn link_kind(kind: Kind) -> redis::Kind {
    match kind {
        Kind::Channel => redis::Kind::Channel,
        Kind::Pattern => redis::Kind::Pattern,
    }
}

impl<O: Outside> Hub<O> {
    /// A handshake that [`crate::upgrade::check`] has judged.
    pub fn handshake(&mut self, request: O::Request, wish: Result<Wish, Refused>) -> Outcome {
        let welcomed = match wish {
            Ok(wish) => self
                .welcome(request, wish)
                .inspect_err(|refused| upgrade::log_refused(request, refused)),
            // Its line is written.
            Err(refused) => Err(refused),
        };
        welcomed.unwrap_or_else(|refused| {
            self.note_refused(request, refused);
            Outcome::Respond(refused.response(request.query()))
        })
    }

    fn welcome(&mut self, request: O::Request, wish: Wish) -> Result<Outcome, Refused> {
        self.has_room()?;
        let now = self.out.now();
        let broker = wish.location.redis.unwrap_or(0);
        let mut channels = Channels::with_capacity(wish.subscriptions.len());
        let mut missing = Vec::new();
        for (kind, name) in &wish.subscriptions {
            let channel = self.registry.channel(broker, *kind, name);
            let wire = self.brokers[usize::from(broker)].wire(Role::Subscriber);
            let known = wire.link.subscribe(link_kind(*kind), name, channel.0, now);
            let is_starting = !wire.is_down;
            channels.push(channel);
            match known {
                Subscribed::Already => {}
                Subscribed::Asked => missing.push(channel),
                Subscribed::Away if is_starting => missing.push(channel),
                Subscribed::Away => {
                    self.forsake(&channels);
                    return Err(Refused::BrokerAway);
                }
            }
        }
        if missing.is_empty() {
            let (id, switching) = self.admit(request, wish, &channels);
            return Ok(Outcome::Accept(id, switching));
        }
        if self.waiting.len() >= self.main.max_pending() {
            self.forsake(&channels);
            return Err(Refused::Pending);
        }
        let number = self.park();
        self.waiting
            .enter(number, request, wish, channels, &missing, now);
        self.turn = true; // all SUBSCRIBEs of this round go out together
        Ok(Outcome::Park(number))
    }

    /// A number for a parked request.
    fn park(&mut self) -> u64 {
        let number = self.next_parked;
        self.next_parked += 1;
        number
    }

    /// Gives the client its seat and joins its feed, muted: from here on it misses nothing.
    fn admit(
        &mut self,
        request: O::Request,
        wish: Wish,
        channels: &[ChannelId],
    ) -> (ClientId, Switching) {
        let Wish {
            location,
            subscriptions,
            publish,
            mut switching,
        } = wish;
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
        let mut session = Session::new(location, notes, self.session_tick(now));
        if let Some(agreed) = switching.extensions {
            session.deflate_bits = agreed.server_window_bits();
            session.context_bits = agreed.context_bits();
        }
        let form = form(location, session.deflate_bits);
        let id = self.clients.insert(request, session);
        if !channels.is_empty() {
            let socket = self.socket_of(id);
            let (variant, class) = (self.wires.variant(form), location.slow_class());
            self.registry
                .join(id, socket, channels, variant, class, counts);
        }
        (id, switching)
    }

    /// permessage-deflate is declined where what the client sends may not find the memory to be kept.
    fn decline_without_room(&mut self, switching: &mut Switching) {
        let agreed = switching.extensions.as_ref();
        let bits = agreed.map_or(0, Agreed::context_bits);
        if bits > 0 && !self.has_room_for_context(1 << bits) {
            switching.extensions = None;
            self.counters.contexts_declined += 1;
        }
    }

    /// The 101 is on its way, and the client's socket does not take it at once.
    pub fn client_opens_slowly(&mut self, id: ClientId) {
        if !self.wheel.is_scheduled(id.0) {
            self.watch(id, self.out.now() + OPENING_MS);
        }
    }

    /// What the registry knows a client's socket by: negative for TLS.
    fn socket_of(&mut self, id: ClientId) -> i32 {
        self.clients
            .get(id)
            .and_then(|(io, _)| io.plain_fd())
            .unwrap_or(-1)
    }

    /// Redis has confirmed a channel: those who waited for it alone come in, before the next
    /// message is looked at.
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
            let (id, switching) = self.admit(waiting.request, waiting.wish, &waiting.channels);
            self.effects.push_back(Effect::Accept(id, switching));
        }
    }

    /// Answers a handshake that waits.
    pub(super) fn refuse(&mut self, number: u64, refused: Refused) {
        let Some(request) = self.waiting.request(number) else {
            return;
        };
        upgrade::log_refused(request, refused);
        self.note_refused(request, refused);
        self.effects
            .push_back(Effect::Answer(number, refused.response(request.query())));
    }

    /// nginx has ended a parked request on its own account.
    pub fn parked_gone(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.leave(number) {
            self.forsake(&waiting.channels);
        }
        self.publishes.leave(number);
        self.early_posts.leave(number);
    }

    /// A handshake does not want these channels any more: those that nobody else wants leave.
    pub(super) fn forsake(&mut self, channels: &[ChannelId]) {
        for &channel in channels {
            self.unsubscribe_unless_wanted(channel);
        }
    }

    pub(super) fn unsubscribe_unless_wanted(&mut self, channel: ChannelId) {
        if self.registry.has_clients(channel) || self.waiting.wants(channel) {
            return;
        }
        let (broker, kind, name) = self.registry.name(channel);
        let link = &mut self.brokers[usize::from(broker)]
            .wire(Role::Subscriber)
            .link;
        link.unsubscribe(link_kind(kind), name, self.out.now());
        self.turn = true;
    }

    /// Handshakes and publishes whose patience has ended.
    pub(super) fn end_patience(&mut self, now: u64) {
        for number in self.waiting.expired(now) {
            self.refuse(number, Refused::BrokerSlow);
        }
        for number in self.publishes.expired(now) {
            self.effects
                .push_back(Effect::Answer(number, Response::status(504)));
        }
    }

    /// Publishes what was posted; the answer waits for Redis's.
    pub fn publisher(&mut self, post: Result<Post<O::Request>, Response>) -> Outcome {
        match post.and_then(|post| self.take_post(post)) {
            Ok(number) => {
                self.turn = true;
                Outcome::Park(number)
            }
            Err(response) => Outcome::Respond(response),
        }
    }

    fn take_post(&mut self, post: Post<O::Request>) -> Result<u64, Response> {
        let Post {
            request,
            broker,
            channel,
        } = post;
        self.has_room_for_post(request.body_length())?;
        let body = publish::body(request)?;
        let number = self.park();
        self.publishes
            .enter(number, request, channel, self.out.now());
        let is_starting = self.brokers[usize::from(broker)].is_starting();
        if is_starting || self.early_posts.first_at(broker).is_some() {
            if self.early_posts.len() < self.main.max_pending() {
                self.early_posts.enter(number, broker, body);
                return Ok(number);
            }
            self.counters.publish_failed += 1;
        } else if self.post(number, broker, &body) {
            return Ok(number);
        }
        self.publishes.leave(number);
        Err(Response::status(503))
    }

    /// Whether the account takes a body of so many bytes: before it is read, and again as a command.
    fn has_room_for_post(&mut self, bytes: usize) -> Result<(), Response> {
        self.account();
        if self.budget.has_room(bytes as u64) {
            return Ok(());
        }
        let (held, limit) = (self.budget.total(), self.budget.limit());
        self.counters.publish_failed += 1;
        self.report_not_published(&format!(
            "{held} bytes of \"websocket_memory\" {limit} are held: a post of {bytes} bytes is refused"
        ));
        Err(Response::status(503))
    }

    /// Hands what was posted to the link. False: it is away, or its queue is full.
    fn post(&mut self, number: u64, broker: u16, body: &[u8]) -> bool {
        let Some(channel) = self.publishes.channel(number) else {
            return true;
        };
        let broker = &mut self.brokers[usize::from(broker)];
        let link = &mut broker.wire(Role::Publisher).link;
        let taken = link.publish(channel, body, number, self.out.now()).is_ok();
        broker.unanswered += usize::from(taken);
        self.counters.published += u64::from(taken);
        self.counters.publish_failed += u64::from(!taken);
        taken
    }

    /// A publisher link is up, has room again, or could not be made: what was posted before goes out
    /// as far as the queue takes it, or is refused.
    pub(super) fn end_early_posts(&mut self, broker: u16) {
        while let Some((number, bytes)) = self.early_posts.first_at(broker) {
            let name = self.publishes.channel(number).map_or(0, <[u8]>::len);
            let link = &self.brokers[usize::from(broker)].wire(Role::Publisher).link;
            if link.is_up() && !link.has_room(name + bytes) {
                return;
            }
            let body = self.early_posts.leave(number);
            if body.is_some_and(|body| !self.post(number, broker, &body)) {
                self.effects
                    .push_back(Effect::Answer(number, Response::status(503)));
            }
        }
    }

    /// Redis has taken what was posted, or not.
    pub(super) fn post_answered(&mut self, number: u64, receivers: Result<i64, String>) {
        let Some(channel) = self.publishes.channel(number) else {
            return;
        };
        let response = match receivers {
            Ok(receivers) => publish::receipt(channel, receivers),
            Err(reason) if reason.starts_with("NOPERM") => Response::status(403),
            Err(_) => Response::status(502),
        };
        self.effects.push_back(Effect::Answer(number, response));
    }
}
