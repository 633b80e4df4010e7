//! The registry: channels, feeds, and the membership of every client.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use ahash::RandomState;
use hashbrown::HashTable;

use super::audience::Audience;
use super::shortage::Shortage;
use crate::channels::Channels;
use crate::cursor::{NOT_OPEN, OWN_FRAMES};
use crate::feed::{Feed, SharedState};
use crate::held::Pieces;
use crate::membership::{Membership, Place};
use crate::tape::Stage;
use crate::types::{
    Batch, ChannelId, ClientId, FeedId, FlushResult, FormatId, NameKind, Short, Skip, SlowClass,
    WriteOutcome,
};

/// Who listens to what, and how far each client has been sent.
///
/// After [`publish`](Registry::publish), flush every feed that [`next_dirty`](Registry::next_dirty)
/// names. A client is *current* (the flush sends to it) or a *laggard*. When a laggard's socket is
/// writable, the caller writes what [`unsent`](Registry::unsent) returns, reports it by
/// [`sent`](Registry::sent), and calls [`release`](Registry::release) when nothing is left.
///
/// ```
/// use fanout::*;
///
/// let mut registry = Registry::new();
/// let foo = registry.channel(0, NameKind::Channel, b"foo");
/// let class = SlowClass { send_queue: 1 << 20, policy: SlowPolicy::Close };
/// registry.join(ClientId(0), 42, &[foo], FormatId(0), class, false);
/// registry.unmute(ClientId(0));
///
/// registry.publish(foo, &mut |_, frame| {
///     frame.extend_from_slice(b"hello");
///     true
/// });
/// let mut out = FlushResult::default();
/// while let Some(feed) = registry.next_dirty() {
///     let send = |socket, _, bytes: &[u8]| {
///         assert_eq!((socket, bytes), (42, &b"hello"[..]));
///         WriteOutcome::Part(2)
///     };
///     registry.flush(feed, 1000, send, &mut out);
/// }
/// // The socket was full; when it is writable again:
/// assert_eq!(out.short, [ClientId(0)]);
/// assert_eq!(registry.unsent(ClientId(0)), Some(&b"llo"[..]));
/// registry.sent(ClientId(0), 3, 0);
/// assert!(registry.release(ClientId(0)) && registry.log_bytes() == 0);
/// ```
///
/// Methods that take a [`ClientId`] panic if the client has not joined, unless stated otherwise.
pub struct Registry {
    pub(super) channels: Channels,
    pub(super) feeds: Vec<Feed>,
    pub(super) free: Vec<u32>,
    pub(super) by_subscription: HashTable<u32>,
    pub(super) hasher: RandomState,
    pub(super) classes: Vec<SlowClass>,
    pub(super) dirty: VecDeque<u32>,
    /// Feeds that keep parts of shared bytes, for [`Feed::decide`] once everything has been
    /// offered.
    pub(super) undecided: Vec<u32>,
    pub(super) shared: SharedState,
    pub(super) clients: usize,
    pub(super) laggards: usize,
    pub(super) own_bytes: usize,
    pub(super) marks: HashMap<u32, Mark>,
    pub(super) stage: Stage,
    pub(super) audience: Audience,
    /// Feeds that the current commit has yet to give something, and from which tape.
    pub(super) due: Vec<(u32, usize)>,
    /// Memory in which bytes of several places are gathered for one write.
    pub(super) gathered: Vec<u8>,
    pub(super) shorts: Vec<Short>,
    pub(super) shortage: Shortage,
    /// [`log_bytes`](Registry::log_bytes) when everything was last offered, or the least since
    /// then.
    pub(super) offered_bytes: u64,
    /// How many notes feeds have taken since then, of channels with several feeds.
    pub(super) unoffered_notes: u64,
    /// How many of them have certainly been committed.
    pub(super) committed_notes: u64,
}

/// What a client's feed had counted when the client joined, plus what was skipped for it since.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Registry {
    /// A registry without channels and clients.
    pub fn new() -> Registry {
        Registry {
            channels: Channels::default(),
            feeds: Vec::new(),
            free: Vec::new(),
            by_subscription: HashTable::new(),
            hasher: RandomState::new(),
            classes: Vec::new(),
            dirty: VecDeque::new(),
            undecided: Vec::new(),
            shared: SharedState::new(),
            clients: 0,
            laggards: 0,
            own_bytes: 0,
            marks: HashMap::new(),
            stage: Stage::default(),
            audience: Audience::default(),
            due: Vec::new(),
            gathered: Vec::new(),
            shorts: Vec::new(),
            shortage: Shortage::default(),
            offered_bytes: 0,
            unoffered_notes: 0,
            committed_notes: 0,
        }
    }

    // Channels.

    /// The channel of this name at this broker, created if there is none.
    pub fn channel(&mut self, broker: u16, kind: NameKind, name: &[u8]) -> ChannelId {
        ChannelId(self.channels.find_or_create(broker, kind, name))
    }

    /// The channel of this name at this broker, if it exists.
    pub fn find_channel(&self, broker: u16, kind: NameKind, name: &[u8]) -> Option<ChannelId> {
        self.channels.find(broker, kind, name).map(ChannelId)
    }

    /// A channel's broker, kind and name.
    pub fn name(&self, channel: ChannelId) -> (u16, NameKind, &[u8]) {
        let channel = self.channels.get(channel.0);
        (channel.broker, channel.kind, &channel.name)
    }

    /// The channel has clients.
    pub fn has_clients(&self, channel: ChannelId) -> bool {
        !self.channels.get(channel.0).feeds.is_empty()
    }

    /// Forgets a channel; its id may be reused. Refused (`false`) while it has clients.
    pub fn release_channel(&mut self, channel: ChannelId) -> bool {
        self.channels.release(channel.0)
    }

    // Counts.

    /// Channels and patterns that are known.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Feeds with clients.
    pub fn feed_count(&self) -> usize {
        self.by_subscription.len()
    }

    /// Clients that have joined.
    pub fn client_count(&self) -> usize {
        self.clients
    }

    /// Clients that are not current: behind, muted or paused.
    pub fn laggard_count(&self) -> usize {
        self.laggards
    }

    /// Bytes held for clients that have not been sent them yet. 0 when all are current and every
    /// flush is complete.
    pub fn log_bytes(&self) -> u64 {
        let own = self.own_bytes + self.stage.weight();
        own as u64 + self.shared.tally.load(Ordering::Relaxed)
    }

    // Joining and leaving.

    /// Subscribes the client to `channels` (in any order; repeats are ignored). It is muted, i.e.
    /// behind and sent nothing, until [`unmute`](Registry::unmute), because its 101 is not sent
    /// yet. With `count`, [`delivered`](Registry::delivered) is known for it.
    ///
    /// `socket` is for the caller's `send`: a descriptor, or negative for a client that is written
    /// to in another way. Panics if the client has joined already.
    pub fn join(
        &mut self,
        client: ClientId,
        socket: i32,
        channels: &[ChannelId],
        variant: FormatId,
        class: SlowClass,
        count: bool,
    ) -> FeedId {
        self.commit();
        self.forget_audience();
        let at = client.0 as usize;
        if self.shared.memberships.len() <= at {
            self.shared.memberships.resize(at + 1, Membership::EMPTY);
        }
        assert!(
            !self.shared.memberships[at].is_taken(),
            "{client:?} has joined already"
        );
        let feed = self.find_or_create_feed(channels, variant, class);
        self.shared.memberships[at].feed = feed;
        let limit = class.send_queue;
        self.change(feed, |feed, shared| {
            feed.join((client.0, socket), limit, shared)
        });
        self.clients += 1;
        if count {
            let (messages, bytes) = self.feeds[feed as usize].passed(self.shared.memberships[at]);
            self.marks.insert(client.0, Mark { messages, bytes });
        }
        FeedId(feed)
    }

    /// Unmutes the client. Returns `true` if there is nothing to write to it now: flushes send to
    /// it. `false`: write what [`unsent`](Registry::unsent) returns.
    pub fn unmute(&mut self, client: ClientId) -> bool {
        self.clear(client, NOT_OPEN)
    }

    /// Removes the client. Channels left without clients are appended to `emptied`. Does nothing
    /// for a client that has not joined.
    ///
    /// A partly sent frame is cut: see [`rest_of_frame`](Registry::rest_of_frame).
    pub fn leave(&mut self, client: ClientId, emptied: &mut Vec<ChannelId>) {
        let Some(membership) = self.taken_membership(client) else {
            return;
        };
        self.commit();
        self.forget_audience();
        self.change(membership.feed, |feed, shared| {
            feed.leave(membership, shared)
        });
        self.shared.memberships[client.0 as usize] = Membership::EMPTY;
        self.clients -= 1;
        if !self.marks.is_empty() {
            self.marks.remove(&client.0);
        }
        if self.feeds[membership.feed as usize].client_count() == 0 {
            self.remove_feed(membership.feed, emptied);
        }
    }

    /// The client's feed, if it has joined.
    pub fn feed_of(&self, client: ClientId) -> Option<FeedId> {
        self.taken_membership(client)
            .map(|membership| FeedId(membership.feed))
    }

    /// Clients of a feed.
    pub fn clients_of(&self, feed: FeedId) -> usize {
        self.feeds[feed.0 as usize].client_count()
    }

    /// The channels of a feed, by id.
    pub fn channels_of(&self, feed: FeedId) -> impl ExactSizeIterator<Item = ChannelId> {
        self.feeds[feed.0 as usize]
            .channels
            .iter()
            .map(|listening| ChannelId(listening.channel))
    }

    /// The clients that listen to `channel`, in no particular order, including those that are
    /// behind or muted.
    pub fn listeners_of(&self, channel: ChannelId) -> impl Iterator<Item = ClientId> {
        let feeds = self.channels.get(channel.0).feeds.iter();
        feeds.flat_map(|listener| {
            self.feeds[listener.feed as usize]
                .all_clients()
                .map(ClientId)
        })
    }

    /// The clients that listen to any of `channels`, each once, in no particular order. Costs a step
    /// for each feed of each channel and one for each client, not one for each pair of a channel and
    /// a client.
    pub fn listeners_of_any(&self, channels: &[ChannelId]) -> impl Iterator<Item = ClientId> {
        let (mut feeds, mut is_listed) = (Vec::new(), vec![false; self.feeds.len()]);
        for channel in channels {
            for listener in &self.channels.get(channel.0).feeds {
                let feed = listener.feed as usize;
                if !std::mem::replace(&mut is_listed[feed], true) {
                    feeds.push(feed);
                }
            }
        }
        let clients = |feed: usize| self.feeds[feed].all_clients().map(ClientId);
        feeds.into_iter().flat_map(clients)
    }

    // Flushing.

    /// A feed with something to flush. It stays listed until its flush is complete.
    pub fn next_dirty(&mut self) -> Option<FeedId> {
        self.commit();
        while let Some(&id) = self.dirty.front() {
            if self.feeds[id as usize].dirty {
                return Some(FeedId(id));
            }
            self.dirty.pop_front();
        }
        while let Some(id) = self.undecided.pop() {
            self.change(id, Feed::decide);
        }
        self.offered_bytes = self.log_bytes();
        (self.unoffered_notes, self.committed_notes) = (0, 0);
        None
    }

    /// Sends what is due to up to `budget` current clients, with one `send` each per piece of at
    /// most about 1 MiB. Clients that do not take all become laggards. When the flush is complete
    /// the feed is no longer dirty; else it goes to the end of the list.
    pub fn flush(
        &mut self,
        feed: FeedId,
        budget: usize,
        mut send: impl FnMut(i32, ClientId, &[u8]) -> WriteOutcome,
        out: &mut FlushResult,
    ) {
        let mut left = budget;
        let mut shorts = std::mem::take(&mut self.shorts);
        while let Some(batch) = self.next_batch(feed, left, out) {
            shorts.clear();
            let members = batch.sockets.iter().zip(batch.clients);
            for (index, (&socket, &client)) in members.enumerate() {
                let sent = send(socket, ClientId(client), batch.bytes);
                if sent != WriteOutcome::All {
                    shorts.push(Short {
                        index: index as u32,
                        sent,
                    });
                }
            }
            let tried = batch.sockets.len();
            left -= tried;
            self.completed(feed, tried, &mut shorts, out);
        }
        self.shorts = shorts;
    }

    /// For callers that send in batches: up to `max` clients to be sent the same bytes. Call
    /// [`completed`](Registry::completed) before any other method. `None`: the flush is complete,
    /// or `max` is 0; [`FlushResult::complete`] tells which.
    pub fn next_batch(
        &mut self,
        feed: FeedId,
        max: usize,
        out: &mut FlushResult,
    ) -> Option<Batch<'_>> {
        self.commit();
        let class = self.class_of(feed.0);
        let skips = out.skipped.len();
        let more = self.change(feed.0, |feed, shared| feed.advance(class, shared, out));
        self.count_skips(&out.skipped[skips..]);
        out.complete = !more;
        if !more {
            let flushed = &mut self.feeds[feed.0 as usize];
            flushed.dirty = false;
            if flushed.is_undecided() {
                self.undecided.push(feed.0);
            }
            if self.dirty.front() == Some(&feed.0) {
                self.dirty.pop_front();
            }
        } else if max == 0 {
            // Other feeds come first the next time.
            if self.dirty.front() == Some(&feed.0) {
                self.dirty.rotate_left(1);
            }
        } else {
            return Some(self.feeds[feed.0 as usize].batch(max, &mut self.gathered));
        }
        None
    }

    /// The first `tried` clients of the last batch were offered its bytes; `shorts`, in any order,
    /// are those that did not take all.
    pub fn completed(
        &mut self,
        feed: FeedId,
        tried: usize,
        shorts: &mut [Short],
        out: &mut FlushResult,
    ) {
        out.tried += tried;
        let limit = self.class_of(feed.0).send_queue;
        self.change(feed.0, |feed, shared| {
            feed.completed(tried, shorts, limit, shared, out);
        });
    }

    // Laggards.

    /// The bytes that may be written to a laggard now, in one piece. `None` if it is muted, has
    /// been sent everything, or is paused at a frame boundary. A paused client is offered only the
    /// rest of a partly sent frame. Committed bytes are always included.
    ///
    /// If few bytes are contiguous, they are gathered with those that follow.
    pub fn unsent(&mut self, client: ClientId) -> Option<&[u8]> {
        let membership = self.membership(client);
        match membership.place() {
            Place::Member(_) => None,
            Place::Laggard(at) => {
                self.feeds[membership.feed as usize].unsent(at, &mut self.gathered)
            }
        }
    }

    /// The first `n` bytes of [`unsent`](Registry::unsent) were taken, and `committed` bytes after
    /// those must be offered again (TLS).
    pub fn sent(&mut self, client: ClientId, n: usize, committed: usize) {
        let membership = self.membership(client);
        if let Place::Laggard(at) = membership.place() {
            self.change(membership.feed, |feed, shared| {
                feed.sent(at, n, committed, shared);
            });
        }
    }

    /// Pauses the feed for this client: the caller has bytes of its own for it that its socket did
    /// not take. The client keeps its position and is sent only the rest of a partly sent frame,
    /// until [`release`](Registry::release). Write what [`unsent`](Registry::unsent) returns, and
    /// at the [boundary](Registry::at_boundary) the caller's own bytes.
    pub fn pause_feed(&mut self, client: ClientId) {
        let membership = self.membership(client);
        let limit = self.class_of(membership.feed).send_queue;
        self.change(membership.feed, |feed, shared| {
            feed.pause_feed(membership, limit, shared)
        });
    }

    /// The caller has no bytes of its own (any more) for this client. Returns `true` if there is
    /// nothing to write to it now: flushes send to it. `false`: it is muted, evicted or behind. If
    /// it is behind, write what [`unsent`](Registry::unsent) returns, and release it again.
    pub fn release(&mut self, client: ClientId) -> bool {
        self.clear(client, OWN_FRAMES)
    }

    /// The client has been sent whole frames only, and no bytes are committed: the caller's own
    /// frames may be sent now.
    pub fn at_boundary(&self, client: ClientId) -> bool {
        let membership = self.membership(client);
        self.feeds[membership.feed as usize].at_boundary(membership)
    }

    /// What the client must still be sent before any frame that is not of its feed: the rest of a
    /// partly sent frame, and committed bytes. For a client that is about to leave and be sent a
    /// Close frame. Bytes that others need too are not copied.
    pub fn rest_of_frame(&mut self, client: ClientId) -> Pieces {
        let membership = self.membership(client);
        self.change(membership.feed, |feed, shared| {
            feed.rest_of_frame(membership, shared)
        })
    }

    /// Flushes send to this client.
    pub fn is_current(&self, client: ClientId) -> bool {
        matches!(self.membership(client).place(), Place::Member(_))
    }

    /// How many bytes of whole frames, not yet begun, a client is behind.
    pub fn lag_bytes(&self, client: ClientId) -> u64 {
        let membership = self.membership(client);
        match membership.place() {
            Place::Member(_) => 0,
            Place::Laggard(at) => self.feeds[membership.feed as usize].lag(at),
        }
    }

    /// How many whole messages and bytes were sent to this client since it joined. `None` unless it
    /// joined with `count`.
    pub fn delivered(&self, client: ClientId) -> Option<(u64, u64)> {
        let membership = self.taken_membership(client)?;
        let mark = self.marks.get(&client.0)?;
        let (messages, bytes) = self.feeds[membership.feed as usize].passed(membership);
        Some((messages - mark.messages, bytes - mark.bytes))
    }

    // Helpers.

    /// Changes a feed and accounts its memory. Every change of a feed goes through here.
    pub(super) fn change<R>(
        &mut self,
        id: u32,
        change: impl FnOnce(&mut Feed, &mut SharedState) -> R,
    ) -> R {
        let feed = &mut self.feeds[id as usize];
        let (bytes, laggards) = (feed.own_bytes(), feed.laggard_count());
        let result = change(feed, &mut self.shared);
        feed.settle(&mut self.shared);
        self.own_bytes = self.own_bytes + feed.own_bytes() - bytes;
        self.laggards = self.laggards + feed.laggard_count() - laggards;
        result
    }

    pub(super) fn clear(&mut self, client: ClientId, flag: u8) -> bool {
        let membership = self.membership(client);
        match membership.place() {
            Place::Member(_) => true,
            Place::Laggard(at) => self.change(membership.feed, |feed, shared| {
                feed.release(at, flag, shared)
            }),
        }
    }

    pub(super) fn taken_membership(&self, client: ClientId) -> Option<Membership> {
        self.shared
            .memberships
            .get(client.0 as usize)
            .copied()
            .filter(|membership| membership.is_taken())
    }

    pub(super) fn membership(&self, client: ClientId) -> Membership {
        match self.taken_membership(client) {
            Some(membership) => membership,
            None => panic!("{client:?} has not joined"),
        }
    }

    pub(super) fn class_of(&self, feed: u32) -> SlowClass {
        self.classes[self.feeds[feed as usize].class as usize]
    }

    pub(super) fn count_skips(&mut self, skips: &[Skip]) {
        for skip in skips {
            if let Some(mark) = self.marks.get_mut(&skip.client.0) {
                mark.messages += skip.messages;
                mark.bytes += skip.bytes;
            }
        }
    }

    pub(super) fn mark_dirty(&mut self, id: u32) {
        let feed = &mut self.feeds[id as usize];
        if !std::mem::replace(&mut feed.dirty, true) {
            self.dirty.push_back(id);
        }
    }
}
