//! The seam between hub and broker holds: the same hub runs with a broker that is not Redis, has no
//! socket and loses channels one by one.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt::Arguments;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use fanout::{ChannelId, ClientId, NameKind};
use hub::Hub;
use hub::answer::{Effect, Outcome, Text};
use hub::broker::{BrokerStatus, Brokers, Event, NotPublished, Published, Run, Sink, Subscribed};
use hub::outside::{self, EvaluationFailed, Level, Outside, PeerId, Progress, Received, Sent};
use hub::session::Session;
use hub::settings::{Location, Main, Service, Subscription, Template};
use hub::upgrade;
use proto::redis::Server;
use proto::websocket::deflate::Agreed;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000) };
}

/// A client's socket: what there is to be read from it, and what was sent to it.
#[derive(Default)]
struct Socket {
    input: RefCell<VecDeque<u8>>,
    output: RefCell<Vec<u8>>,
}

#[derive(Clone, Copy)]
struct Request {
    channel: &'static str,
    socket: &'static Socket,
    location: &'static Location,
    main: &'static Main,
}

#[derive(Clone, Copy)]
struct Io(&'static Socket);

#[derive(Default)]
struct Clients(Vec<Option<(Io, Session)>>);

/// Nothing connects: the broker is in the same process.
struct NoPeer;

struct Desk;

impl Outside for Desk {
    type Request = Request;
    type Io = Io;
    type Clients = Clients;
    type Peer = NoPeer;

    fn now(&self) -> u64 {
        NOW.get()
    }

    fn is_exiting(&self) -> bool {
        false
    }

    fn shutdown_timeout(&self) -> Option<u64> {
        None
    }

    fn connections(&self) -> (usize, usize) {
        (100, 100)
    }

    fn process(&self) -> (i32, usize) {
        (1, 0)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Ok([4; 16])
    }

    fn log(&self, _: Level, _: Arguments<'_>) {}

    fn connect(&mut self, _: usize, _: usize, _: PeerId) -> Result<NoPeer, String> {
        unreachable!("the broker has no socket")
    }

    fn sends_together(&self) -> bool {
        false
    }

    fn send_each(&mut self, sockets: &[i32], _: &[u8], _: impl FnMut(usize, Sent)) -> usize {
        assert!(sockets.iter().all(|&socket| socket < 0));
        sockets.len()
    }

    fn unpark(&self, _: Request, _: u64) {}
}

impl outside::HttpRequest for Request {
    fn is_get(&self) -> bool {
        true
    }
    fn is_head(&self) -> bool {
        false
    }
    fn is_post(&self) -> bool {
        false
    }
    fn is_main(&self) -> bool {
        true
    }
    fn is_post_action(&self) -> bool {
        false
    }
    fn error_status(&self) -> Option<u16> {
        None
    }
    fn http_version(&self) -> (usize, usize) {
        (1, 1)
    }
    fn has_body(&self) -> bool {
        false
    }
    fn is_tls(&self) -> bool {
        false
    }
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let headers: [(&[u8], &[u8]); 5] = [
            (b"Host", b"localhost"),
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.into_iter()
    }
    fn authority(&self) -> Option<&[u8]> {
        None
    }
    fn query(&self) -> &[u8] {
        b""
    }
    fn first_query(&self) -> &[u8] {
        b""
    }
    fn lacks_its_body(&self) -> bool {
        false
    }
    fn body_length(&self) -> usize {
        0
    }
    fn body(&self) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn log(&self, _: Level, _: Arguments<'_>) {}
    fn log_to_operator(&self, _: Arguments<'_>) {}
}

impl outside::Request for Request {
    fn location(&self) -> &'static Location {
        self.location
    }
    fn main(&self) -> &'static Main {
        self.main
    }
    fn evaluate(&self, _: Template) -> Result<Text, EvaluationFailed> {
        Ok(Text::from_slice(self.channel.as_bytes()))
    }
}

impl outside::Clients<Session> for Clients {
    type Request = Request;
    type Io = Io;

    fn insert(&mut self, request: Request, session: Session) -> ClientId {
        self.0.push(Some((Io(request.socket), session)));
        ClientId(self.0.len() as u32 - 1)
    }
    fn get(&mut self, id: ClientId) -> Option<(Io, &mut Session)> {
        let (io, session) = self.0.get_mut(id.0 as usize)?.as_mut()?;
        Some((*io, session))
    }
    fn remove(&mut self, id: ClientId) -> Option<Session> {
        Some(self.0.get_mut(id.0 as usize)?.take()?.1)
    }
    fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }
    fn ids(&self) -> impl Iterator<Item = ClientId> {
        let seats = self.0.iter().enumerate();
        seats.filter_map(|(id, seat)| seat.as_ref().map(|_| ClientId(id as u32)))
    }
}

impl outside::Io for Io {
    fn recv(&self, buf: &mut [u8]) -> Received {
        let mut input = self.0.input.borrow_mut();
        let count = input.len().min(buf.len());
        for (place, byte) in buf.iter_mut().zip(input.drain(..count)) {
            *place = byte;
        }
        match count {
            0 => Received::Again,
            count => Received::Bytes(count),
        }
    }
    fn send(&self, bytes: &[u8]) -> Sent {
        self.0.output.borrow_mut().extend_from_slice(bytes);
        Sent::Bytes(bytes.len())
    }
    fn plain_fd(&self) -> Option<i32> {
        None
    }
    fn is_readable(&self) -> bool {
        !self.0.input.borrow().is_empty()
    }
    fn has_news(&self) -> bool {
        false
    }
    fn has_room_again(&self) -> bool {
        false
    }
    fn unacknowledged(&self) -> u64 {
        0
    }
    fn read_again(&self) {}
    fn write_again(&self) {}
    fn want_read(&self) -> bool {
        true
    }
    fn want_write(&self) -> bool {
        true
    }
    fn shutdown(&self) {}
    fn abandon(&self, _: i32) {}
    fn close_at_exit(&self) {}
    fn discard(&self, _: &mut [u8], _: usize) -> Received {
        Received::Again
    }
    fn is_detached(&self) -> bool {
        true
    }
    fn set_notsent_lowat(&self, _: usize) {}
    fn bound_receive_buffer(&self, _: usize) {}
    fn log(&self, _: Level, _: Arguments<'_>) {}
}

impl outside::Peer for NoPeer {
    fn advance(&mut self) -> Progress {
        Progress::Pending
    }
    fn is_open(&self) -> bool {
        false
    }
    fn recv(&self, _: &mut [u8]) -> Received {
        Received::Again
    }
    fn is_readable(&self) -> bool {
        false
    }
    fn send(&self, _: &[u8]) -> Sent {
        Sent::Again
    }
    fn read_again(&self) {}
}

/// An event that the broker has yet to report.
enum News {
    Message(Vec<u8>, Vec<u8>),
    Event(Event),
}

/// A broker in this process: a map of names, and events yet to be reported. The test shares it.
#[derive(Clone, Default)]
struct InMemory(Rc<RefCell<Shelf>>);

#[derive(Default)]
struct Shelf {
    names: HashMap<Vec<u8>, ChannelId>,
    news: VecDeque<News>,
}

thread_local! {
    static BROKER: InMemory = InMemory::default();
}

/// A run of one message.
struct Single<'a>(&'a [u8], &'a [u8]);

impl Run for Single<'_> {
    fn each(&mut self, mut hear: impl FnMut(&[u8], &[u8])) {
        hear(self.0, self.1);
    }
}

impl Brokers<Desk> for InMemory {
    fn new(_: &[Arc<Server>], _: &Desk) -> io::Result<InMemory> {
        Ok(BROKER.with(Clone::clone))
    }

    fn subscribe(
        &mut self,
        _: u16,
        channel: ChannelId,
        kind: NameKind,
        name: &[u8],
        _: u64,
    ) -> Subscribed {
        assert_eq!(kind, NameKind::Channel);
        let shelf = &mut *self.0.borrow_mut();
        if shelf.names.insert(name.to_vec(), channel).is_some() {
            return Subscribed::Already;
        }
        shelf.news.push_back(News::Event(Event::Confirmed(channel)));
        Subscribed::Asked
    }

    fn unsubscribe(&mut self, _: u16, _: NameKind, name: &[u8], _: u64) {
        let shelf = &mut *self.0.borrow_mut();
        if let Some(channel) = shelf.names.remove(name) {
            shelf.news.push_back(News::Event(Event::Released(channel)));
        }
    }

    fn publish(
        &mut self,
        broker: u16,
        channel: &[u8],
        payload: &[u8],
        token: u64,
        _: u64,
    ) -> Result<(), NotPublished> {
        let shelf = &mut *self.0.borrow_mut();
        let told = News::Message(channel.to_vec(), payload.to_vec());
        shelf.news.push_back(told);
        shelf.news.push_back(News::Event(Event::Published {
            broker,
            token,
            outcome: Published::To(1),
        }));
        Ok(())
    }

    fn is_ready_for(&self, _: u16, _: usize) -> bool {
        true
    }
    fn is_congested(&mut self, _: u16, _: usize) -> bool {
        false
    }
    fn is_starting(&self, _: u16) -> bool {
        false
    }
    fn peer_readable(&mut self, _: PeerId, _: u64) {}
    fn peer_writable(&mut self, _: PeerId, _: u64) {}
    fn peer_told_to_close(&mut self, _: PeerId, _: u64) {}
    fn tick(&mut self, _: bool, _: u64) {}
    fn turn(&mut self, _: u64) {}

    fn next_event(&mut self, _: &mut Desk, sink: &mut impl Sink, _: u64) -> Option<Event> {
        loop {
            if !sink.has_room() {
                return None;
            }
            let next = self.0.borrow_mut().news.pop_front()?;
            match next {
                News::Event(event) => return Some(event),
                News::Message(name, payload) => {
                    let channel = self.0.borrow().names.get(&name).copied();
                    if let Some(channel) = channel {
                        sink.run(channel, &mut Single(&name, &payload));
                    }
                }
            }
        }
    }

    fn take_turn(&mut self) -> bool {
        !self.0.borrow().news.is_empty()
    }
    fn deadline(&self) -> Option<u64> {
        None
    }
    fn moved_deadline(&mut self) -> Option<u64> {
        None
    }
    fn owes(&self) -> bool {
        false
    }
    fn held_bytes(&self) -> usize {
        0
    }
    fn status(&self) -> Vec<BrokerStatus> {
        Vec::new()
    }
    fn close(&mut self) {}
}

struct World {
    hub: Hub<Desk, InMemory>,
    location: &'static Location,
    main: &'static Main,
}

impl World {
    fn new() -> World {
        BROKER.with(|broker| *broker.0.borrow_mut() = Shelf::default());
        let name = Template {
            text: b"$channel",
            has_variables: true,
            number: 0,
        };
        let location = Location {
            service: Some(Service::WebSocket),
            redis: Some(0),
            publish: Some(name),
            subscriptions: vec![Subscription {
                kind: NameKind::Channel,
                name,
            }],
            ..Location::default()
        };
        let location: &'static Location = Box::leak(Box::new(location));
        let server = proto::redis::url::parse("redis://localhost").expect("a URL");
        let main = Main {
            brokers: vec![Arc::new(server)],
            ..Main::default()
        };
        let main: &'static Main = Box::leak(Box::new(main));
        let mut hub = Hub::new(main, Desk).expect("a hub");
        hub.start();
        World {
            hub,
            location,
            main,
        }
    }

    /// Runs rounds of the event loop until nothing is left to do. Returns the other effects.
    fn settle(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let mut is_idle = true;
            while let Some(effect) = self.hub.next_effect() {
                is_idle = false;
                match effect {
                    Effect::Read(id) => self.hub.take_turn(id),
                    effect => effects.push(effect),
                }
            }
            if let Some((_, _, true)) = self.hub.wants() {
                is_idle = false;
                self.hub.turn();
            }
            if is_idle {
                return effects;
            }
        }
    }

    /// A client that listens to a channel and publishes there. It is accepted once the broker
    /// confirms.
    fn join(&mut self, channel: &'static str) -> (ClientId, &'static Socket) {
        let socket: &'static Socket = Box::leak(Box::default());
        let request = Request {
            channel,
            socket,
            location: self.location,
            main: self.main,
        };
        let admission = upgrade::check(request);
        let id = match self.hub.handshake(request, admission) {
            Outcome::Accept(id, switching) => {
                assert_eq!(switching.extensions, None::<Agreed>);
                id
            }
            Outcome::Park(_) => match &self.settle()[..] {
                [Effect::Accept(id, _)] => *id,
                other => panic!("{other:?}"),
            },
            Outcome::Respond(response) => panic!("{response:?}"),
        };
        self.hub.client_open(id, Vec::new());
        (id, socket)
    }

    fn say(&mut self, (id, socket): (ClientId, &Socket), text: &str) {
        let mut input = socket.input.borrow_mut();
        input.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        input.extend(text.bytes());
        drop(input);
        self.hub.client_readable(id);
        assert!(self.settle().is_empty());
    }
}

fn heard((_, socket): (ClientId, &Socket)) -> Vec<u8> {
    std::mem::take(&mut socket.output.borrow_mut())
}

#[test]
fn a_hub_runs_over_a_broker_that_is_no_redis() {
    let mut world = World::new();
    let (anna, bert, carl) = (world.join("a"), world.join("a"), world.join("b"));
    world.say(anna, "hello");
    world.say(carl, "b alone");
    assert_eq!(heard(anna), b"\x81\x05hello");
    assert_eq!(heard(bert), b"\x81\x05hello");
    assert_eq!(heard(carl), b"\x81\x07b alone");

    // A client that has left is told nothing more. When the last one leaves, the name is released.
    world.hub.client_gone(bert.0);
    world.hub.client_gone(carl.0);
    assert!(world.settle().is_empty());
    world.say(anna, "again");
    assert_eq!(heard(anna), b"\x81\x05again");
    let names = BROKER.with(|broker| broker.0.borrow().names.len());
    assert_eq!(names, 1);
}

#[test]
fn a_loss_is_told_to_those_who_listen_to_what_was_lost() {
    let mut world = World::new();
    let (anna, bert) = (world.join("a"), world.join("b"));
    BROKER.with(|broker| {
        let shelf = &mut *broker.0.borrow_mut();
        let missed = vec![shelf.names[&b"a"[..]]];
        shelf
            .news
            .push_back(News::Event(Event::Lost { broker: 0, missed }));
        shelf
            .news
            .push_back(News::Event(Event::Restored { broker: 0 }));
    });
    world.hub.turn();
    NOW.set(NOW.get() + 10_000);
    world.hub.tick(NOW.get());
    assert!(world.settle().is_empty());
    assert_eq!(
        heard(anna)[..4],
        [0x88, 31, 0x03, 0xf4],
        "1012, messages may have been missed"
    );
    assert_eq!(heard(bert), b"");
    world.say(bert, "still here");
    assert_eq!(heard(bert), b"\x81\x0astill here");
}
