//! Everything of one nginx worker, and the only router between the rooms.
//!
//! nginx's callbacks come in by the trampolines of `nginx::event`. A method here changes state and
//! sockets, and leaves [`Effect`]s for what may call back into the module: answers, ends of
//! requests and connections.

mod clients;
mod counters;
mod delivery;
mod drain;
mod flush;
mod handshake;
mod limits;
mod links;
mod untold;
mod wires;

use std::collections::VecDeque;

use fanout::{Budget, Category, ChannelId, ClientId, FlushResult, Queue, Registry, Short, Wheel};
use proto::redis::Role;

pub use counters::{Counters, Refusals};

use crate::answer::Effect;
use crate::answer::Response;
use crate::broker::{Redis, redis};
use crate::http::publish::{Early, Unanswered};
use crate::http::status;
use crate::outside::{Clients, HttpRequest, Outside};
use crate::session::{Inbox, Life, Phase, Summary, TICK_MS};
use crate::settings::Detach;
use crate::settings::Main;
use crate::upgrade::WaitingRoom;

/// The timer comes so late only when something has held the worker up: then what others owe it may
/// lie in its sockets.
const LATE_MS: u64 = 500;

/// Most that is read from a client at a time.
const BUFFER: usize = 64 << 10;

/// All state of the module in this worker.
pub struct Hub<O: Outside> {
    out: O,
    main: &'static Main,
    clients: O::Clients,
    registry: Registry,
    wires: wires::Wires,
    brokers: Vec<Redis<O::Peer>>,
    waiting: WaitingRoom<O::Request>,
    publishes: Unanswered<O::Request>,
    early_posts: Early,
    wheel: Wheel,
    budget: Budget,
    counters: Counters,
    refusals: Refusals,
    untold: untold::Untold,
    /// Of the last client that may publish.
    life: Life,
    limits: limits::Limits,
    drain: drain::Drain,
    effects: VecDeque<Effect>,
    /// Number of the next parked request.
    next_parked: u64,
    /// The wheel's time began then.
    born: u64,
    buffer: Vec<u8>,
    spare: Vec<u8>,
    inbox: Inbox,
    flushed: FlushResult,
    shorts: Vec<Short>,
    emptied: Vec<ChannelId>,
    /// Clients whose sockets may not have been told `websocket_notsent` yet. Some may have left.
    fresh: Vec<ClientId>,
    due: Vec<u32>,
    /// Clients that are not read until the publisher links have room.
    paused: clients::Paused,
    /// Clients that are not read before others were.
    turns: clients::Turns,
    /// Clients that were closed within a large frame, and have not taken its rest.
    leaving_in_frame: Queue,
    /// Bytes that clients who are behind may still be written before the next turn.
    round_left: usize,
    /// Work is left for the next round of the event loop.
    turn: bool,
    /// What the timer waits for has changed: [`Hub::is_settled`] finds it after each event.
    retime: bool,
    /// When the timer comes, as last set.
    timer_due: Option<u64>,
    /// Whether a quitting process was told to wait for it.
    timer_owed: bool,
}

impl<O: Outside> Hub<O> {
    /// A hub that has not begun.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(main: &'static Main, out: O) -> std::io::Result<Hub<O>> {
        let now = out.now();
        let seed = now ^ (u64::from(out.process().0.unsigned_abs()) << 32);
        let brokers = main.brokers.iter().enumerate();
        Ok(Hub {
            main,
            clients: O::Clients::default(),
            registry: Registry::new(),
            wires: wires::Wires::default(),
            brokers: brokers
                .map(|(n, server)| {
                    let seeds = [out.random()?, out.random()?];
                    Ok(Redis::new(n, server, seeds))
                })
                .collect::<std::io::Result<_>>()?,
            waiting: WaitingRoom::default(),
            publishes: Unanswered::default(),
            early_posts: Early::default(),
            wheel: Wheel::new(TICK_MS, now),
            budget: Budget::new(main.memory()),
            counters: Counters::default(),
            refusals: Refusals::default(),
            untold: untold::Untold::default(),
            life: Life::default(),
            limits: limits::Limits::default(),
            drain: drain::Drain::new(main.brokers.len(), seed),
            effects: VecDeque::new(),
            next_parked: 1,
            born: now,
            buffer: vec![0; BUFFER],
            spare: Vec::new(),
            inbox: Inbox::default(),
            flushed: FlushResult::default(),
            shorts: Vec::new(),
            emptied: Vec::new(),
            fresh: Vec::new(),
            due: Vec::new(),
            paused: clients::Paused::new(main.brokers.len()),
            turns: clients::Turns::default(),
            leaving_in_frame: Queue::default(),
            round_left: clients::ROUND_BUDGET,
            turn: false,
            retime: true,
            timer_due: None,
            timer_owed: false,
            out,
        })
    }

    /// Begins to connect to Redis.
    pub fn start(&mut self) {
        self.tick(self.out.now());
    }

    /// The process exits, and no event comes any more: clients who are left are told, and the links
    /// close, or nginx would report their sockets.
    pub fn stop(&mut self) {
        self.tell_who_is_left();
        self.brokers.clear();
    }

    /// For `nginx::event`, after each event: there is neither an effect nor a wish. Whatever the
    /// event was, a deadline that it moved before the timer's is found here, so nobody who moves one
    /// has to tell.
    pub fn is_settled(&mut self) -> bool {
        self.retime |= self.is_timer_late() || self.owes() != self.timer_owed;
        debug_assert!(
            self.retime || !is_before(self.next_deadline(), self.timer_due),
            "the timer waits beyond a deadline"
        );
        self.effects.is_empty() && !self.retime && !self.turn
    }

    /// A deadline that may have been moved comes before the timer.
    fn is_timer_late(&mut self) -> bool {
        let links = self.brokers.iter_mut().filter_map(Redis::moved_deadline);
        let moved = [
            links.min(),
            self.wheel.take_soonest(),
            self.waiting.next_deadline(),
            self.publishes.next_deadline(),
            self.drain.next_deadline(),
        ];
        is_before(moved.into_iter().flatten().min(), self.timer_due)
    }

    /// The earliest of all deadlines.
    fn next_deadline(&self) -> Option<u64> {
        let links = self.brokers.iter().filter_map(Redis::deadline);
        let deadlines = [
            links.min(),
            self.wheel.next_due(),
            self.waiting.next_deadline(),
            self.publishes.next_deadline(),
            self.drain.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// For `nginx::event`: the next thing to do once nothing is borrowed.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// For `nginx::event`: when to call [`Hub::tick`], whether a quitting process must wait for
    /// it, and whether to call [`Hub::turn`]. `None`: as before.
    pub fn wants(&mut self) -> Option<(Option<u64>, bool, bool)> {
        // Effects move deadlines, too.
        self.is_settled();
        let turn = std::mem::take(&mut self.turn);
        if !std::mem::take(&mut self.retime) && !turn {
            return None;
        }
        self.timer_due = self.next_deadline();
        self.timer_owed = self.owes();
        Some((self.timer_due, self.timer_owed, turn))
    }

    /// Somebody is owed something: a quitting worker stays.
    fn owes(&self) -> bool {
        self.clients.len() > 0
            || self.waiting.len() > 0
            || !self.publishes.is_empty()
            || self.brokers.iter().any(Redis::owes)
    }

    /// The timer: links, sessions, those who wait.
    pub fn tick(&mut self, now: u64) {
        self.retime = true;
        if self.out.is_exiting() {
            self.begin_drain(now);
        }
        let is_late = self.timer_due.is_some_and(|due| now > due + LATE_MS);
        for index in 0..self.brokers.len() {
            for role in [Role::Subscriber, Role::Publisher] {
                self.time_link(index, role, is_late, now);
            }
        }
        self.end_patience(now);
        self.tell_gaps(now);
        self.look_at_due_sessions(now);
        self.flush();
    }

    /// A link whose deadline has come, or which waits for something that may have come while the
    /// worker was stopped: what its socket has is heard before it is judged.
    fn time_link(&mut self, index: usize, role: Role, is_late: bool, now: u64) {
        let is_due = |redis: &mut Redis<O::Peer>| redis.wire(role).is_due(now);
        if is_late || is_due(&mut self.brokers[index]) {
            self.peer_readable(redis::peer(index, role));
        }
        if is_due(&mut self.brokers[index]) {
            self.brokers[index].wire(role).link.handle_timeout(now);
            self.hear_link(index, role, now);
            self.brokers[index].wire(role).write(now);
            self.hear_link(index, role, now);
        }
    }

    /// The next round of the event loop: what budgets have cut short, and what was collected.
    pub fn turn(&mut self) {
        let now = self.out.now();
        self.round_left = clients::ROUND_BUDGET;
        for index in 0..self.brokers.len() {
            for role in [Role::Subscriber, Role::Publisher] {
                self.brokers[index].wire(role).write(now);
                self.hear_link(index, role, now);
            }
            if !self.brokers[index].is_starting() {
                self.end_early_posts(index as u16);
            }
        }
        self.tell_untold();
        self.resume_reading();
        self.begin_turns();
        self.flush();
    }

    /// For `nginx::client`.
    pub fn clients(&mut self) -> &mut O::Clients {
        &mut self.clients
    }

    /// For `nginx::client`: whether the client's request may be freed.
    pub fn detach_policy(&mut self, id: ClientId) -> Option<Detach> {
        let (_, session) = self.clients.get(id)?;
        Some(match session.location.detach() {
            Detach::Auto if self.main.logs_the_end => Detach::Off,
            policy => policy,
        })
    }

    /// For `nginx::request`: takes a parked request out, to answer it.
    pub fn take_parked(&mut self, number: u64) -> Option<O::Request> {
        if let Some(waiting) = self.waiting.leave(number) {
            self.forsake(&waiting.channels);
            return Some(waiting.request);
        }
        self.early_posts.leave(number);
        self.publishes.leave(number).map(|(request, _)| request)
    }

    /// For variables: a client's life in numbers so far.
    pub fn summary(&mut self, id: ClientId) -> Option<Summary> {
        let (_, session) = self.clients.get(id)?;
        let mut summary = Summary {
            close_code: session.close_code,
            ..Summary::default()
        };
        if let Some(notes) = &session.notes {
            summary.channel.clone_from(&notes.channel);
            summary.messages_in = notes.messages_in;
            summary.bytes_in = notes.bytes_in;
            summary.messages_out = notes.messages_out;
            summary.bytes_out = notes.bytes_out;
            summary.duration_ms = self.out.now().saturating_sub(notes.since_ms);
        }
        let joined = matches!(session.phase, Phase::Opening | Phase::Open);
        let delivered = joined.then(|| self.registry.feed_of(id)).flatten();
        if let Some((messages, bytes)) = delivered.and_then(|_| self.registry.delivered(id)) {
            summary.messages_out += messages;
            summary.bytes_out += bytes;
        }
        Some(summary)
    }

    /// Answers `websocket_status`.
    pub fn status(&mut self, request: O::Request) -> Response {
        if !request.is_get() && !request.is_head() {
            let mut response = Response::status(405);
            response.headers.push(("Allow", "GET, HEAD".into()));
            return response;
        }
        self.account();
        self.counters.deflated = self.wires.deflated();
        let (worker_pid, worker) = self.out.process();
        let redis = self
            .main
            .brokers
            .iter()
            .zip(&self.brokers)
            .map(|(server, broker)| {
                let (subscriber, publisher) = broker.is_up();
                status::RedisStatus {
                    server: server.to_string(),
                    subscriber,
                    publisher,
                    unanswered: broker.unanswered,
                }
            });
        status::response(&status::Status {
            worker_pid,
            worker,
            connections: self.clients.len(),
            pending: self.waiting.len(),
            channels: self.registry.channel_count(),
            feeds: self.registry.feed_count(),
            lagging: self.registry.laggard_count(),
            counters: &self.counters,
            refused: &self.refusals,
            redis: redis.collect(),
            memory: status::MemoryStatus {
                limit: self.budget.limit(),
                logs: self.budget.held(Category::Logs),
                partial_messages: self.budget.held(Category::PartialMessages),
                replies: self.budget.held(Category::Replies),
                contexts: self.budget.held(Category::Contexts),
            },
        })
    }

    /// Milliseconds to the clock of sessions.
    fn session_tick(&self, now: u64) -> u32 {
        // From 1 on: 0 means "no message under way".
        1 + u32::try_from(now.saturating_sub(self.born) / TICK_MS).unwrap_or(u32::MAX / 2)
    }

    /// Brings the memory account up to date with what is counted elsewhere.
    fn account(&mut self) {
        self.budget.set(Category::Logs, self.registry.log_bytes());
        let links: usize = self.brokers.iter().map(Redis::memory).sum();
        let replies = links + self.early_posts.held_bytes();
        self.budget.set(Category::Replies, replies as u64);
    }
}

/// A deadline comes before the time that a timer is set to.
fn is_before(deadline: Option<u64>, timer: Option<u64>) -> bool {
    deadline.is_some_and(|due| timer.is_none_or(|set| due < set))
}
