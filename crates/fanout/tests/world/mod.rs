//! A registry between random publishers and random sockets, and what each client must receive: a
//! plain list of frames per client. Shared by the property test and the fuzz target.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use fanout::{
    ChannelId, ClientId, FeedId, FlushResult, FormatId, Furthest, NameKind, Pieces, Registry,
    Short, SlowClass, SlowPolicy, ToFrame, WriteOutcome,
};

const CHANNELS: u32 = 4;
const HEADER: usize = 9;
/// The channel byte of a frame that is the shell's own (a pong).
const OWN: u8 = 0xff;

pub const CLASSES: [SlowClass; 5] = [
    SlowClass {
        send_queue: u64::MAX,
        policy: SlowPolicy::Close,
    },
    SlowClass {
        send_queue: 2_000,
        policy: SlowPolicy::Close,
    },
    SlowClass {
        send_queue: 2_000,
        policy: SlowPolicy::DropOldest,
    },
    SlowClass {
        send_queue: 100_000,
        policy: SlowPolicy::DropOldest,
    },
    SlowClass {
        send_queue: 2_000,
        policy: SlowPolicy::Latest,
    },
];

/// Bytes that repeat with this length and no shorter one.
static PERIOD: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..4093u32).map(|at| (at * at % 251) as u8).collect());

/// Channel, number, size, and bytes that depend on number and variant: no torn, shifted or swapped
/// frame looks whole.
fn frame(channel: u8, number: u32, variant: u32, size: usize) -> Vec<u8> {
    let mut bytes = vec![channel];
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&(size as u32).to_le_bytes());
    let mut rest = (number * 97 + variant * 31) as usize % PERIOD.len();
    while bytes.len() < HEADER + size {
        let left = HEADER + size - bytes.len();
        let piece = &PERIOD[rest..PERIOD.len().min(rest + left)];
        bytes.extend_from_slice(piece);
        rest = 0;
    }
    bytes
}

struct Expected {
    number: u32,
    channel: u8,
    frame: Rc<Vec<u8>>,
}

/// A message, and the frames that were made of it.
struct Message {
    channel: u8,
    number: u32,
    size: usize,
    framed: HashMap<u32, Rc<Vec<u8>>>,
}

impl ToFrame for Message {
    fn append(&mut self, FormatId(variant): FormatId, out: &mut Vec<u8>) -> bool {
        let bytes = frame(self.channel, self.number, variant, self.size);
        out.extend_from_slice(&bytes);
        // Some messages can't be framed in one of the variants.
        let fits = !self.number.is_multiple_of(5) || variant == 0;
        if fits {
            let before = self.framed.insert(variant, Rc::new(bytes));
            assert!(before.is_none(), "framed twice");
        }
        fits
    }
}

struct Client {
    variant: u32,
    channels: u32,
    class: SlowClass,
    tls: bool,
    /// Bytes that the socket takes now.
    room: usize,
    broken: bool,
    muted: bool,
    /// The shell waits for the socket to become writable.
    armed: bool,
    own_pending: bool,
    committed: Vec<u8>,
    wire: Vec<u8>,
    expected: Vec<Expected>,
    skipped: u64,
    /// Gone or too slow: it gets nothing more.
    out: bool,
}

impl Client {
    /// The socket's side of a write.
    fn offer(&mut self, bytes: &[u8]) -> WriteOutcome {
        assert!(!bytes.is_empty());
        assert!(!self.muted, "a muted client was sent something");
        assert!(
            bytes.starts_with(&self.committed),
            "committed bytes were not offered again"
        );
        self.committed.clear();
        if self.broken {
            self.out = true;
            return WriteOutcome::Gone;
        }
        let written = bytes.len().min(self.room);
        self.room -= written;
        self.wire.extend_from_slice(&bytes[..written]);
        if written == bytes.len() {
            return WriteOutcome::All;
        }
        if !self.tls {
            return WriteOutcome::Part(written);
        }
        let offered = (bytes.len() - written).min(1500);
        self.committed = bytes[written..written + offered].to_vec();
        WriteOutcome::Committed { written, offered }
    }

    /// Sends it the rest of a frame, piece by piece.
    fn take_rest(&mut self, mut rest: Pieces) {
        let (len, scratch) = (rest.len(), &mut Vec::new());
        let offered = rest.unsent(usize::MAX, b"", scratch);
        assert!(offered.starts_with(&self.committed));
        let before = self.wire.len();
        while !rest.is_empty() {
            let bytes = rest.unsent(usize::MAX, b"", scratch);
            let taken = bytes.len().div_ceil(2);
            self.wire.extend_from_slice(&bytes[..taken]);
            rest.sent(taken);
        }
        assert_eq!(self.wire.len() - before, len);
    }

    /// Reads the wire: expected frames, whole and in order, and the shell's own between them.
    /// Returns the numbers of the expected frames and their bytes.
    fn received(&self) -> (Vec<u32>, usize) {
        let mut rest = &self.wire[..];
        let mut due = self.expected.iter();
        let (mut numbers, mut bytes) = (Vec::new(), 0);
        while !rest.is_empty() {
            if rest[0] == OWN {
                assert_eq!(rest[..HEADER], frame(OWN, 0, 0, 0), "torn own frame");
                rest = &rest[HEADER..];
                continue;
            }
            let number = u32::from_le_bytes(rest[1..5].try_into().unwrap());
            let frame = due.find(|due| due.number == number).expect("out of order");
            assert!(rest.starts_with(&frame.frame), "torn frame {number}");
            numbers.push(number);
            bytes += frame.frame.len();
            rest = &rest[frame.frame.len()..];
        }
        (numbers, bytes)
    }
}

pub struct World {
    registry: Registry,
    channels: Vec<ChannelId>,
    clients: Vec<Option<Client>>,
    /// What clients that have left must still be sent.
    rests: Vec<Pieces>,
    out: FlushResult,
    published: u32,
}

impl World {
    pub fn new(clients: usize) -> World {
        let mut registry = Registry::new();
        let channels = (0..CHANNELS)
            .map(|channel| registry.channel(0, NameKind::Channel, &channel.to_le_bytes()))
            .collect();
        let clients = (0..clients).map(|_| None).collect();
        World {
            registry,
            channels,
            clients,
            rests: Vec::new(),
            out: FlushResult::default(),
            published: 0,
        }
    }

    pub fn step(&mut self, [verb, a, b, c]: [u8; 4]) {
        let client = a as usize % self.clients.len();
        match verb % 16 {
            0 | 1 => self.join(client, b, c),
            2 => self.unmute(client),
            3 if c % 32 == 1 => self.burst(u32::from(a), usize::from(b)),
            3..=6 => {
                let count = 1 + u32::from(a / 16) % 3;
                self.publish(u32::from(a) % CHANNELS, size(b, c), count);
            }
            7 => self.flush_one(usize::from(b) % 8, c % 2 == 0),
            8 => self.flush_all(),
            9 | 10 => self.writable(client, size(b, c)),
            11 => self.pause_feed(client),
            12 => self.leave(client),
            13 => self.treat_furthest(),
            14 if b % 4 == 0 => drop(self.rests.pop()),
            14 => self.unmute_all(),
            _ if c % 16 == 0 => self.with(client, |it| it.broken = true),
            _ => self.with(client, |it| it.room = size(b, c)),
        }
        let counted = self.registry.recounted(self.rests.iter());
        assert_eq!(self.registry.log_bytes(), counted, "the account");
        // What was published stays on the tapes until something else is done.
        if !matches!(verb % 16, 3..=6) {
            self.check();
        }
    }

    /// Sends everything, and checks what every client has received.
    pub fn finish(mut self) {
        self.unmute_all();
        for id in 0..self.clients.len() {
            self.with(id, |it| it.room = usize::MAX);
        }
        self.flush_all();
        for id in 0..self.clients.len() {
            if self.clients[id]
                .as_ref()
                .is_some_and(|it| it.armed || it.own_pending)
            {
                self.write(id);
            }
        }
        self.flush_all();
        for id in 0..self.clients.len() {
            if let Some(client) = &self.clients[id]
                && !client.out
            {
                assert!(
                    self.registry.is_current(ClientId(id as u32)),
                    "client {id} stays behind"
                );
            }
            self.leave(id);
        }
        self.check();
        self.rests.clear();
        assert_eq!(self.registry.log_bytes(), 0);
        assert_eq!(
            (self.registry.feed_count(), self.registry.client_count()),
            (0, 0)
        );
    }

    fn with(&mut self, id: usize, change: impl FnOnce(&mut Client)) {
        if let Some(client) = &mut self.clients[id] {
            change(client);
        }
    }

    fn join(&mut self, id: usize, b: u8, c: u8) {
        if self.clients[id].is_some() {
            return;
        }
        let mask = 1 + u32::from(b) % ((1 << CHANNELS) - 1);
        let class = CLASSES[usize::from(c >> 2) % CLASSES.len()];
        let client = Client {
            variant: u32::from(c % 2),
            channels: mask,
            class,
            tls: c & 2 != 0,
            room: 1000,
            broken: false,
            muted: true,
            armed: false,
            own_pending: false,
            committed: Vec::new(),
            wire: Vec::new(),
            expected: Vec::new(),
            skipped: 0,
            out: false,
        };
        let mut channels: Vec<ChannelId> = (0..CHANNELS)
            .filter(|at| mask & 1 << at != 0)
            .map(|at| self.at(at))
            .collect();
        channels.reverse();
        channels.push(channels[0]);
        let socket = if client.tls { -1 } else { id as i32 };
        let variant = FormatId(client.variant);
        self.registry
            .join(ClientId(id as u32), socket, &channels, variant, class, true);
        self.clients[id] = Some(client);
    }

    fn at(&self, channel: u32) -> ChannelId {
        self.channels[channel as usize]
    }

    fn unmute(&mut self, id: usize) {
        let Some(client) = &mut self.clients[id] else {
            return;
        };
        if std::mem::take(&mut client.muted) && !self.registry.unmute(ClientId(id as u32)) {
            self.write(id);
        }
    }

    fn unmute_all(&mut self) {
        (0..self.clients.len()).for_each(|id| self.unmute(id));
    }

    /// Publishes `count` messages at once.
    fn publish(&mut self, channel: u32, size: usize, count: u32) {
        let first = self.published;
        self.published += count;
        let numbers = first + 1..=self.published;
        let messages = numbers.map(|number| Message {
            channel: channel as u8,
            number,
            size: size / (number - first) as usize,
            framed: HashMap::new(),
        });
        let mut messages: Vec<_> = messages.collect();
        let id = self.at(channel);
        let published = self.registry.publish_each(id, |listeners| {
            for message in &mut messages {
                let is_noted = listeners.note(|variant, out: &mut _| message.append(variant, out));
                assert_eq!(is_noted, !message.framed.is_empty());
            }
        });
        let expected: usize = messages.iter().map(|message| self.expect(message)).sum();
        assert_eq!(published.clients, expected);
    }

    /// Many messages, of two channels in turn.
    fn burst(&mut self, a: u32, size: usize) {
        for at in 0..200 {
            self.publish((a >> (at % 2 * 4)) % CHANNELS, size * 3, 1 + at / 100);
        }
    }

    /// Each client that listens to it now expects a message. Returns how many do.
    fn expect(&mut self, message: &Message) -> usize {
        let mut listeners = 0;
        for client in self.clients.iter_mut().flatten() {
            let Some(bytes) = message.framed.get(&client.variant) else {
                continue;
            };
            if client.channels & 1 << message.channel != 0 {
                listeners += 1;
                client.expected.push(Expected {
                    number: message.number,
                    channel: message.channel,
                    frame: bytes.clone(),
                });
            }
        }
        listeners
    }

    fn flush_one(&mut self, budget: usize, in_batches: bool) {
        let Some(feed) = self.registry.next_dirty() else {
            return;
        };
        let tried = self.out.tried;
        if in_batches {
            self.flush_in_batches(feed, budget);
        } else {
            let clients = &mut self.clients;
            let send = |socket: i32, id: ClientId, bytes: &[u8]| {
                let client = clients[id.0 as usize]
                    .as_mut()
                    .expect("a client that has left");
                assert_eq!(socket, if client.tls { -1 } else { id.0 as i32 });
                client.offer(bytes)
            };
            self.registry.flush(feed, budget, send, &mut self.out);
        }
        assert!(self.out.tried - tried <= budget);
        self.take_result();
    }

    fn flush_in_batches(&mut self, feed: FeedId, mut budget: usize) {
        while let Some(batch) = self.registry.next_batch(feed, budget, &mut self.out) {
            let mut shorts = Vec::new();
            for (index, &id) in batch.clients.iter().enumerate() {
                let client = self.clients[id as usize]
                    .as_mut()
                    .expect("a client that has left");
                let sent = client.offer(batch.bytes);
                if sent != WriteOutcome::All {
                    shorts.push(Short {
                        index: index as u32,
                        sent,
                    });
                }
            }
            let tried = batch.clients.len();
            let middle = shorts.len() / 2;
            shorts.rotate_left(middle);
            self.registry
                .completed(feed, tried, &mut shorts, &mut self.out);
            budget -= tried;
        }
    }

    fn flush_all(&mut self) {
        while self.registry.next_dirty().is_some() {
            self.flush_one(100, false);
        }
        for (id, client) in self.clients.iter().enumerate() {
            let Some(client) = client.as_ref().filter(|it| !it.out) else {
                continue;
            };
            if client.class.policy != SlowPolicy::Latest {
                let lag = self.registry.lag_bytes(ClientId(id as u32));
                assert!(lag <= client.class.send_queue, "a lag of {lag} was let be");
            }
        }
    }

    /// What the shell does with the result of a flush or a treatment.
    fn take_result(&mut self) {
        let out = std::mem::take(&mut self.out);
        for id in out.short {
            self.with(id.0 as usize, |it| it.armed = true);
        }
        for id in &out.gone {
            assert!(self.clients[id.0 as usize].as_ref().unwrap().out);
        }
        for id in out.too_slow {
            self.with(id.0 as usize, |it| {
                assert_eq!(it.class.policy, SlowPolicy::Close);
                assert!(!std::mem::replace(&mut it.out, true), "said twice");
            });
        }
        for skip in out.skipped {
            self.with(skip.client.0 as usize, |it| it.skipped += skip.messages);
        }
        for id in out.resumed {
            self.write(id.0 as usize);
        }
    }

    fn writable(&mut self, id: usize, room: usize) {
        self.with(id, |it| it.room = room);
        if self.clients[id].as_ref().is_some_and(|it| it.armed) {
            self.write(id);
        }
    }

    /// The shell's write handler of a laggard.
    fn write(&mut self, id: usize) {
        let Some(client) = &mut self.clients[id] else {
            return;
        };
        let who = ClientId(id as u32);
        client.armed = false;
        loop {
            while let Some(bytes) = self.registry.unsent(who) {
                let (written, committed) = match client.offer(bytes) {
                    WriteOutcome::All => (bytes.len(), 0),
                    WriteOutcome::Part(written) => (written, 0),
                    WriteOutcome::Committed { written, offered } => (written, offered),
                    WriteOutcome::Gone => return self.leave(id),
                };
                let all = written == bytes.len();
                self.registry.sent(who, written, committed);
                if !all {
                    client.armed = true;
                    return;
                }
            }
            if client.own_pending {
                if client.muted || client.out || !self.registry.at_boundary(who) {
                    return;
                }
                if client.room == 0 {
                    client.armed = true;
                    return;
                }
                assert!(client.committed.is_empty());
                client.wire.extend_from_slice(&frame(OWN, 0, 0, 0));
                client.own_pending = false;
            }
            if self.registry.release(who) || self.registry.unsent(who).is_none() {
                return;
            }
        }
    }

    fn pause_feed(&mut self, id: usize) {
        let Some(client) = &mut self.clients[id] else {
            return;
        };
        if client.muted || client.out {
            return;
        }
        client.own_pending = true;
        let armed = client.armed;
        self.registry.pause_feed(ClientId(id as u32));
        assert!(!self.registry.is_current(ClientId(id as u32)));
        if !armed {
            self.write(id);
        }
    }

    /// The client leaves with a Close frame: a partly sent frame must be ended first.
    fn leave(&mut self, id: usize) {
        let Some(mut client) = self.clients[id].take() else {
            self.registry.leave(ClientId(id as u32), &mut Vec::new());
            return;
        };
        let who = ClientId(id as u32);
        let behind = self.registry.lag_bytes(who) > 0 || !self.registry.at_boundary(who);
        let delivered = self.registry.delivered(who).unwrap();
        let whole = self.registry.at_boundary(who) && !client.broken;
        if !client.broken {
            let rest = self.registry.rest_of_frame(who);
            assert_eq!(whole, rest.is_empty());
            client.take_rest(rest.clone());
            self.rests.push(rest);
            let (numbers, bytes) = client.received();
            if whole && !client.out {
                assert_eq!(delivered, (numbers.len() as u64, bytes as u64));
            }
            let clean = self.registry.next_dirty().is_none();
            self.check_received(&client, &numbers, clean && !behind && !client.out);
        }
        let mut emptied = Vec::new();
        self.registry.leave(who, &mut emptied);
        for (at, channel) in self.channels.iter().enumerate() {
            let others = self
                .clients
                .iter()
                .flatten()
                .any(|it| it.channels & 1 << at != 0);
            assert_eq!(self.registry.has_clients(*channel), others);
            let left = client.channels & 1 << at != 0 && !others;
            assert_eq!(emptied.contains(channel), left);
        }
    }

    fn check_received(&self, client: &Client, numbers: &[u32], all: bool) {
        let numbers_due: Vec<u32> = client.expected.iter().map(|due| due.number).collect();
        match client.class.policy {
            SlowPolicy::Close => assert!(numbers_due.starts_with(numbers), "a message was skipped"),
            SlowPolicy::DropOldest => {}
            SlowPolicy::Latest => {
                for channel in (0..CHANNELS as u8).filter(|_| all) {
                    let newest = client.expected.iter().rfind(|due| due.channel == channel);
                    assert!(newest.is_none_or(|due| numbers.contains(&due.number)));
                }
            }
        }
        if all {
            assert_eq!(
                numbers.len() as u64 + client.skipped,
                numbers_due.len() as u64
            );
        }
    }

    fn treat_furthest(&mut self) {
        self.registry.end_shortage();
        let who = match self.registry.furthest_behind() {
            None => {
                let joined = (0..self.clients.len()).filter(|id| self.clients[*id].is_some());
                let mut lags = joined.map(|id| self.registry.lag_bytes(ClientId(id as u32)));
                assert!(lags.all(|lag| lag == 0));
                return;
            }
            Some(Furthest::Lags(who)) => who,
            Some(Furthest::InFrame(who)) => {
                assert!(!self.registry.at_boundary(who));
                return;
            }
        };
        let lag = self.registry.lag_bytes(who);
        assert!(lag > 0);
        self.registry.treat(who, &mut self.out);
        if self.clients[who.0 as usize].as_ref().unwrap().class.policy == SlowPolicy::DropOldest {
            assert!(self.registry.lag_bytes(who) <= lag / 2);
        }
        self.take_result();
    }

    fn check(&mut self) {
        let clients = self.clients.iter().flatten().count();
        assert_eq!(self.registry.client_count(), clients);
        let current = |id: &usize| self.registry.is_current(ClientId(*id as u32));
        let ids = (0..self.clients.len()).filter(|id| self.clients[*id].is_some());
        assert_eq!(
            self.registry.laggard_count(),
            clients - ids.filter(current).count()
        );
        for (at, channel) in self.channels.iter().enumerate() {
            let mut listeners: Vec<_> = self.registry.listeners_of(*channel).collect();
            listeners.sort();
            let listens = |client: &Client| client.channels & (1 << at) != 0;
            let clients = self.clients.iter().enumerate();
            let expected = clients.filter(|(_, client)| client.as_ref().is_some_and(listens));
            let expected: Vec<_> = expected.map(|(id, _)| ClientId(id as u32)).collect();
            assert_eq!(listeners, expected);
        }
        let mut listeners: Vec<_> = self.registry.listeners_of_any(&self.channels).collect();
        listeners.sort();
        let clients = self.clients.iter().enumerate();
        let listens = |client: &Client| client.channels != 0;
        let expected = clients.filter(|(_, client)| client.as_ref().is_some_and(listens));
        let expected: Vec<_> = expected.map(|(id, _)| ClientId(id as u32)).collect();
        assert_eq!(listeners, expected, "each once");
        let counted = self.registry.recounted(self.rests.iter());
        assert_eq!(self.registry.log_bytes(), counted, "the account");
        if self.registry.next_dirty().is_none()
            && self.registry.laggard_count() == 0
            && self.rests.iter().all(Pieces::is_empty)
        {
            assert_eq!(
                self.registry.log_bytes(),
                0,
                "memory is held while nobody lags"
            );
        }
    }
}

/// Mostly small; now and then by reference, or more than one write.
fn size(b: u8, c: u8) -> usize {
    let fine = usize::from(b) + usize::from(c) * 3;
    match c {
        0..=3 => 1_000_000 + fine * 1500,
        4..=11 => 60_000 + fine * 30,
        12..=23 => 16_000 + fine,
        24..=40 => 0,
        _ => fine,
    }
}
