//! Redis servers. Each has two links, since a subscribed connection can do little else.

use std::collections::VecDeque;
use std::sync::Arc;

use fanout::{ChannelId, NameKind};
use proto::redis::{self, LINK_LOST, Link, PROBE_TOKEN, Role, Server};
use slab::Slab;

use super::link_socket::LinkSocket;
use super::seam::{BrokerStatus, Brokers, Event, NotPublished, Published, Run, Sink, Subscribed};
use crate::outside::{Level, Outside, PeerId};

/// Clients are not read while this many publishes are unanswered, or this many bytes unsent.
const MAX_UNANSWERED: usize = 10_000;
const MAX_UNSENT: usize = 1 << 20;

/// All Redis servers of a worker.
pub struct Redis<O: Outside> {
    servers: Vec<Pair<O>>,
    /// The link of each peer; the peer's id is the key.
    places: Slab<Place>,
    /// Links that have something to do or to report.
    attended: VecDeque<PeerId>,
    turn: bool,
    /// A link was borrowed since the deadline was last asked for.
    touched: bool,
}

/// The two links to one server.
struct Pair<O: Outside> {
    server: Arc<Server>,
    subscriber: LinkSocket<O::Peer>,
    publisher: LinkSocket<O::Peer>,
    /// Publishes that await an answer, without probes.
    unanswered: usize,
}

/// Server and role of a link.
#[derive(Clone, Copy)]
struct Place {
    broker: u16,
    role: Role,
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Subscriber => "subscriber",
        Role::Publisher => "publisher",
    }
}

fn link_kind(kind: NameKind) -> redis::SubscriptionKind {
    match kind {
        NameKind::Channel => redis::SubscriptionKind::Channel,
        NameKind::Pattern => redis::SubscriptionKind::Pattern,
    }
}

/// Messages that a link has received after its last one, for the same channel.
struct Received<'a> {
    link: &'a mut Link,
    channel: ChannelId,
}

impl Run for Received<'_> {
    #[inline(always)]
    fn each(&mut self, hear: impl FnMut(&[u8], &[u8])) {
        self.link.each_of(self.channel.0, hear);
    }
}

impl<O: Outside> Pair<O> {
    fn link(&mut self, role: Role) -> &mut LinkSocket<O::Peer> {
        match role {
            Role::Subscriber => &mut self.subscriber,
            Role::Publisher => &mut self.publisher,
        }
    }

    fn is_starting(&self) -> bool {
        !self.publisher.link.is_up() && !self.publisher.is_down
    }
}

impl<O: Outside> Redis<O> {
    fn links(&self) -> impl Iterator<Item = &LinkSocket<O::Peer>> {
        let pairs = self.servers.iter();
        pairs.flat_map(|pair| [&pair.subscriber, &pair.publisher])
    }

    /// All peers. Some of the ids may be unused.
    fn peers(&self) -> impl Iterator<Item = PeerId> + use<O> {
        (0..self.places.capacity() as u32).map(PeerId)
    }

    fn place(&self, id: PeerId) -> Option<Place> {
        self.places.get(id.0 as usize).copied()
    }

    /// A link; `None` if there is no such peer.
    fn link(&mut self, id: PeerId) -> Option<&mut LinkSocket<O::Peer>> {
        self.touched = true;
        let Place { broker, role } = self.place(id)?;
        let pair = self.servers.get_mut(usize::from(broker))?;
        Some(pair.link(role))
    }

    /// Queues a link, to process its events and to write.
    fn attend(&mut self, id: PeerId) {
        if let Some(link) = self.link(id)
            && !std::mem::replace(&mut link.is_attended, true)
        {
            self.attended.push_back(id);
        }
    }

    /// Lets a link work and report events. `None`: it has none left.
    fn hear(&mut self, id: PeerId, out: &mut O, sink: &mut impl Sink, now: u64) -> Option<Event> {
        let Place { broker, role } = self.place(id)?;
        loop {
            let link = self.servers[usize::from(broker)].link(role);
            if role == Role::Subscriber && !sink.has_room() {
                link.read_later(now);
                if link.judge(now) || link.write(now) {
                    continue;
                }
                self.turn = true;
                return None;
            }
            let told = match link.link.next_event() {
                Some(redis::Event::Message {
                    channel,
                    name,
                    pattern,
                    payload,
                }) => {
                    let channel = ChannelId(channel);
                    sink.message(channel, name, pattern, payload);
                    if link.link.holds_more() {
                        let link = &mut link.link;
                        sink.run(channel, &mut Received { link, channel });
                    }
                    continue;
                }
                told => told.map(Told::of),
            };
            let Some(told) = told else {
                if link.go_on(now) {
                    continue;
                }
                return None;
            };
            let event = self.handle(broker, role, told, out, now);
            if event.is_some() {
                return event;
            }
        }
    }

    fn handle(
        &mut self,
        broker: u16,
        role: Role,
        told: Told,
        out: &mut O,
        now: u64,
    ) -> Option<Event> {
        let pair = &mut self.servers[usize::from(broker)];
        match told {
            Told::Connect => pair.link(role).connect(broker, out, now),
            Told::Disconnect => pair.link(role).disconnect(),
            Told::Up(was_down_for) => return self.link_up(broker, role, was_down_for, out),
            Told::Down(cause) => return self.link_down(broker, role, &cause, out),
            Told::Warning(reason) => {
                out.log(Level::Warn, format_args!("{}: {reason}", pair.server));
            }
            Told::Confirmed(channel) => return Some(Event::Confirmed(channel)),
            Told::Refused(channel, reason) => return Some(Event::Refused(channel, reason)),
            Told::Released(channel) => return Some(Event::Released(channel)),
            Told::Restored => return Some(Event::Restored { broker }),
            Told::Answered(PROBE_TOKEN, outcome) => {
                let outcome = outcome.as_ref().map(|&receivers| receivers);
                let outcome = outcome.map_err(String::as_str);
                pair.subscriber.link.handle_probe_reply(outcome, now);
                self.turn = true;
            }
            Told::Answered(token, outcome) => {
                pair.unanswered = pair.unanswered.saturating_sub(1);
                let outcome = published(outcome);
                return Some(Event::Published {
                    broker,
                    token,
                    outcome,
                });
            }
            Told::Probe(channel, payload) => {
                let publisher = &mut pair.publisher.link;
                let taken = publisher.publish(&channel, &payload, PROBE_TOKEN, now);
                if taken.is_err() {
                    let cause = Err("publisher link is away");
                    pair.subscriber.link.handle_probe_reply(cause, now);
                }
                self.turn = true;
            }
        }
        None
    }

    fn link_up(
        &mut self,
        broker: u16,
        role: Role,
        was_down_for: Option<u64>,
        out: &O,
    ) -> Option<Event> {
        let pair = &mut self.servers[usize::from(broker)];
        pair.link(role).is_down = false;
        let (server, link) = (&pair.server, name(role));
        match was_down_for {
            None => out.log(Level::Info, format_args!("{server}: {link} link is up")),
            Some(ms) => out.log(
                Level::Notice,
                format_args!("{server}: {link} link is back after {ms} ms"),
            ),
        }
        self.turn = true;
        (role == Role::Publisher).then_some(Event::Publishing { broker })
    }

    fn link_down(&mut self, broker: u16, role: Role, cause: &str, out: &O) -> Option<Event> {
        let pair = &mut self.servers[usize::from(broker)];
        let link = pair.link(role);
        link.is_down = true;
        let missed = link.link.missed().map(ChannelId).collect();
        out.log(
            Level::Error,
            format_args!("{}: {} link is down: {cause}", pair.server, name(role)),
        );
        self.turn = true;
        Some(match role {
            Role::Publisher => Event::Publishing { broker },
            Role::Subscriber => Event::Lost { broker, missed },
        })
    }
}

/// What a link reported, after the borrow of its buffer has ended.
enum Told {
    Connect,
    Disconnect,
    Up(Option<u64>),
    Down(String),
    Warning(String),
    Confirmed(ChannelId),
    Refused(ChannelId, String),
    Released(ChannelId),
    Restored,
    Answered(u64, Result<i64, String>),
    Probe(bytes::Bytes, bytes::Bytes),
}

impl Told {
    fn of(event: redis::Event<'_>) -> Told {
        use redis::Event;
        match event {
            Event::Message { .. } => unreachable!("messages are heard in place"),
            Event::Connect => Told::Connect,
            Event::Disconnect { .. } => Told::Disconnect,
            Event::Up { was_down_for } => Told::Up(was_down_for),
            Event::Down { cause } => Told::Down(cause.into_owned()),
            Event::Warning { reason } => Told::Warning(reason),
            Event::Confirmed { channel } => Told::Confirmed(ChannelId(channel)),
            Event::Refused { channel, reason } => Told::Refused(ChannelId(channel), reason),
            Event::Released { channel } => Told::Released(ChannelId(channel)),
            Event::Restored { .. } => Told::Restored,
            Event::Published { token, receivers } => Told::Answered(token, Ok(receivers)),
            Event::NotPublished { token, reason } => Told::Answered(token, Err(reason)),
            Event::Probe { channel, payload } => Told::Probe(channel, payload),
        }
    }
}

fn published(outcome: Result<i64, String>) -> Published {
    match outcome {
        Ok(receivers) => Published::To(receivers),
        Err(cause) if cause.starts_with("NOPERM") => Published::Forbidden(cause),
        Err(cause) if cause.starts_with(LINK_LOST) => Published::Lost(cause),
        Err(cause) => Published::Refused(cause),
    }
}

impl<O: Outside> Brokers<O> for Redis<O> {
    fn new(servers: &[Arc<Server>], out: &O) -> std::io::Result<Self> {
        let mut places = Slab::new();
        let pair = |(broker, server): (usize, &Arc<Server>)| {
            let broker = broker as u16;
            let mut link = |role| {
                let id = PeerId(places.insert(Place { broker, role }) as u32);
                let seed = out.random()?;
                Ok::<_, std::io::Error>(LinkSocket::new(role, server, id, seed))
            };
            Ok::<_, std::io::Error>(Pair {
                server: Arc::clone(server),
                subscriber: link(Role::Subscriber)?,
                publisher: link(Role::Publisher)?,
                unanswered: 0,
            })
        };
        let pairs = servers.iter().enumerate().map(pair);
        Ok(Redis {
            servers: pairs.collect::<Result<_, _>>()?,
            places,
            attended: VecDeque::new(),
            turn: false,
            touched: true,
        })
    }

    fn subscribe(
        &mut self,
        broker: u16,
        channel: ChannelId,
        kind: NameKind,
        name: &[u8],
        now: u64,
    ) -> Subscribed {
        self.touched = true;
        let socket = &mut self.servers[usize::from(broker)].subscriber;
        let kind = link_kind(kind);
        match socket.link.subscribe(kind, name, channel.0, now) {
            redis::Subscribed::Already => Subscribed::Already,
            redis::Subscribed::Asked => Subscribed::Asked,
            // The connection has been neither made nor refused yet.
            redis::Subscribed::Away if !socket.is_down => Subscribed::Asked,
            redis::Subscribed::Away => Subscribed::Away,
        }
    }

    fn unsubscribe(&mut self, broker: u16, kind: NameKind, name: &[u8], now: u64) {
        self.touched = true;
        let socket = &mut self.servers[usize::from(broker)].subscriber;
        socket.link.unsubscribe(link_kind(kind), name, now);
    }

    fn publish(
        &mut self,
        broker: u16,
        channel: &[u8],
        payload: &[u8],
        token: u64,
        now: u64,
    ) -> Result<(), NotPublished> {
        self.touched = true;
        let pair = &mut self.servers[usize::from(broker)];
        match pair.publisher.link.publish(channel, payload, token, now) {
            Ok(()) => {
                pair.unanswered += 1;
                Ok(())
            }
            Err(redis::NotPublished::Away) => Err(NotPublished::Away),
            Err(redis::NotPublished::QueueFull) => Err(NotPublished::QueueFull),
        }
    }

    fn is_ready_for(&self, broker: u16, bytes: usize) -> bool {
        let link = &self.servers[usize::from(broker)].publisher.link;
        !link.is_up() || link.has_room(bytes)
    }

    fn is_congested(&mut self, broker: u16, bytes: usize) -> bool {
        let pair = &mut self.servers[usize::from(broker)];
        if !pair.publisher.link.is_up() {
            return pair.is_starting();
        }
        let link = &mut pair.publisher.link;
        pair.unanswered > MAX_UNANSWERED
            || link.output().len() > MAX_UNSENT
            || !link.has_room(bytes)
    }

    fn is_starting(&self, broker: u16) -> bool {
        self.servers[usize::from(broker)].is_starting()
    }

    fn peer_readable(&mut self, peer: PeerId, now: u64) {
        if let Some(link) = self.link(peer) {
            link.advance(now);
            self.attend(peer);
        }
    }

    fn peer_writable(&mut self, peer: PeerId, now: u64) {
        let Some(link) = self.link(peer) else {
            return;
        };
        // epoll reports writability with every message that arrives.
        if !link.is_quiet() {
            link.advance(now);
            // Input has an event of its own.
            link.may_read = false;
            self.attend(peer);
        }
    }

    fn peer_told_to_close(&mut self, peer: PeerId, now: u64) {
        if let Some(link) = self.link(peer) {
            link.end("worker_shutdown_timeout", now);
            self.attend(peer);
        }
    }

    fn tick(&mut self, is_late: bool, now: u64) {
        for peer in self.peers() {
            let Some(link) = self.link(peer) else {
                continue;
            };
            // The input in the socket is processed before the deadline applies.
            if is_late || link.is_due(now) {
                link.advance(now);
                link.is_judged = true;
                self.attend(peer);
            }
        }
    }

    fn turn(&mut self, _now: u64) {
        for peer in self.peers() {
            self.attend(peer);
        }
    }

    fn next_event(&mut self, out: &mut O, sink: &mut impl Sink, now: u64) -> Option<Event> {
        while let Some(&peer) = self.attended.front() {
            let event = self.hear(peer, out, sink, now);
            if event.is_some() {
                return event;
            }
            self.attended.pop_front();
            if let Some(link) = self.link(peer) {
                link.is_attended = false;
            }
        }
        None
    }

    fn take_turn(&mut self) -> bool {
        std::mem::take(&mut self.turn)
    }

    fn deadline(&self) -> Option<u64> {
        self.links()
            .filter_map(|socket| socket.link.deadline())
            .min()
    }

    fn moved_deadline(&mut self) -> Option<u64> {
        std::mem::take(&mut self.touched).then(|| self.deadline())?
    }

    fn owes(&self) -> bool {
        self.links().any(|socket| socket.link.owes())
    }

    fn held_bytes(&self) -> usize {
        self.links().map(|socket| socket.link.memory()).sum()
    }

    fn status(&self) -> Vec<BrokerStatus> {
        let pairs = self.servers.iter();
        let status = pairs.map(|pair| BrokerStatus {
            server: pair.server.to_string(),
            subscriber: pair.subscriber.link.is_up(),
            publisher: pair.publisher.link.is_up(),
            unanswered: pair.unanswered,
        });
        status.collect()
    }

    fn close(&mut self) {
        self.servers.clear();
        self.places.clear();
        self.attended.clear();
    }
}
