//! Which clients are closed, and when: because the worker exits, or messages were missed.

use fanout::ChannelId;

/// Clients are told of a lost broker when it is back, or after this time.
const GRACE_MS: u64 = 5_000;

/// What clients are about to be told.
pub(super) struct Drain {
    /// The worker exits.
    is_exiting: bool,
    /// For each broker, a loss that clients have not been told of.
    gaps: Vec<Option<Gap>>,
    /// State of the random generator that spreads the closes.
    random: u64,
}

/// The loss of a broker.
struct Gap {
    /// When its clients are told, unless it is back before.
    due: u64,
    /// Messages of these channels may have been missed.
    channels: Vec<ChannelId>,
}

impl Drain {
    /// Nothing to tell.
    pub(super) fn new(brokers: usize, seed: u64) -> Drain {
        Drain {
            is_exiting: false,
            gaps: (0..brokers).map(|_| None).collect(),
            random: seed | 1,
        }
    }

    /// The worker exits. True the first time.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.is_exiting, true)
    }

    /// When clients are told of the next loss.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.gaps.iter().flatten().map(|gap| gap.due).min()
    }

    /// A broker was lost, and with it messages of these channels.
    pub(super) fn note_lost(&mut self, broker: u16, mut channels: Vec<ChannelId>, now: u64) {
        let gap = self.gaps[usize::from(broker)].get_or_insert_with(|| Gap {
            due: now + GRACE_MS,
            channels: Vec::new(),
        });
        gap.channels.append(&mut channels);
        // A broker that comes and goes loses the same names again.
        gap.channels.sort_unstable();
        gap.channels.dedup();
    }

    /// A broker is back. Returns the channels whose clients must be told.
    pub(super) fn take_restored(&mut self, broker: u16) -> Option<Vec<ChannelId>> {
        Some(self.gaps[usize::from(broker)].take()?.channels)
    }

    /// The channels whose clients must be told because their broker has been away too long.
    pub(super) fn take_overdue(&mut self, now: u64) -> Option<Vec<ChannelId>> {
        let is_overdue = |gap: &mut Gap| gap.due <= now;
        let mut overdue = self.gaps.iter_mut();
        Some(overdue.find_map(|gap| gap.take_if(is_overdue))?.channels)
    }

    /// A number below `end`, random enough for spreading (xorshift64*).
    pub(super) fn random_below(&mut self, end: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once_when_the_broker_is_back_or_too_late() {
        let mut drain = Drain::new(2, 1);
        drain.note_lost(1, vec![ChannelId(7)], 1_000);
        drain.note_lost(1, vec![ChannelId(8), ChannelId(7)], 3_000);
        assert_eq!(drain.next_deadline(), Some(6_000));
        assert_eq!(drain.take_restored(0), None);
        assert_eq!(drain.take_overdue(5_999), None);
        assert_eq!(
            drain.take_overdue(6_000),
            Some(vec![ChannelId(7), ChannelId(8)])
        );
        assert_eq!(drain.take_restored(1), None);
        drain.note_lost(0, vec![], 7_000);
        assert_eq!(drain.take_restored(0), Some(vec![]));
        assert_eq!(drain.next_deadline(), None);
    }

    #[test]
    fn who_goes_is_spread() {
        let mut drain = Drain::new(0, 5);
        let drawn: Vec<u64> = (0..1_000).map(|_| drain.random_below(4_000)).collect();
        assert!(drawn.iter().all(|&wait| wait < 4_000));
        let halves = drawn.iter().filter(|&&wait| wait < 2_000).count();
        assert!((400..600).contains(&halves), "{halves}");
        assert_eq!(drain.random_below(0), 0);
    }
}
