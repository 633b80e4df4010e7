//! Interned channels: a name is stored once, and found by its bytes or by its number.

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::types::NameKind;

/// A feed of a channel, and the channel's place in the feed's list.
#[derive(Clone, Copy)]
pub(crate) struct FeedPlace {
    pub(crate) feed: u32,
    pub(crate) place: u32,
}

pub(crate) struct Channel {
    pub(crate) name: Box<[u8]>,
    pub(crate) feeds: SmallVec<[FeedPlace; 2]>,
    pub(crate) broker: u16,
    pub(crate) kind: NameKind,
}

impl Channel {
    fn is(&self, broker: u16, kind: NameKind, name: &[u8]) -> bool {
        *self.name == *name && self.broker == broker && self.kind == kind
    }
}

#[derive(Default)]
pub(crate) struct Channels {
    list: Vec<Channel>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    /// Keyed at random: names come from clients.
    hasher: RandomState,
}

impl Channels {
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn get(&self, id: u32) -> &Channel {
        &self.list[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> &mut Channel {
        &mut self.list[id as usize]
    }

    pub(crate) fn find(&self, broker: u16, kind: NameKind, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((broker, kind, name));
        let same = |id: &u32| self.list[*id as usize].is(broker, kind, name);
        self.by_name.find(hash, same).copied()
    }

    pub(crate) fn find_or_create(&mut self, broker: u16, kind: NameKind, name: &[u8]) -> u32 {
        if let Some(id) = self.find(broker, kind, name) {
            return id;
        }
        let channel = Channel {
            name: name.into(),
            feeds: SmallVec::new(),
            broker,
            kind,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.list[id as usize] = channel;
                id
            }
            None => {
                self.list.push(channel);
                self.list.len() as u32 - 1
            }
        };
        let Channels {
            list,
            by_name,
            hasher,
            ..
        } = self;
        let hash_of = |id: &u32| hash(hasher, &list[*id as usize]);
        by_name.insert_unique(hash_of(&id), id, hash_of);
        id
    }

    /// Forgets a channel that no feed listens to. Returns whether it did.
    pub(crate) fn release(&mut self, id: u32) -> bool {
        let channel = &mut self.list[id as usize];
        if !channel.feeds.is_empty() {
            return false;
        }
        let hash = hash(&self.hasher, channel);
        let Ok(entry) = self.by_name.find_entry(hash, |other| *other == id) else {
            return false;
        };
        entry.remove();
        channel.name = Box::default();
        channel.feeds = SmallVec::new();
        self.free.push(id);
        true
    }
}

fn hash(hasher: &RandomState, channel: &Channel) -> u64 {
    hasher.hash_one((channel.broker, channel.kind, &*channel.name))
}
