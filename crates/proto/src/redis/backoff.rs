//! When to connect again: exponential, with full jitter, so that workers and machines that lost
//! the same Redis do not return to it in step.

/// The first delay is at most this, in milliseconds; each next one at most twice the one before.
pub const FIRST_MS: u64 = 100;
/// No delay is longer, in milliseconds.
pub const LONGEST_MS: u64 = 5_000;
/// A connection that lasted this long, in milliseconds, makes the next delay a first one.
pub const STABLE_MS: u64 = 10_000;

/// The delays between the attempts of one link.
#[derive(Debug)]
pub struct Backoff {
    longest_ms: u64,
    random: Random,
}

impl Backoff {
    /// Delays drawn from `seed`: links of different seeds wait differently.
    pub fn new(seed: u64) -> Self {
        Self {
            longest_ms: FIRST_MS,
            random: Random::new(seed),
        }
    }

    /// The milliseconds to wait before the next attempt, after a connection that was usable for
    /// `lasted_ms`, or `None` when it never became so.
    pub fn next_delay(&mut self, lasted_ms: Option<u64>) -> u64 {
        if lasted_ms.is_some_and(|lasted| lasted >= STABLE_MS) {
            self.longest_ms = FIRST_MS;
        }
        let delay = 1 + self.random.next() % self.longest_ms;
        self.longest_ms = LONGEST_MS.min(self.longest_ms * 2);
        delay
    }
}

/// xorshift64*: enough to spread attempts, not for secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_never_pass_it() {
        let mut backoff = Backoff::new(7);
        let mut ceiling = FIRST_MS;
        for _ in 0..20 {
            let delay = backoff.next_delay(None);
            assert!((1..=ceiling).contains(&delay), "{delay} of {ceiling}");
            ceiling = LONGEST_MS.min(ceiling * 2);
        }
        assert!((0..200).map(|_| backoff.next_delay(None)).max().unwrap() > LONGEST_MS / 2);
    }

    #[test]
    fn only_a_stable_connection_makes_the_next_delay_short_again() {
        let mut backoff = Backoff::new(7);
        for _ in 0..10 {
            backoff.next_delay(None);
        }
        let after_flapping = (0..50)
            .map(|_| backoff.next_delay(Some(STABLE_MS - 1)))
            .max();
        assert!(after_flapping.unwrap() > FIRST_MS);
        assert!(backoff.next_delay(Some(STABLE_MS)) <= FIRST_MS);
    }

    #[test]
    fn seeds_part_the_links_and_no_seed_is_stuck() {
        let delays = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.next_delay(None)).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
        let stuck = delays(0x9e37_79b9_7f4a_7c15);
        assert!(stuck.iter().any(|delay| *delay != stuck[0]));
    }
}
