//! One worker and everything around it: nginx's part of it, as in `src/nginx/event.rs`, `client.rs`
//! and `content.rs`, and what each action does.

use fanout::ClientId;
use hub::Hub;
use hub::answer::{Effect, Outcome, Response, Switching};
use hub::http::publish;
use hub::outside::{Clients as _, Outside as _};
use hub::upgrade;

use crate::check;
use crate::client::{Client, HEAD, State};
use crate::deadlines;
use crate::net::{Net, Post, Ready, Source, Stage, net};
use crate::outside::{Request, Virtual};
use crate::settings::{Profile, SERVERS, profile};

/// The position of a round of the event loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Epoll,
    Timer,
    Posted,
}

pub struct World {
    pub hub: Hub<Virtual>,
    pub profile: &'static Profile,
    pub clients: Vec<Client>,
    /// When the timer fires, and whether a quitting process waits for it.
    timer: Option<u64>,
    due: Option<u64>,
    pub owed: bool,
    is_performing: bool,
    round: Round,
    /// Messages published by somebody outside the simulation.
    pub published: u64,
    pub wrong: Option<String>,
    /// The account is checked after each step, which also brings it up to date.
    is_watched: bool,
    pub steps: u64,
    /// The timer has fired in this step.
    is_timed: bool,
}

impl World {
    pub fn new(seed: u64) -> World {
        let profile = profile(seed);
        let mut fresh = Net {
            now: 1_000_000,
            clock: 1_000_000,
            sends_together: seed.is_multiple_of(3),
            is_tight: profile.is_tight,
            ..Net::default()
        };
        fresh.servers.resize_with(SERVERS, Default::default);
        for server in &mut fresh.servers {
            server.room = [64 << 10, 2_000][(seed / 5 % 2) as usize];
        }
        net(|net| *net = fresh);
        let hub = Hub::new(profile.main, Virtual).expect("there are random numbers");
        let mut world = World {
            hub,
            profile,
            clients: Vec::new(),
            timer: None,
            due: None,
            owed: false,
            is_performing: false,
            round: Round::Epoll,
            published: 0,
            wrong: None,
            is_watched: (seed / 7).is_multiple_of(2),
            steps: 0,
            is_timed: false,
        };
        world.enter(Hub::start);
        world
    }

    /// `nginx::event::enter`.
    pub fn enter<R>(&mut self, work: impl FnOnce(&mut Hub<Virtual>) -> R) -> R {
        let result = work(&mut self.hub);
        if self.hub.is_settled() || self.is_performing {
            return result;
        }
        self.is_performing = true;
        while let Some(effect) = self.hub.next_effect() {
            self.perform(effect);
        }
        self.is_performing = false;
        self.settle();
        result
    }

    fn settle(&mut self) {
        let Some((due, owed, turn)) = self.hub.wants() else {
            return;
        };
        self.owed = owed;
        if turn {
            net(|net| net.post_next(Post::Turn));
        }
        if due == self.due && (due.is_none() || self.timer.is_some()) {
            return;
        }
        self.due = due;
        self.timer = due.map(|due| due.max(Virtual.now() + 1));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Accept(id, switching) => {
                let Some(at) = connection(&mut self.hub, id) else {
                    return;
                };
                self.accept(at, id, &switching);
            }
            Effect::Read(id) => self.enter(|hub| hub.take_turn(id)),
            Effect::Detach(id) => {
                if let Some(at) = connection(&mut self.hub, id) {
                    net(|net| net.sockets[at].is_detached = true);
                }
            }
            Effect::Close(id) => {
                let Some(at) = connection(&mut self.hub, id) else {
                    // Sending its 101 has just failed.
                    return;
                };
                self.hub.summary(id);
                self.hub.client_gone(id);
                self.end_connection(at);
            }
            Effect::Answer(number, response) => {
                let request = self.hub.take_parked(number);
                if let Some(request) = request {
                    self.respond(request.at, &response);
                }
            }
        }
    }

    pub fn blame(&mut self, what: &str) {
        net(|net| net.blame(|| what.to_owned()));
    }

    pub fn end_connection(&mut self, at: usize) {
        net(|net| net.close(at));
    }

    /// A plain answer.
    fn respond(&mut self, at: usize, response: &Response) {
        let stage = net(|net| net.sockets[at].stage);
        if !matches!(stage, Stage::Asking | Stage::Parked(_)) {
            self.blame(&format!("a request that is {stage:?} is answered"));
        }
        self.end_connection(at);
        if let Some(client) = self.clients.iter_mut().find(|client| client.at == at) {
            client.state = State::Refused(response.status);
            self.judge_answer(at, response.status);
        }
    }

    fn judge_answer(&mut self, at: usize, status: u16) {
        let is_just = net(|net| {
            let socket = &net.sockets[at];
            let server = &net.servers[socket.ask.server()];
            let posts = str::from_utf8(&socket.body)
                .ok()
                .and_then(|body| body.strip_prefix('Q')?.split(':').next()?.parse().ok());
            let was_published = posts.is_some_and(|post: u64| server.posts.contains(&post));
            match status {
                200 => was_published,
                403 => !server.was_forbidden.is_empty(),
                502..=504 => true,
                _ => false,
            }
        });
        if !is_just {
            self.blame(&format!(
                "connection {at} is answered {status} without a cause"
            ));
        }
    }

    /// `nginx::client::accept`: the 101 goes out as far as there is room.
    fn accept(&mut self, at: usize, id: ClientId, switching: &Switching) {
        let is_deflated = switching.extensions.is_some();
        if let Some(client) = self.clients.iter_mut().find(|client| client.at == at) {
            net(|net| client.accept(net, is_deflated));
        }
        let is_failed = net(|net| {
            net.enter(at, Stage::Opening(id));
            let socket = &mut net.sockets[at];
            socket.head.push(HEAD);
            socket.is_reset
        });
        if is_failed {
            self.enter(|hub| hub.client_gone(id));
            return self.end_connection(at);
        }
        self.flush_head(at);
        net(|net| net.post(Post::TakeOver(at)));
    }

    /// nginx writes the 101. Returns false if the connection is broken.
    fn flush_head(&mut self, at: usize) -> bool {
        net(|net| {
            let socket = &mut net.sockets[at];
            let bytes = socket.head.bytes().to_vec();
            let count = bytes.len().min(socket.free());
            socket.down.push(&bytes[..count]);
            socket.head.drop_front(count);
            if !socket.head.is_empty() {
                socket.note_full();
                if socket.want_write() {
                    net.wake(Source::Client(at));
                }
            }
            !net.sockets[at].is_reset
        })
    }

    /// `nginx::client::take_over`.
    fn take_over(&mut self, at: usize) {
        let Stage::Opening(id) = net(|net| net.sockets[at].stage) else {
            return;
        };
        if !net(|net| net.sockets[at].head.is_empty()) {
            return self.enter(|hub| hub.client_opens_slowly(id));
        }
        let policy = self.hub.detach_policy(id);
        let early = net(|net| {
            net.enter(at, Stage::Open(id));
            let socket = &mut net.sockets[at];
            socket.is_detached =
                policy != Some(hub::settings::Detach::Off) && !at.is_multiple_of(3);
            std::mem::take(&mut socket.early)
        });
        self.enter(|hub| hub.client_open(id, early));
    }

    /// Handles one event of nginx's loop, or begins the next round. Returns false if nothing is
    /// left to do.
    pub fn event(&mut self, pick: u32) -> bool {
        let ready = net(|net| {
            let count = net.told.len();
            (count > 0).then(|| net.told.swap_remove(pick as usize % count))
        });
        if let Some(ready) = ready {
            self.deliver(&ready);
            return true;
        }
        if self.round == Round::Epoll {
            self.round = Round::Timer;
            let now = Virtual.now();
            if self.timer.is_some_and(|due| due <= now) {
                self.timer = None;
                self.enter(|hub| hub.tick(now));
                self.is_timed = true;
                return true;
            }
        }
        if let Some(post) = net(|net| net.posted.pop_front()) {
            self.round = Round::Posted;
            self.deliver_posted(post);
            return true;
        }
        let is_idle = net(|net| !net.has_work() && self.timer.is_none_or(|due| due > net.clock));
        self.begin_round();
        !is_idle
    }

    /// `epoll_wait(2)`.
    pub fn begin_round(&mut self) {
        net(Net::begin_round);
        self.round = Round::Epoll;
    }

    fn deliver(&mut self, ready: &Ready) {
        match ready.source {
            Source::Client(at) => {
                net(|net| net.sockets[at].note_ready(ready));
                if ready.input {
                    self.client_input(at, ready.is_eof);
                }
                if ready.output && net(|net| net.sockets[at].closed.is_none()) {
                    self.client_output(at);
                }
            }
            Source::Peer(at) => {
                let id = net(|net| {
                    net.peers[at].note_ready(ready);
                    net.peers[at].id
                });
                if ready.input {
                    self.enter(|hub| hub.peer_readable(id));
                }
                if ready.output && net(|net| !net.peers[at].is_closed) {
                    self.enter(|hub| hub.peer_writable(id));
                }
            }
        }
    }

    fn client_input(&mut self, at: usize, is_eof: bool) {
        match net(|net| net.sockets[at].stage) {
            Stage::Open(id) => self.enter(|hub| hub.client_readable(id)),
            // `ngx_http_test_reading`.
            Stage::Parked(number) if is_eof => {
                self.end_connection(at);
                self.enter(|hub| hub.parked_gone(number));
            }
            Stage::Parked(_) | Stage::Opening(_) | Stage::Asking | Stage::Over => {}
        }
    }

    fn client_output(&mut self, at: usize) {
        match net(|net| net.sockets[at].stage) {
            Stage::Open(id) => self.enter(|hub| hub.client_writable(id)),
            Stage::Opening(id) if net(|net| !net.sockets[at].head.is_empty()) => {
                if !self.flush_head(at) {
                    self.end_connection(at);
                    return self.enter(|hub| hub.client_gone(id));
                }
                if net(|net| net.sockets[at].head.is_empty()) {
                    self.take_over(at);
                }
            }
            _ => {}
        }
    }

    fn deliver_posted(&mut self, post: Post) {
        match post {
            Post::Turn => self.enter(Hub::turn),
            Post::TakeOver(at) => self.take_over(at),
            Post::Read(Source::Client(at)) => self.client_input(at, false),
            Post::Write(Source::Client(at)) => self.client_output(at),
            Post::Read(Source::Peer(at)) => {
                let id = net(|net| net.peers[at].id);
                self.enter(|hub| hub.peer_readable(id));
            }
            Post::Write(Source::Peer(at)) => {
                let id = net(|net| net.peers[at].id);
                self.enter(|hub| hub.peer_writable(id));
            }
        }
    }

    /// `nginx::content`: a request has been read.
    pub fn ask(&mut self, at: usize) {
        let ask = net(|net| net.sockets[at].ask);
        let request = Request { at, ask };
        let outcome = if ask.is_post {
            match publish::check(request) {
                Ok(()) => {
                    let post = publish::prepare(request);
                    self.enter(|hub| hub.publisher(post))
                }
                Err(response) => Outcome::Respond(response),
            }
        } else {
            let admission = upgrade::check(request);
            self.enter(|hub| hub.handshake(request, admission))
        };
        match outcome {
            Outcome::Respond(response) => self.respond(at, &response),
            Outcome::Accept(id, switching) => self.accept(at, id, &switching),
            Outcome::Park(number) => {
                net(|net| net.enter(at, Stage::Parked(number)));
            }
        }
    }

    /// Milliseconds until the timer.
    pub fn timer_in(&self) -> Option<u64> {
        self.timer
            .map(|due| due.saturating_sub(net(|net| net.clock)))
    }

    /// Checks what must hold after each step.
    pub fn check(&mut self) {
        self.steps += 1;
        crate::run::STEPS.set(self.steps);
        let is_due = self.is_watched || self.steps.is_multiple_of(64);
        let wrong = match is_due {
            true => check::worker(&mut self.hub).err(),
            false => net(|net| net.wrong.take()),
        };
        self.wrong = self.wrong.take().or(wrong);
        if std::mem::take(&mut self.is_timed) && !net(|net| net.was_held_up) {
            let late = deadlines::missed(&mut self.hub, &self.clients).err();
            self.wrong = self.wrong.take().or(late);
        }
    }
}

/// The connection of a client.
fn connection(hub: &mut Hub<Virtual>, id: ClientId) -> Option<usize> {
    hub.clients().get(id).map(|(io, _)| io.at)
}
