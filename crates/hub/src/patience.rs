//! What waits for Redis, and how long.

use std::collections::{BTreeSet, HashMap};

/// How long a handshake or a publish waits for Redis before it gets 504, in milliseconds.
const PATIENCE_MS: u64 = 5_000;

/// Things that wait, by number, each with its deadline. Numbers are never reused.
pub(crate) struct Patience<T> {
    waiting: HashMap<u64, (T, u64)>,
    deadlines: BTreeSet<(u64, u64)>,
}

impl<T> Default for Patience<T> {
    fn default() -> Self {
        Patience {
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
        }
    }
}

impl<T> Patience<T> {
    /// From `now` on something waits.
    pub(crate) fn enter(&mut self, number: u64, thing: T, now: u64) {
        let deadline = now + PATIENCE_MS;
        self.deadlines.insert((deadline, number));
        self.waiting.insert(number, (thing, deadline));
    }

    /// Takes a thing out.
    pub(crate) fn leave(&mut self, number: u64) -> Option<T> {
        let (thing, deadline) = self.waiting.remove(&number)?;
        self.deadlines.remove(&(deadline, number));
        Some(thing)
    }

    /// A thing that waits.
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        self.waiting.get(&number).map(|(thing, _)| thing)
    }

    /// A thing that waits.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.waiting.get_mut(&number).map(|(thing, _)| thing)
    }

    /// All things that wait, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let waiting = self.waiting.iter();
        waiting.map(|(&number, (thing, _))| (number, thing))
    }

    /// The numbers of those that have waited too long.
    pub(crate) fn expired(&self, now: u64) -> Vec<u64> {
        let expired = self.deadlines.range(..=(now, u64::MAX));
        expired.map(|(_, number)| *number).collect()
    }

    /// When the next one will have waited too long.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_too_long_is_known_until_taken_out() {
        let mut patience = Patience::default();
        for (number, now) in [(1, 1_000), (2, 1_000), (3, 2_000)] {
            patience.enter(number, number * 10, now);
        }
        assert!(patience.expired(5_999).is_empty());
        assert_eq!(patience.expired(6_000), [1, 2]);
        assert_eq!(patience.leave(1), Some(10));
        assert_eq!(patience.leave(1), None);
        assert_eq!(patience.expired(10_000), [2, 3]);
        assert_eq!(patience.leave(2), Some(20));
        assert_eq!((patience.next_deadline(), patience.len()), (Some(7_000), 1));
        assert_eq!((patience.get(3), patience.get(2)), (Some(&30), None));
    }
}
