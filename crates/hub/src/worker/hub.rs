//! The hub: everything of one worker.
//!
//! Events from outside call its methods. A method changes state and sockets. What may call back
//! into the hub (answers, ends of requests and connections) it leaves as [`Effect`]s.

use std::collections::VecDeque;

use fanout::{Budget, Category, ChannelId, ClientId, FlushResult, Queue, Registry, Short, Wheel};

use super::drain::Drain;
use super::encoders::Encoders;
use super::queues::{Paused, Turns};
use super::throttle::Limits;
use super::untold::Untold;
use crate::answer::Effect;
use crate::answer::Response;
use crate::broker::{Brokers, Redis};
use crate::counters::{Counters, Refusals};
use crate::http::publish::{Early, Unanswered};
use crate::http::status::{self, Status};
use crate::outside::{Clients, HttpRequest, Outside};
use crate::session::{Inbox, Life, Phase, Summary, TICK_MS};
use crate::settings::Detach;
use crate::settings::Main;
use crate::upgrade::WaitingRoom;

/// The timer is this late only if something held the worker up. Then what others sent in time may
/// still be unread in its sockets.
const LATE_MS: u64 = 500;

/// Most bytes that are written, in one round of the event loop, to all clients that are behind:
/// hundreds of them may become writable at once.
pub(super) const ROUND_BUDGET: usize = 4 << 20;

/// Most that is read from a client at a time.
pub(super) const BUFFER: usize = 64 << 10;

/// All state of the module in this worker.
pub struct Hub<O: Outside, B: Brokers<O> = Redis<O>> {
    pub(super) out: O,
    pub(super) main: &'static Main,
    pub(super) clients: O::Clients,
    pub(super) registry: Registry,
    pub(super) encoders: Encoders,
    pub(super) brokers: B,
    pub(super) waiting: WaitingRoom<O::Request>,
    pub(super) publishes: Unanswered<O::Request>,
    pub(super) early_posts: Early,
    pub(super) wheel: Wheel,
    pub(super) budget: Budget,
    pub(super) counters: Counters,
    pub(super) refusals: Refusals,
    pub(super) untold: Untold,
    /// The life of the last client that may publish.
    pub(super) life: Life,
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    pub(super) effects: VecDeque<Effect>,
    /// The number of the next parked request.
    pub(super) next_parked: u64,
    /// When the wheel's time began.
    pub(super) born: u64,
    pub(super) buffer: Vec<u8>,
    pub(super) spare: Vec<u8>,
    pub(super) inbox: Inbox,
    pub(super) flushed: FlushResult,
    pub(super) shorts: Vec<Short>,
    pub(super) emptied: Vec<ChannelId>,
    /// Clients whose sockets may not have `websocket_notsent` set yet. Some may have left.
    pub(super) fresh: Vec<ClientId>,
    pub(super) due: Vec<u32>,
    /// Clients that are not read until the publisher links have space.
    pub(super) paused: Paused,
    /// Clients that are not read before others have been.
    pub(super) turns: Turns,
    /// Clients that were closed within a large frame and have not taken its rest.
    pub(super) leaving_in_frame: Queue,
    /// Bytes that may still be written, before the next turn, to clients that are behind.
    pub(super) round_left: usize,
    /// Work is left for the next round of the event loop.
    pub(super) turn: bool,
    /// The timer must be set again. [`Hub::is_settled`] checks that after each event.
    pub(super) retime: bool,
    /// The time that the timer was last set to.
    pub(super) timer_due: Option<u64>,
    /// Whether a quitting process was told to wait for the timer.
    pub(super) timer_owed: bool,
}

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// A hub that has not been started.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(main: &'static Main, out: O) -> std::io::Result<Hub<O, B>> {
        let now = out.now();
        let seed = now ^ (u64::from(out.process().0.unsigned_abs()) << 32);
        Ok(Hub {
            main,
            clients: O::Clients::default(),
            registry: Registry::new(),
            encoders: Encoders::default(),
            brokers: B::new(&main.brokers, &out)?,
            waiting: WaitingRoom::default(),
            publishes: Unanswered::default(),
            early_posts: Early::default(),
            wheel: Wheel::new(TICK_MS, now),
            budget: Budget::new(main.memory()),
            counters: Counters::default(),
            refusals: Refusals::default(),
            untold: Untold::default(),
            life: Life::default(),
            limits: Limits::default(),
            drain: Drain::new(main.brokers.len(), seed),
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
            paused: Paused::new(main.brokers.len()),
            turns: Turns::default(),
            leaving_in_frame: Queue::default(),
            round_left: ROUND_BUDGET,
            turn: false,
            retime: true,
            timer_due: None,
            timer_owed: false,
            out,
        })
    }

    /// Starts to connect to Redis.
    pub fn start(&mut self) {
        self.tick(self.out.now());
    }

    /// The process exits, and no more events come: tells the clients that are left, and closes the
    /// links. nginx would otherwise report their sockets as open.
    pub fn stop(&mut self) {
        self.tell_who_is_left();
        self.brokers.close();
    }

    /// Called by the outside after each event: true if there is no effect to perform, no timer to
    /// set and no turn to call. A deadline that the event moved to before the timer is found here,
    /// so code that moves a deadline need not report it.
    pub fn is_settled(&mut self) -> bool {
        self.retime |= self.is_timer_late() || self.owes() != self.timer_owed;
        debug_assert!(
            self.retime || !is_before(self.next_deadline(), self.timer_due),
            "the timer waits beyond a deadline"
        );
        self.effects.is_empty() && !self.retime && !self.turn
    }

    /// Whether a deadline that may have been moved comes before the timer.
    fn is_timer_late(&mut self) -> bool {
        let moved = [
            self.brokers.moved_deadline(),
            self.wheel.take_soonest(),
            self.waiting.next_deadline(),
            self.publishes.next_deadline(),
            self.drain.next_deadline(),
        ];
        is_before(moved.into_iter().flatten().min(), self.timer_due)
    }

    /// The earliest of all deadlines.
    fn next_deadline(&self) -> Option<u64> {
        let deadlines = [
            self.brokers.deadline(),
            self.wheel.next_due(),
            self.waiting.next_deadline(),
            self.publishes.next_deadline(),
            self.drain.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Called by the outside: the next effect to perform when nothing is borrowed.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Called by the outside: when to call [`Hub::tick`], whether a quitting process must wait for
    /// it, and whether to call [`Hub::turn`]. `None`: as before.
    pub fn wants(&mut self) -> Option<(Option<u64>, bool, bool)> {
        // Performing effects moves deadlines, too.
        self.is_settled();
        let turn = std::mem::take(&mut self.turn);
        if !std::mem::take(&mut self.retime) && !turn {
            return None;
        }
        self.timer_due = self.next_deadline();
        self.timer_owed = self.owes();
        Some((self.timer_due, self.timer_owed, turn))
    }

    /// Whether someone still waits for this worker: a quitting worker must stay.
    pub(super) fn owes(&self) -> bool {
        self.clients.len() > 0
            || self.waiting.len() > 0
            || self.publishes.len() > 0
            || self.brokers.owes()
    }

    /// The timer: links, sessions, and everything that waits.
    pub fn tick(&mut self, now: u64) {
        self.retime = true;
        if self.out.is_exiting() {
            self.begin_drain(now);
        }
        let is_late = self.timer_due.is_some_and(|due| now > due + LATE_MS);
        self.brokers.tick(is_late, now);
        self.hear(now);
        self.end_patience(now);
        self.tell_overdue(now);
        self.look_at_due_sessions(now);
        self.flush();
    }

    /// The next round of the event loop: continues what budgets cut short, and sends what was
    /// collected.
    pub fn turn(&mut self) {
        let now = self.out.now();
        self.round_left = ROUND_BUDGET;
        self.brokers.turn(now);
        self.hear(now);
        for broker in 0..self.main.brokers.len() as u16 {
            if !self.brokers.is_starting(broker) {
                self.end_early_posts(broker);
            }
        }
        self.tell_untold();
        self.resume_reading();
        self.begin_turns();
        self.flush();
    }

    /// Called by the outside: the table of clients.
    pub fn clients(&mut self) -> &mut O::Clients {
        &mut self.clients
    }

    /// Called by the outside: whether the client's request may be freed.
    pub fn detach_policy(&mut self, id: ClientId) -> Option<Detach> {
        let (_, session) = self.clients.get(id)?;
        Some(match session.location.detach() {
            Detach::Auto if self.main.logs_the_end => Detach::Off,
            policy => policy,
        })
    }

    /// Called by the outside: takes a parked request out, to answer it.
    pub fn take_parked(&mut self, number: u64) -> Option<O::Request> {
        if let Some(waiting) = self.waiting.leave(number) {
            self.unsubscribe_unused(&waiting.channels);
            return Some(waiting.request);
        }
        self.early_posts.leave(number);
        self.publishes.leave(number).map(|(request, _)| request)
    }

    /// For variables: the figures of a client so far.
    pub fn summary(&mut self, id: ClientId) -> Option<Summary> {
        let (_, session) = self.clients.get(id)?;
        let mut summary = session.summary(self.out.now());
        let joined = matches!(session.phase(), Phase::Opening | Phase::Open);
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
        status::response(&self.census())
    }

    /// The status of this worker.
    pub fn census(&mut self) -> Status<'_> {
        self.account();
        self.counters.deflated = self.encoders.deflated();
        let (worker_pid, worker) = self.out.process();
        let redis = self.brokers.status().into_iter();
        let redis = redis.map(|broker| status::RedisStatus {
            server: broker.server,
            subscriber: broker.subscriber,
            publisher: broker.publisher,
            unanswered: broker.unanswered,
        });
        Status {
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
        }
    }

    /// Converts milliseconds to the clock of sessions.
    pub(super) fn session_tick(&self, now: u64) -> u32 {
        // Starts at 1: 0 means "no message under way".
        1 + u32::try_from(now.saturating_sub(self.born) / TICK_MS).unwrap_or(u32::MAX / 2)
    }

    /// Updates the memory account with what is counted elsewhere.
    pub(super) fn account(&mut self) {
        self.budget.set(Category::Logs, self.registry.log_bytes());
        let replies = self.brokers.held_bytes() + self.early_posts.held_bytes();
        self.budget.set(Category::Replies, replies as u64);
    }
}

/// Whether a deadline comes before the time that a timer is set to.
fn is_before(deadline: Option<u64>, timer: Option<u64>) -> bool {
    deadline.is_some_and(|due| timer.is_none_or(|set| due < set))
}
