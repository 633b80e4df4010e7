//! Reconnect delays: exponential with full jitter, so that workers and machines that lost the same
//! Redis do not reconnect in step. After a short outage the wait is not much longer than the
//! outage.

/// The first delay is at most this, in milliseconds. The maximum doubles with each attempt.
pub const FIRST_MS: u64 = 100;
/// The longest delay, in milliseconds.
pub const LONGEST_MS: u64 = 5_000;
/// After a connection that lasted this long, in milliseconds, the delays start over.
pub const STABLE_MS: u64 = 10_000;

/// The delays between connection attempts of one link.
#[derive(Debug)]
pub struct Backoff {
    longest_ms: u64,
    random: Random,
}

impl Backoff {
    /// Draws the delays from `seed`. Links with different seeds wait differently.
    pub fn new(seed: u64) -> Self {
        Self {
            longest_ms: FIRST_MS,
            random: Random::new(seed),
        }
    }

    /// The milliseconds to wait before the next attempt. `lasted_ms` is how long the last
    /// connection was usable. `None`: it never was; the server has been unavailable for `away_ms`,
    /// and the wait is at most twice that.
    pub fn next_delay(&mut self, lasted_ms: Option<u64>, away_ms: u64) -> u64 {
        if lasted_ms.is_some_and(|lasted| lasted >= STABLE_MS) {
            self.longest_ms = FIRST_MS;
        }
        let longest = match lasted_ms {
            Some(_) => self.longest_ms,
            None => self.longest_ms.min(FIRST_MS.max(2 * away_ms)),
        };
        let delay = 1 + self.random.next() % longest;
        self.longest_ms = LONGEST_MS.min(self.longest_ms * 2);
        delay
    }
}

/// xorshift64*: good enough to spread attempts, not for secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // xorshift never leaves the zero state.
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

    /// Long ago.
    const AGES: u64 = 1 << 40;

    #[test]
    fn delays_grow_to_the_cap_and_never_pass_it() {
        let mut backoff = Backoff::new(7);
        let mut ceiling = FIRST_MS;
        for _ in 0..20 {
            let delay = backoff.next_delay(None, AGES);
            assert!((1..=ceiling).contains(&delay), "{delay} of {ceiling}");
            ceiling = LONGEST_MS.min(ceiling * 2);
        }
        let delays = (0..200).map(|_| backoff.next_delay(None, AGES));
        assert!(delays.max().unwrap() > LONGEST_MS / 2);
    }

    #[test]
    fn only_a_stable_connection_makes_the_next_delay_short_again() {
        let mut backoff = Backoff::new(7);
        for _ in 0..10 {
            backoff.next_delay(None, AGES);
        }
        let flapping = (0..50).map(|_| backoff.next_delay(Some(STABLE_MS - 1), 0));
        assert!(flapping.max().unwrap() > FIRST_MS);
        assert!(backoff.next_delay(Some(STABLE_MS), 0) <= FIRST_MS);
    }

    /// The attempts of a link that lost its server at 0, until `end`. All attempts fail.
    fn attempts(seed: u64, end: u64) -> Vec<u64> {
        let mut backoff = Backoff::new(seed);
        let mut at = backoff.next_delay(Some(STABLE_MS), 0);
        let mut attempts = vec![];
        while at < end {
            attempts.push(at);
            at += backoff.next_delay(None, at);
        }
        attempts.push(at);
        attempts
    }

    #[test]
    fn a_server_that_was_away_for_a_moment_is_not_waited_for_much_longer() {
        for seed in 0..1_000 {
            for away in [10, 100, 350, 1_000] {
                let back = *attempts(seed, away).last().unwrap();
                assert!(back <= away + FIRST_MS.max(2 * away), "{back} for {away}");
            }
        }
    }

    #[test]
    fn links_that_lost_a_server_together_do_not_come_back_to_it_in_step() {
        for away in [350, 60_000] {
            let links = 0..16;
            let mut back: Vec<_> = links
                .map(|seed| *attempts(seed, away).last().unwrap())
                .collect();
            back.sort_unstable();
            back.dedup();
            assert!(back.len() > 12, "{back:?}");
            assert!(back[back.len() - 1] - back[0] > away.min(LONGEST_MS) / 2);
        }
    }

    #[test]
    fn attempts_at_a_server_that_stays_away_are_few() {
        for seed in 0..100 {
            let attempts = attempts(seed, 60_000).len();
            assert!((10..60).contains(&attempts), "{attempts}");
        }
    }

    #[test]
    fn no_seed_is_stuck() {
        let stuck = attempts(0x9e37_79b9_7f4a_7c15, 5_000);
        assert!(stuck.windows(2).any(|two| two[1] - two[0] != stuck[0]));
        assert_ne!(attempts(1, 5_000), attempts(2, 5_000));
    }
}
