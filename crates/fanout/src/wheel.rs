//! A hashed timing wheel: many deadlines behind one timer.
//!
//! Keys are dense numbers (a client's id). A key's deadline is a tick; slot `tick mod slots` heads
//! a doubly linked list, threaded by index through one array of 12-byte entries. A deadline more
//! than one turn away waits in its slot and is looked at once a turn. A bitmap of occupied slots
//! answers `next_due`. Deadlines are never early, and at most one tick late.

const SLOTS: usize = 1024;
const NONE: u32 = u32::MAX;
/// In `prev`: the key is in no list.
const IDLE: u32 = u32::MAX - 1;

#[derive(Clone, Copy)]
struct Entry {
    next: u32,
    prev: u32,
    tick: u32,
}

const UNSCHEDULED: Entry = Entry {
    next: NONE,
    prev: IDLE,
    tick: 0,
};

/// Deadlines of dense keys; at most one per key.
pub struct Wheel {
    entries: Vec<Entry>,
    heads: Vec<u32>,
    occupied: [u64; SLOTS / 64],
    tick_ms: u64,
    start_ms: u64,
    /// Every slot up to this tick has been gone through.
    done: u32,
    /// Where `expire` resumes in the slot of `done + 1`, if it stopped there.
    resume: u32,
    scheduled: usize,
    /// The earliest deadline set since [`Wheel::take_soonest`].
    soonest: Option<u64>,
}

impl Wheel {
    /// An empty wheel whose time begins at `now_ms`; `tick_ms` is its precision (100 is usual).
    pub fn new(tick_ms: u64, now_ms: u64) -> Wheel {
        Wheel {
            entries: Vec::new(),
            heads: vec![NONE; SLOTS],
            occupied: [0; SLOTS / 64],
            tick_ms: tick_ms.max(1),
            start_ms: now_ms,
            done: 0,
            resume: NONE,
            scheduled: 0,
            soonest: None,
        }
    }

    /// Sets the key's deadline, replacing any it has. A deadline in the past is due at the next
    /// tick.
    pub fn schedule(&mut self, key: u32, at_ms: u64) {
        self.cancel(key);
        if self.entries.len() <= key as usize {
            self.entries.resize(key as usize + 1, UNSCHEDULED);
        }
        // A slot's list grows at its head. If the scan has stopped within this slot, a new key
        // would be behind it and wait for a whole turn.
        let soonest = self.done + 1 + u32::from(self.resume != NONE);
        let tick = at_ms.saturating_sub(self.start_ms).div_ceil(self.tick_ms);
        let tick = u32::try_from(tick).unwrap_or(NONE).max(soonest);
        let slot = tick as usize % SLOTS;
        let next = self.heads[slot];
        if next != NONE {
            self.entries[next as usize].prev = key;
        }
        self.entries[key as usize] = Entry {
            next,
            prev: NONE,
            tick,
        };
        self.heads[slot] = key;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.scheduled += 1;
        let turn_begins = self.done + 1;
        let looked_at = turn_begins + (tick - turn_begins) % SLOTS as u32;
        let due = self.start_ms + u64::from(looked_at) * self.tick_ms;
        self.soonest = Some(self.soonest.map_or(due, |soonest| soonest.min(due)));
    }

    /// The earliest [`next_due`](Wheel::next_due) that calls of `schedule` have set since this was
    /// last asked, in milliseconds. A timer that is set to a later time must be set anew. `None` if
    /// `schedule` was not called.
    #[inline]
    pub fn take_soonest(&mut self) -> Option<u64> {
        self.soonest.take()
    }

    /// Removes the key's deadline. Returns whether it had one.
    pub fn cancel(&mut self, key: u32) -> bool {
        let Some(&entry) = self.entries.get(key as usize) else {
            return false;
        };
        if entry.prev == IDLE {
            return false;
        }
        if self.resume == key {
            self.resume = entry.next;
            // The scan that stood at the slot's last key has nothing left to look at there.
            if entry.next == NONE {
                self.done += 1;
            }
        }
        if entry.next != NONE {
            self.entries[entry.next as usize].prev = entry.prev;
        }
        let slot = entry.tick as usize % SLOTS;
        if entry.prev != NONE {
            self.entries[entry.prev as usize].next = entry.next;
        } else {
            self.heads[slot] = entry.next;
            if entry.next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.entries[key as usize] = UNSCHEDULED;
        self.scheduled -= 1;
        true
    }

    /// The key has a deadline.
    pub fn is_scheduled(&self, key: u32) -> bool {
        self.entries
            .get(key as usize)
            .is_some_and(|entry| entry.prev != IDLE)
    }

    /// Keys with a deadline.
    pub fn len(&self) -> usize {
        self.scheduled
    }

    /// No key has a deadline.
    pub fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// When `expire` should be called next, in milliseconds. With deadlines beyond one turn it
    /// may be before the earliest of them, never after.
    pub fn next_due(&self) -> Option<u64> {
        let ticks = self.distance_to_occupied(self.done + 1)?;
        Some(self.start_ms + (u64::from(self.done) + 1 + u64::from(ticks)) * self.tick_ms)
    }

    /// Appends the keys whose deadline has come to `out` and removes their deadlines. Looks at no
    /// more than `max` keys. Returns `true` if there may be more: call again.
    pub fn expire(&mut self, now_ms: u64, max: usize, out: &mut Vec<u32>) -> bool {
        let now = now_ms.saturating_sub(self.start_ms) / self.tick_ms;
        let now = u32::try_from(now).unwrap_or(NONE - SLOTS as u32);
        let mut left = max;
        while self.done < now {
            let mut key = self.resume;
            if key == NONE {
                // A slot holds the keys of all turns: one turn sees every key, however late the
                // call.
                self.done = self.done.max(now.saturating_sub(SLOTS as u32));
                let Some(ticks) = self.distance_to_occupied(self.done + 1) else {
                    self.done = now;
                    return false;
                };
                if ticks >= now - self.done {
                    self.done = now;
                    return false;
                }
                self.done += ticks;
                key = self.heads[(self.done + 1) as usize % SLOTS];
            }
            self.resume = NONE;
            while key != NONE {
                if left == 0 {
                    self.resume = key;
                    return true;
                }
                left -= 1;
                let entry = self.entries[key as usize];
                if entry.tick <= now {
                    self.cancel(key);
                    out.push(key);
                }
                key = entry.next;
            }
            self.done += 1;
        }
        false
    }

    /// How many slots after that of `tick` the next one with a key is.
    fn distance_to_occupied(&self, tick: u32) -> Option<u32> {
        let from = tick as usize % SLOTS;
        let words = self.occupied.len();
        for step in 0..=words {
            let at = (from / 64 + step) % words;
            let mask = match step {
                0 => u64::MAX << (from % 64),
                _ if step == words => !(u64::MAX << (from % 64)),
                _ => u64::MAX,
            };
            let found = self.occupied[at] & mask;
            if found != 0 {
                let slot = at * 64 + found.trailing_zeros() as usize;
                return Some(((slot + SLOTS - from) % SLOTS) as u32);
            }
        }
        None
    }
}
