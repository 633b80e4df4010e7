//! The names that are wanted, and what the server has been told about them.
//!
//! The diagram shows a name's life as the server sees it. Each command sent for a name has a
//! number, the name's generation. The answer to an earlier command changes nothing:
//!
//! ```text
//!             SUBSCRIBE sent            its own answer
//!   Idle ───────────────────> Asked ───────────────────> Confirmed
//!    ^                        │ │ ^                          │
//!    │ its own answer         │ │ └── SUBSCRIBE sent ──┐     │ UNSUBSCRIBE sent,
//!    └──────── Leaving <──────┼─┼─────────────────────>┤     │ 2 s after nobody wants it
//!                 ^           │ └─ refused ─> Refused ─┘     │
//!                 └───────────┴──────────────────────────────┘
//! ```
//!
//! A name becomes `Confirmed` only by the answer to the last command sent for it, so none of our
//! `UNSUBSCRIBE`s is in flight behind that command. An unwanted name is forgotten when it is back
//! at `Idle`. Only then is its channel id released.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use ahash::RandomState;
use bytes::Bytes;
use slab::Slab;

use super::resp::{LINE_END, Verb};

/// The most names in one command. The server writes one answer per name, and closes a connection
/// whose answers exceed its output limit.
pub const BATCH_NAMES: usize = 1_000;
/// The most names with an outstanding answer, for the same reason.
pub const UNANSWERED_NAMES: usize = 10_000;
/// How long a name is kept after its last subscriber has left, in milliseconds.
pub const LINGER_MS: u64 = 2_000;

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// One channel.
    Channel,
    /// A Redis glob pattern over channels.
    Pattern,
}

/// The result of wanting a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// The server already delivers it, and nothing in flight will end that.
    Already,
    /// The server is asked: `Confirmed` or `Refused` follows, unless the link is lost.
    Asked,
    /// The link is down. The name is requested when the link is up again.
    Away,
}

/// A command that was sent and is not yet fully answered.
#[derive(Debug)]
struct Batch {
    number: u32,
    verb: Verb,
    slots: Vec<u32>,
    answered: usize,
}

/// The result of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The name is confirmed.
    Confirmed {
        /// The caller's id of the name.
        channel: u32,
    },
    /// The server refuses the name.
    Refused {
        /// The caller's id of the name.
        channel: u32,
    },
    /// The name is forgotten. Its id may be reused for another name.
    Released {
        /// The caller's id of the name.
        channel: u32,
    },
}

/// The answer does not match any command that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected;

/// All names of one subscriber link.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// By kind and name. Delivering a message needs only this map.
    places: [HashMap<Bytes, Place, RandomState>; 2],
    entries: Slab<Entry>,
    last: Last,
    /// The slots of names to subscribe to. A name may no longer be wanted, or its slot may have
    /// been reused, so the entry is checked when taken.
    asks: [VecDeque<u32>; 2],
    /// When to unsubscribe unwanted names, in order of time. Each is checked when its time comes.
    lingering: VecDeque<(u64, u32)>,
    /// Names to unsubscribe now.
    leaves: [VecDeque<u32>; 2],
    sent: VecDeque<Batch>,
    /// Names in `sent` without an answer, and how many of them are being subscribed.
    unanswered: usize,
    unanswered_asks: usize,
    last_number: u32,
    is_up: bool,
    /// Names that were confirmed before the link was lost and are not yet confirmed again.
    to_restore: usize,
    is_restored: bool,
}

/// The previous message. The next one often has the same channel and thus begins with the same
/// bytes.
#[derive(Debug, Default)]
struct Last {
    /// From the first byte to the end of the line with the channel's name. Empty if there is none.
    head: Vec<u8>,
    /// The name's range in `head`.
    name: Range<usize>,
    channel: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    slot: u32,
    channel: u32,
}

#[derive(Debug)]
struct Entry {
    name: Bytes,
    channel: u32,
    kind: SubscriptionKind,
    is_wanted: bool,
    is_queued: bool,
    is_missed: bool,
    state: State,
    /// The number of the last command sent for this name.
    number: u32,
    /// When the name is unsubscribed unless it is wanted again. Meaningful only while it is not
    /// wanted.
    leaves_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    Confirmed,
    Leaving,
    Refused,
}

impl Subscriptions {
    /// Subscribes to `name`, which the caller knows as `channel`. The id must be the same each time
    /// until the name is released.
    pub fn subscribe(&mut self, kind: SubscriptionKind, name: &[u8], channel: u32) -> Subscribed {
        let slot = match self.places[kind as usize].get(name) {
            Some(place) => place.slot,
            None => self.insert(kind, name, channel),
        };
        let is_up = self.is_up;
        let entry = &mut self.entries[slot as usize];
        debug_assert_eq!(entry.channel, channel, "the id of a name changed");
        entry.is_wanted = true;
        match entry.state {
            _ if !is_up => Subscribed::Away,
            State::Confirmed => Subscribed::Already,
            State::Asked => Subscribed::Asked,
            State::Idle | State::Leaving | State::Refused => {
                self.ask(slot);
                Subscribed::Asked
            }
        }
    }

    /// Nobody wants `name` any more. It is unsubscribed after [`LINGER_MS`] unless it is wanted
    /// again. A name that the server does not have is forgotten at once.
    pub fn unsubscribe(
        &mut self,
        kind: SubscriptionKind,
        name: &[u8],
        now: u64,
    ) -> Option<Outcome> {
        let slot = self.places[kind as usize].get(name)?.slot;
        let entry = &mut self.entries[slot as usize];
        if !entry.is_wanted {
            return None;
        }
        entry.is_wanted = false;
        match entry.state {
            State::Idle | State::Refused => Some(self.forget(slot)),
            State::Leaving => None,
            State::Asked | State::Confirmed => {
                let at = now + LINGER_MS;
                entry.leaves_at = at;
                self.lingering.push_back((at, slot));
                None
            }
        }
    }

    /// The caller's id of a name that the server has, or is still delivering the last messages of.
    pub fn find(&self, kind: SubscriptionKind, name: &[u8]) -> Option<u32> {
        Some(self.places[kind as usize].get(name)?.channel)
    }

    /// Like [`find`](Self::find), for the channel whose name is at `name` in `message`. Remembers
    /// how the message begins, for [`as_before`](Self::as_before).
    pub fn find_for(&mut self, message: &[u8], name: Range<usize>) -> Option<u32> {
        let channel = self.find(SubscriptionKind::Channel, &message[name.clone()])?;
        self.last.head.clear();
        self.last
            .head
            .extend_from_slice(&message[..name.end + LINE_END]);
        (self.last.name, self.last.channel) = (name, channel);
        Some(channel)
    }

    /// The channel, and the range of its name, of a message that begins like the previous one.
    #[inline]
    pub fn as_before(&self, message: &[u8]) -> Option<(u32, Range<usize>)> {
        let Last {
            head,
            name,
            channel,
        } = &self.last;
        let is_same = !head.is_empty() && message.starts_with(head);
        is_same.then(|| (*channel, name.clone()))
    }

    /// How the previous message began, and its channel's name, if it was a message of `channel`.
    #[inline]
    pub fn head_of(&self, channel: u32) -> Option<(&[u8], &[u8])> {
        let Last { head, name, .. } = &self.last;
        let is_same = !head.is_empty() && self.last.channel == channel;
        is_same.then(|| (&head[..], &head[name.clone()]))
    }

    /// When [`Self::handle_timeout`] must be called.
    pub fn deadline(&self) -> Option<u64> {
        self.lingering.front().map(|(at, _)| *at)
    }

    /// Unsubscribes, with the next batches, from names that have lingered long enough.
    pub fn handle_timeout(&mut self, now: u64) {
        while let Some(&(at, slot)) = self.lingering.front().filter(|(at, _)| *at <= now) {
            self.lingering.pop_front();
            if let Some(entry) = self.entries.get(slot as usize)
                && !entry.is_wanted
                && entry.leaves_at == at
            {
                self.leaves[entry.kind as usize].push_back(slot);
            }
        }
    }

    /// The link is up: requests all wanted names.
    pub fn handle_up(&mut self) {
        self.is_up = true;
        for (slot, entry) in &mut self.entries {
            entry.is_queued = entry.is_wanted;
            if entry.is_wanted {
                self.asks[entry.kind as usize].push_back(slot as u32);
            }
        }
    }

    /// The link is lost, and with it the server's state. Unwanted names are forgotten.
    pub fn handle_lost(&mut self, told: &mut impl FnMut(Outcome)) {
        self.is_up = false;
        self.is_restored = false;
        self.sent.clear();
        self.lingering.clear();
        self.asks
            .iter_mut()
            .chain(&mut self.leaves)
            .for_each(VecDeque::clear);
        (self.unanswered, self.unanswered_asks) = (0, 0);
        let mut unwanted = Vec::new();
        for (slot, entry) in &mut self.entries {
            let was = std::mem::replace(&mut entry.state, State::Idle);
            if !entry.is_wanted {
                unwanted.push(slot as u32);
            } else if was == State::Confirmed && !entry.is_missed {
                entry.is_missed = true;
                self.to_restore += 1;
            }
        }
        unwanted
            .into_iter()
            .for_each(|slot| told(self.forget(slot)));
    }

    /// Whether names that were confirmed before the link was lost are not yet confirmed again.
    pub fn misses_any(&self) -> bool {
        self.to_restore > 0
    }

    /// The caller's ids of names that were confirmed before the link was lost and are not yet
    /// confirmed again: their messages are missed.
    pub fn missed(&self) -> impl Iterator<Item = u32> {
        let entries = self.entries.iter().map(|(_, entry)| entry);
        entries
            .filter(|entry| entry.is_missed)
            .map(|entry| entry.channel)
    }

    /// Returns true once after a loss, when all names that were confirmed before have been answered
    /// again.
    pub fn take_restored(&mut self) -> bool {
        std::mem::take(&mut self.is_restored)
    }

    /// Whether a subscriber waits for an answer.
    pub fn owes(&self) -> bool {
        self.unanswered_asks > 0 || self.asks.iter().any(|asks| !asks.is_empty())
    }

    /// Appends the next command to `out`. Its answers are owed from now on.
    pub fn next_batch(&mut self, out: &mut Vec<u8>) -> bool {
        let mut queues = self.asks.iter().chain(&self.leaves);
        if queues.all(VecDeque::is_empty)
            || self.unanswered > UNANSWERED_NAMES - BATCH_NAMES
            || !self.is_up
        {
            return false;
        }
        for kind in [SubscriptionKind::Channel, SubscriptionKind::Pattern] {
            if let Some(slots) = self.take_asks(kind) {
                self.send(ask_verb(kind), slots, out);
                return true;
            }
            if let Some(slots) = self.take_leaves(kind) {
                self.send(leave_verb(kind), slots, out);
                return true;
            }
        }
        false
    }

    /// Handles the answer to one name of the oldest command. `Some(true)`: it was the last one.
    ///
    /// # Errors
    /// The answer is not the next one due, so the stream can no longer be trusted.
    pub fn handle_change(
        &mut self,
        verb: Verb,
        name: &[u8],
        told: &mut impl FnMut(Outcome),
    ) -> Result<bool, Unexpected> {
        let batch = self.sent.front_mut().ok_or(Unexpected)?;
        let slot = *batch.slots.get(batch.answered).ok_or(Unexpected)?;
        if batch.verb != verb || self.entries[slot as usize].name != name {
            return Err(Unexpected);
        }
        batch.answered += 1;
        let (number, is_last) = (batch.number, batch.answered == batch.slots.len());
        self.count_answers(verb, 1);
        if is_last {
            self.sent.pop_front();
        }
        if self.entries[slot as usize].number == number {
            match is_ask(verb) {
                true => self.confirm(slot, told),
                false => self.end(slot, told),
            }
        }
        Ok(is_last)
    }

    /// The server refused the whole oldest command. Redis does not say which name was the cause, so
    /// the command is sent again in halves, appended to `out`, until one name is left.
    ///
    /// Returns how many commands were sent.
    ///
    /// # Errors
    /// No command is due, or the oldest one has been answered in part.
    pub fn handle_refused(
        &mut self,
        out: &mut Vec<u8>,
        told: &mut impl FnMut(Outcome),
    ) -> Result<usize, Unexpected> {
        let batch = self
            .sent
            .pop_front()
            .filter(|batch| batch.answered == 0)
            .ok_or(Unexpected)?;
        self.count_answers(batch.verb, batch.slots.len());
        if !is_ask(batch.verb) {
            self.keep(&batch, told);
            return Ok(0);
        }
        let mut slots = batch.slots;
        slots.retain(|&slot| self.is_still_asked(slot, batch.number, told));
        match slots.len() {
            0 => Ok(0),
            1 => {
                self.refuse(slots[0], told);
                Ok(0)
            }
            count => {
                let second = slots.split_off(count / 2);
                self.send(batch.verb, slots, out);
                self.send(batch.verb, second, out);
                Ok(2)
            }
        }
    }

    fn insert(&mut self, kind: SubscriptionKind, name: &[u8], channel: u32) -> u32 {
        let name = Bytes::copy_from_slice(name);
        let entry = Entry {
            name: name.clone(),
            channel,
            kind,
            is_wanted: true,
            is_queued: false,
            is_missed: false,
            state: State::Idle,
            number: 0,
            leaves_at: 0,
        };
        let slot = self.entries.insert(entry) as u32;
        self.places[kind as usize].insert(name, Place { slot, channel });
        slot
    }

    fn ask(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        if !entry.is_queued {
            entry.is_queued = true;
            self.asks[entry.kind as usize].push_back(slot);
        }
    }

    fn take_asks(&mut self, kind: SubscriptionKind) -> Option<Vec<u32>> {
        let mut slots = Vec::new();
        while slots.len() < BATCH_NAMES
            && let Some(slot) = self.asks[kind as usize].pop_front()
        {
            let entry = self.entries.get_mut(slot as usize);
            let Some(entry) = entry.filter(|entry| entry.kind == kind) else {
                continue;
            };
            let is_asked = matches!(entry.state, State::Asked | State::Confirmed);
            if std::mem::take(&mut entry.is_queued) && entry.is_wanted && !is_asked {
                slots.push(slot);
            }
        }
        (!slots.is_empty()).then_some(slots)
    }

    fn take_leaves(&mut self, kind: SubscriptionKind) -> Option<Vec<u32>> {
        let mut slots = Vec::new();
        while slots.len() < BATCH_NAMES
            && let Some(slot) = self.leaves[kind as usize].pop_front()
        {
            if let Some(entry) = self.entries.get_mut(slot as usize)
                && entry.kind == kind
                && !entry.is_wanted
                && matches!(entry.state, State::Asked | State::Confirmed)
            {
                // Set at once, not when the command is sent: the queue may contain the slot twice.
                entry.state = State::Leaving;
                slots.push(slot);
            }
        }
        (!slots.is_empty()).then_some(slots)
    }

    fn send(&mut self, verb: Verb, slots: Vec<u32>, out: &mut Vec<u8>) {
        self.last_number = self.last_number.wrapping_add(1);
        super::command::begin(out, slots.len() + 1);
        super::command::append_argument(out, spelling(verb));
        for &slot in &slots {
            let entry = &mut self.entries[slot as usize];
            entry.state = if is_ask(verb) {
                State::Asked
            } else {
                State::Leaving
            };
            entry.number = self.last_number;
            super::command::append_argument(out, &entry.name);
        }
        self.unanswered += slots.len();
        self.unanswered_asks += if is_ask(verb) { slots.len() } else { 0 };
        self.sent.push_back(Batch {
            number: self.last_number,
            verb,
            slots,
            answered: 0,
        });
    }

    fn count_answers(&mut self, verb: Verb, count: usize) {
        self.unanswered -= count;
        self.unanswered_asks -= if is_ask(verb) { count } else { 0 };
    }

    fn confirm(&mut self, slot: u32, told: &mut impl FnMut(Outcome)) {
        let entry = &mut self.entries[slot as usize];
        entry.state = State::Confirmed;
        if entry.is_wanted {
            told(Outcome::Confirmed {
                channel: entry.channel,
            });
        }
        self.settle(slot);
    }

    /// The server has unsubscribed the name. If it is wanted again, it has been queued meanwhile.
    fn end(&mut self, slot: u32, told: &mut impl FnMut(Outcome)) {
        let entry = &mut self.entries[slot as usize];
        entry.state = State::Idle;
        if !entry.is_wanted {
            told(self.forget(slot));
        }
    }

    fn refuse(&mut self, slot: u32, told: &mut impl FnMut(Outcome)) {
        let entry = &mut self.entries[slot as usize];
        entry.state = State::Refused;
        told(Outcome::Refused {
            channel: entry.channel,
        });
        self.settle(slot);
    }

    /// Whether to request a name of a refused command again.
    fn is_still_asked(&mut self, slot: u32, number: u32, told: &mut impl FnMut(Outcome)) -> bool {
        let entry = &mut self.entries[slot as usize];
        if entry.number != number {
            return false;
        }
        if !entry.is_wanted {
            told(self.forget(slot));
            return false;
        }
        true
    }

    /// An ACL may allow SUBSCRIBE and forbid UNSUBSCRIBE. Then names stay, with their ids.
    fn keep(&mut self, batch: &Batch, told: &mut impl FnMut(Outcome)) {
        for &slot in &batch.slots {
            if self.entries[slot as usize].number == batch.number {
                self.confirm(slot, told);
            }
        }
    }

    fn forget(&mut self, slot: u32) -> Outcome {
        self.settle(slot);
        let entry = self.entries.remove(slot as usize);
        self.last.head.clear();
        self.places[entry.kind as usize].remove(&entry.name);
        Outcome::Released {
            channel: entry.channel,
        }
    }

    /// The name has been answered, so it no longer counts as missed since the link was lost.
    fn settle(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        if std::mem::take(&mut entry.is_missed) {
            self.to_restore -= 1;
            self.is_restored = self.to_restore == 0 && self.is_up;
        }
    }
}

fn is_ask(verb: Verb) -> bool {
    matches!(verb, Verb::Subscribe | Verb::Psubscribe | Verb::Ssubscribe)
}

fn ask_verb(kind: SubscriptionKind) -> Verb {
    match kind {
        SubscriptionKind::Channel => Verb::Subscribe,
        SubscriptionKind::Pattern => Verb::Psubscribe,
    }
}

fn leave_verb(kind: SubscriptionKind) -> Verb {
    match kind {
        SubscriptionKind::Channel => Verb::Unsubscribe,
        SubscriptionKind::Pattern => Verb::Punsubscribe,
    }
}

fn spelling(verb: Verb) -> &'static [u8] {
    match verb {
        Verb::Subscribe => b"SUBSCRIBE",
        Verb::Unsubscribe => b"UNSUBSCRIBE",
        Verb::Psubscribe => b"PSUBSCRIBE",
        Verb::Punsubscribe => b"PUNSUBSCRIBE",
        Verb::Ssubscribe => b"SSUBSCRIBE",
        Verb::Sunsubscribe => b"SUNSUBSCRIBE",
    }
}
