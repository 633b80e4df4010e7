//! Feeds come and go with their clients.

use ahash::RandomState;
use smallvec::SmallVec;

use super::state::Registry;
use crate::channels::FeedPlace;
use crate::feed::{ChannelPlace, Feed};
use crate::types::{ChannelId, FormatId, SlowClass};

impl Registry {
    pub(super) fn find_or_create_feed(
        &mut self,
        channels: &[ChannelId],
        variant: FormatId,
        class: SlowClass,
    ) -> u32 {
        let mut channels: SmallVec<[u32; 4]> = channels.iter().map(|channel| channel.0).collect();
        channels.sort_unstable();
        channels.dedup();
        let class = self.intern_class(class);
        let hash = self.hasher.hash_one((&channels[..], variant.0, class));
        let feeds = &self.feeds;
        let same = |id: &u32| {
            let feed = &feeds[*id as usize];
            let theirs = feed.channels.iter().map(|listening| listening.channel);
            feed.variant == variant.0 && feed.class == class && theirs.eq(channels.iter().copied())
        };
        match self.by_subscription.find(hash, same) {
            Some(&id) => id,
            None => self.create_feed(&channels, variant, class),
        }
    }

    fn create_feed(&mut self, channels: &[u32], variant: FormatId, class: u16) -> u32 {
        let id = self.free.pop().unwrap_or(self.feeds.len() as u32);
        let mut listening = SmallVec::new();
        listening.reserve_exact(channels.len());
        for (at, &channel) in channels.iter().enumerate() {
            let feeds = &mut self.channels.get_mut(channel).feeds;
            listening.push(ChannelPlace {
                channel,
                place: feeds.len() as u32,
            });
            feeds.push(FeedPlace {
                feed: id,
                place: at as u32,
            });
        }
        let feed = Feed::new(variant.0, class, listening);
        match self.feeds.get_mut(id as usize) {
            Some(slot) => *slot = feed,
            None => self.feeds.push(feed),
        }
        let Registry {
            feeds,
            by_subscription,
            hasher,
            ..
        } = self;
        let hash_of = |id: &u32| hash(hasher, &feeds[*id as usize]);
        by_subscription.insert_unique(hash_of(&id), id, hash_of);
        id
    }

    pub(super) fn remove_feed(&mut self, id: u32, emptied: &mut Vec<ChannelId>) {
        let hash = hash(&self.hasher, &self.feeds[id as usize]);
        if let Ok(entry) = self.by_subscription.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        let nothing = Feed::new(0, 0, SmallVec::new());
        let feed = std::mem::replace(&mut self.feeds[id as usize], nothing);
        self.own_bytes -= feed.own_bytes();
        for ChannelPlace { channel, place } in feed.channels {
            let listeners = &mut self.channels.get_mut(channel).feeds;
            listeners.swap_remove(place as usize);
            if let Some(moved) = listeners.get(place as usize) {
                self.feeds[moved.feed as usize].channels[moved.place as usize].place = place;
            }
            if listeners.is_empty() {
                emptied.push(ChannelId(channel));
            }
        }
        self.free.push(id);
    }

    fn intern_class(&mut self, class: SlowClass) -> u16 {
        let known = self.classes.iter().position(|known| *known == class);
        known.unwrap_or_else(|| {
            self.classes.push(class);
            self.classes.len() - 1
        }) as u16
    }
}

fn hash(hasher: &RandomState, feed: &Feed) -> u64 {
    let channels: SmallVec<[u32; 4]> = feed
        .channels
        .iter()
        .map(|listening| listening.channel)
        .collect();
    hasher.hash_one((&channels[..], feed.variant, feed.class))
}
