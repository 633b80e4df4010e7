//! Handshakes that wait for Redis to confirm their subscriptions.

use std::collections::{BTreeSet, HashMap};

use fanout::ChannelId;
use smallvec::SmallVec;

use super::check::Admission;
use crate::outside::Request;
use crate::patience::Patience;

/// The channels of a handshake; most have one.
pub type ChannelIds = SmallVec<[ChannelId; 4]>;

/// A waiting handshake.
pub struct Waiting<R> {
    /// The request, parked.
    pub request: R,
    /// What the client asked for.
    pub admission: Admission,
    /// Its channels, confirmed or not.
    pub channels: ChannelIds,
    missing: usize,
}

/// The waiting handshakes of a worker, by number. Numbers are never reused.
pub struct WaitingRoom<R> {
    handshakes: Patience<Waiting<R>>,
    /// In order of arrival.
    by_channel: HashMap<ChannelId, BTreeSet<u64>>,
    /// How many handshakes have a channel among theirs, confirmed or not.
    wanted: HashMap<ChannelId, usize>,
}

impl<R> Default for WaitingRoom<R> {
    fn default() -> Self {
        WaitingRoom {
            handshakes: Patience::default(),
            by_channel: HashMap::new(),
            wanted: HashMap::new(),
        }
    }
}

impl<R: Request> WaitingRoom<R> {
    /// Adds a handshake that waits for `missing` of its `channels`.
    pub fn enter(
        &mut self,
        number: u64,
        request: R,
        admission: Admission,
        channels: ChannelIds,
        missing: &[ChannelId],
        now: u64,
    ) {
        for &channel in missing {
            self.by_channel.entry(channel).or_default().insert(number);
        }
        for &channel in &channels {
            *self.wanted.entry(channel).or_default() += 1;
        }
        let waiting = Waiting {
            request,
            admission,
            channels,
            missing: missing.len(),
        };
        self.handshakes.enter(number, waiting, now);
    }

    /// Takes a handshake out, whatever it still waits for.
    pub fn leave(&mut self, number: u64) -> Option<Waiting<R>> {
        let waiting = self.handshakes.leave(number)?;
        for channel in &waiting.channels {
            if let Some(count) = self.wanted.get_mut(channel) {
                *count -= 1;
                if *count == 0 {
                    self.wanted.remove(channel);
                }
            }
            if let Some(numbers) = self.by_channel.get_mut(channel) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_channel.remove(channel);
                }
            }
        }
        Some(waiting)
    }

    /// A channel is confirmed. Returns the handshakes that waited for nothing else.
    pub fn confirmed(&mut self, channel: ChannelId) -> Vec<u64> {
        let mut ready = Vec::new();
        for number in self.by_channel.remove(&channel).unwrap_or_default() {
            if let Some(waiting) = self.handshakes.get_mut(number) {
                waiting.missing -= 1;
                if waiting.missing == 0 {
                    ready.push(number);
                }
            }
        }
        ready
    }

    /// The handshakes that wait for a channel.
    pub fn waiting_for(&self, channel: ChannelId) -> Vec<u64> {
        let numbers = self.by_channel.get(&channel);
        numbers.into_iter().flatten().copied().collect()
    }

    /// Whether a waiting handshake has this channel among its own, confirmed or not.
    pub fn wants(&self, channel: ChannelId) -> bool {
        self.wanted.contains_key(&channel)
    }

    /// All handshakes that wait for one broker.
    pub fn at_broker(&self, broker: u16) -> Vec<u64> {
        let here = |waiting: &Waiting<R>| waiting.admission.location.redis == Some(broker);
        let waiting = self.handshakes.iter().filter(|(_, waiting)| here(waiting));
        waiting.map(|(number, _)| number).collect()
    }

    /// Handshakes that have waited too long.
    pub fn expired(&self, now: u64) -> Vec<u64> {
        self.handshakes.expired(now)
    }

    /// When the next handshake will have waited too long.
    pub fn next_deadline(&self) -> Option<u64> {
        self.handshakes.next_deadline()
    }

    /// The parked request of a handshake.
    pub fn request(&self, number: u64) -> Option<R> {
        self.handshakes.get(number).map(|waiting| waiting.request)
    }

    /// Number of waiting handshakes.
    pub(crate) fn len(&self) -> usize {
        self.handshakes.len()
    }
}
