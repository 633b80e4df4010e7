//! The seam: the virtual world answers what the hub asks for.

use std::cell::Cell;
use std::fmt::Arguments;
use std::io;

use fanout::ClientId;
use hub::answer::Text;
use hub::outside::{self, EvaluationFailed, Level, Outside, PeerId, Progress, Received, Sent};
use hub::session::Session;
use hub::settings::{Location, Main, Template};

use crate::net::{Net, PeerSocket, Post, Source, Stage, net};
use crate::redis;
use crate::settings::Ask;

pub struct Virtual;

thread_local! {
    /// Whether events are printed.
    pub static IS_TRACED: Cell<bool> = const { Cell::new(false) };
}

pub fn trace(line: impl FnOnce() -> String) {
    net(|net| trace_in(net, line));
}

pub fn trace_in(net: &Net, line: impl FnOnce() -> String) {
    if IS_TRACED.get() {
        println!("{:>9} {}", net.clock, line());
    }
}

/// A request, identified by its connection.
#[derive(Clone, Copy)]
pub struct Request {
    pub at: usize,
    pub ask: &'static Ask,
}

#[derive(Clone, Copy)]
pub struct Io {
    pub at: usize,
}

/// The hub's end of a link.
pub struct Peer {
    at: usize,
}

#[derive(Default)]
pub struct Clients {
    seats: Vec<Option<(usize, Session)>>,
    free: Vec<u32>,
}

impl Outside for Virtual {
    type Request = Request;
    type Io = Io;
    type Clients = Clients;
    type Peer = Peer;

    fn now(&self) -> u64 {
        net(|net| net.now)
    }

    fn is_exiting(&self) -> bool {
        net(|net| net.is_exiting)
    }

    fn shutdown_timeout(&self) -> Option<u64> {
        net(|net| net.shutdown_timeout)
    }

    fn connections(&self) -> (usize, usize) {
        (1024, 1000)
    }

    fn process(&self) -> (i32, usize) {
        (1, 0)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        net(|net| {
            net.draws += 1;
            let spread = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
            Ok(u128::from(net.draws).wrapping_mul(spread).to_le_bytes())
        })
    }

    fn log(&self, level: Level, text: Arguments<'_>) {
        trace(|| format!("log: {text}"));
        if matches!(level, Level::Emerg | Level::Alert) {
            net(|net| net.blame(|| format!("alert: {text}")));
        }
    }

    fn connect(&mut self, broker: usize, _attempt: usize, id: PeerId) -> Result<Peer, String> {
        net(|net| {
            let at = net.peers.len();
            let room = net.servers[broker].room;
            net.peers.push(PeerSocket::new(id, broker, room));
            redis::connected_to(net, at).map(|()| Peer { at })
        })
    }

    fn sends_together(&self) -> bool {
        net(|net| net.sends_together)
    }

    fn send_each(
        &mut self,
        sockets: &[i32],
        bytes: &[u8],
        mut short: impl FnMut(usize, Sent),
    ) -> usize {
        // A ring may break off anywhere, but makes progress.
        let tried = net(|net| {
            net.draws += 1;
            match net.sends_together && net.draws.is_multiple_of(7) {
                true => 1 + net.draws as usize % sockets.len(),
                false => sockets.len(),
            }
        });
        for (place, &socket) in sockets[..tried].iter().enumerate() {
            if let Ok(at) = usize::try_from(socket) {
                match (Io { at }).write(bytes) {
                    Sent::Bytes(count) if count == bytes.len() => {}
                    sent => short(place, sent),
                }
            }
        }
        tried
    }

    fn unpark(&self, request: Request, number: u64) {
        net(|net| {
            let socket = &mut net.sockets[request.at];
            if socket.stage == Stage::Parked(number) {
                socket.stage = Stage::Asking;
            } else {
                let stage = socket.stage;
                net.blame(|| format!("{stage:?} is unparked by {number}"));
            }
        });
    }
}

impl outside::HttpRequest for Request {
    fn is_get(&self) -> bool {
        !self.ask.is_post
    }

    fn is_head(&self) -> bool {
        false
    }

    fn is_post(&self) -> bool {
        self.ask.is_post
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
        net(|net| net.sockets[self.at].is_tls)
    }

    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let headers = self.ask.headers.iter();
        headers.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn authority(&self) -> Option<&[u8]> {
        None
    }

    fn query(&self) -> &[u8] {
        &self.ask.query
    }

    fn first_query(&self) -> &[u8] {
        &self.ask.query
    }

    fn lacks_its_body(&self) -> bool {
        false
    }

    fn body_length(&self) -> usize {
        net(|net| net.sockets[self.at].body.len())
    }

    fn body(&self) -> io::Result<Vec<u8>> {
        net(|net| Ok(net.sockets[self.at].body.clone()))
    }

    fn log(&self, _: Level, text: Arguments<'_>) {
        trace(|| format!("request of {}: {text}", self.at));
    }

    fn log_to_operator(&self, _: Arguments<'_>) {}
}

impl outside::Request for Request {
    fn location(&self) -> &'static Location {
        self.ask.location
    }

    fn main(&self) -> &'static Main {
        self.ask.main
    }

    fn evaluate(&self, template: Template) -> Result<Text, EvaluationFailed> {
        Ok(self.ask.evaluate(template))
    }
}

impl outside::Clients<Session> for Clients {
    type Request = Request;
    type Io = Io;

    fn insert(&mut self, request: Request, session: Session) -> ClientId {
        let id = self.free.pop().unwrap_or(self.seats.len() as u32);
        if id as usize == self.seats.len() {
            self.seats.push(None);
        }
        self.seats[id as usize] = Some((request.at, session));
        ClientId(id)
    }

    fn get(&mut self, id: ClientId) -> Option<(Io, &mut Session)> {
        let (at, session) = self.seats.get_mut(id.0 as usize)?.as_mut()?;
        Some((Io { at: *at }, session))
    }

    fn remove(&mut self, id: ClientId) -> Option<Session> {
        let (_, session) = self.seats.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        Some(session)
    }

    fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    fn ids(&self) -> impl Iterator<Item = ClientId> {
        let seats = self.seats.iter().enumerate();
        let taken = seats.filter(|(_, seat)| seat.is_some());
        taken.map(|(id, _)| ClientId(id as u32))
    }
}

impl Io {
    fn write(self, bytes: &[u8]) -> Sent {
        let sent = self.write_quietly(bytes);
        trace(|| format!("{} is sent {} bytes: {sent:?}", self.at, bytes.len()));
        sent
    }

    fn write_quietly(self, bytes: &[u8]) -> Sent {
        net(|net| match net.sockets[self.at].write(bytes) {
            Ok(sent) => sent,
            Err(wrong) => {
                net.blame(|| format!("connection {}: {wrong}", self.at));
                Sent::Failed
            }
        })
    }
}

impl outside::Io for Io {
    fn recv(&self, buf: &mut [u8]) -> Received {
        let received = net(|net| net.sockets[self.at].read(buf));
        trace(|| format!("{} is read: {received:?}", self.at));
        received
    }

    fn send(&self, bytes: &[u8]) -> Sent {
        self.write(bytes)
    }

    fn plain_fd(&self) -> Option<i32> {
        net(|net| (!net.sockets[self.at].is_tls).then_some(self.at as i32))
    }

    fn is_readable(&self) -> bool {
        net(|net| net.sockets[self.at].is_readable())
    }

    fn has_news(&self) -> bool {
        let (input, room) = net(|net| net.sockets[self.at].news());
        input || room
    }

    fn has_room_again(&self) -> bool {
        net(|net| net.sockets[self.at].news().1)
    }

    fn unacknowledged(&self) -> u64 {
        net(|net| net.sockets[self.at].down.len() as u64)
    }

    fn read_again(&self) {
        net(|net| net.post_next(Post::Read(Source::Client(self.at))));
    }

    fn write_again(&self) {
        net(|net| net.post_next(Post::Write(Source::Client(self.at))));
    }

    fn want_read(&self) -> bool {
        true
    }

    fn want_write(&self) -> bool {
        net(|net| {
            if net.sockets[self.at].want_write() {
                net.wake(Source::Client(self.at));
            }
        });
        true
    }

    fn shutdown(&self) {
        net(|net| {
            let now = net.now;
            if let Err(wrong) = net.sockets[self.at].shut(now) {
                net.blame(|| format!("connection {}: {wrong}", self.at));
            }
        });
    }

    fn abandon(&self, _: i32) {
        net(|net| net.sockets[self.at].is_abandoned = true);
    }

    fn close_at_exit(&self) {
        net(|net| {
            let now = net.clock;
            let socket = &mut net.sockets[self.at];
            socket.closed = Some((now, !socket.up.is_empty()));
        });
    }

    fn discard(&self, buf: &mut [u8], most: usize) -> Received {
        net(|net| net.sockets[self.at].discard(buf.len(), most))
    }

    fn is_detached(&self) -> bool {
        net(|net| net.sockets[self.at].is_detached)
    }

    fn set_notsent_lowat(&self, _: usize) {}

    fn bound_receive_buffer(&self, _: usize) {}

    fn log(&self, _: Level, text: Arguments<'_>) {
        trace(|| format!("{}: {text}", self.at));
        net(|net| {
            let clock = net.clock;
            let socket = &mut net.sockets[self.at];
            socket.silence = clock - socket.sent_at;
            socket.was_heard_out = socket.up.is_empty();
        });
    }
}

impl outside::Peer for Peer {
    fn advance(&mut self) -> Progress {
        match net(|net| net.peers[self.at].advance()) {
            Ok(None) => Progress::Pending,
            Ok(Some(true)) => Progress::Opened,
            Ok(Some(false)) => Progress::Open,
            Err(cause) => Progress::Failed(cause),
        }
    }

    fn is_open(&self) -> bool {
        net(|net| net.peers[self.at].is_open())
    }

    fn recv(&self, buf: &mut [u8]) -> Received {
        net(|net| net.peers[self.at].read(buf))
    }

    fn is_readable(&self) -> bool {
        net(|net| net.peers[self.at].is_readable())
    }

    fn send(&self, bytes: &[u8]) -> Sent {
        net(|net| net.peers[self.at].write(bytes))
    }

    fn read_again(&self) {
        net(|net| net.post_next(Post::Read(Source::Peer(self.at))));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        net(|net| redis::closed_by_hub(net, self.at));
    }
}
