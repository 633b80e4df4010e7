//! The one door to fan-out: channels, feeds, and the seat of every client.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::channels::{Channels, Listener};
use crate::cursor::{HELD, MUTED};
use crate::feed::{Commons, Feed, Listening, Place, Seat};
use crate::log::{Large, Run};

/// A client: a small number that the caller gives, and may give again after [`Registry::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u32);

/// A channel or pattern, until [`Registry::release_channel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// A feed, while it has clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedId(pub u32);

/// How a message looks on the wire (envelope, frame kind, ...): a number of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant(pub u32);

/// How a subscription's name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The name of one channel.
    Channel,
    /// A glob pattern.
    Pattern,
}

/// What becomes of a client that is further behind than its `send_queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlowPolicy {
    /// It is reported, is sent the rest of the frame begun and nothing more.
    Close,
    /// It goes forward to within the limit.
    DropOldest,
    /// It goes forward to the newest frame of each channel. A pattern is one channel here.
    ///
    /// These frames may be more than the limit; then the policy strikes again when a quarter of
    /// the limit has come on top.
    Latest,
}

/// A limit and what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlowClass {
    /// Bytes of whole frames not yet begun that a client may be behind.
    pub send_queue: u64,
    /// What happens beyond that.
    pub policy: SlowPolicy,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All bytes were taken.
    All,
    /// The first so many bytes were taken; 0 when the socket is full.
    Part(usize),
    /// TLS: `written` bytes were taken, and `offered` more are committed: they must be offered
    /// again, unchanged, before anything else.
    Committed {
        /// Bytes taken.
        written: usize,
        /// Bytes after those that were offered and not taken.
        offered: usize,
    },
    /// The client cannot be written to any more.
    Gone,
}

/// A member of a [`Batch`] that did not take all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Its place in the batch.
    pub index: u32,
    /// What it took.
    pub sent: Sent,
}

/// Members of a feed that are due the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Their sockets, as given to [`Registry::join`].
    pub sockets: &'a [i32],
    /// Their ids, in the same order.
    pub clients: &'a [u32],
    /// What each of them is to be sent: never empty unless the batch is.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The first `most` of them.
    pub fn first(&self, most: usize) -> Batch<'a> {
        let most = most.min(self.sockets.len());
        Batch {
            sockets: &self.sockets[..most],
            clients: &self.clients[..most],
            bytes: self.bytes,
        }
    }
}

/// Messages that a policy took from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Whose they were.
    pub client: ClientId,
    /// How many.
    pub messages: u64,
    /// Their frames' bytes.
    pub bytes: u64,
}

/// What a flush did, to be emptied by the caller ([`FlushResult::clear`]): flushes add to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushResult {
    /// Members that were offered bytes.
    pub tried: usize,
    /// The last flush left nothing to do in its feed.
    pub complete: bool,
    /// Became laggards: they go on ([`Registry::unsent`]) when their sockets are writable.
    pub short: Vec<ClientId>,
    /// Said to be [`Sent::Gone`]; they get nothing more and wait for [`Registry::leave`].
    pub gone: Vec<ClientId>,
    /// Passed their limit under [`SlowPolicy::Close`], said once; they get the rest of the frame
    /// begun, nothing more, and wait for [`Registry::leave`].
    pub too_slow: Vec<ClientId>,
    /// Held in mid-frame, of a frame so large that they had to wait for more of it: write what is
    /// [`Registry::unsent`].
    pub resumed: Vec<ClientId>,
    /// Lost messages to the other policies.
    pub skipped: Vec<Skip>,
}

impl FlushResult {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.tried = 0;
        self.complete = false;
        self.short.clear();
        self.gone.clear();
        self.too_slow.clear();
        self.resumed.clear();
        self.skipped.clear();
    }
}

/// How far messages went; what several have in common counts for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Feeds that noted them.
    pub feeds: usize,
    /// Clients of these feeds, those who are behind or muted included.
    pub clients: usize,
}

/// Who listens to what, and how far each client has been sent.
///
/// After [`publish`](Registry::publish), flush every feed that [`next_dirty`](Registry::next_dirty)
/// names. A client is *current* (the flush sends to it) or a *laggard* (the caller writes
/// [`unsent`](Registry::unsent) when its socket allows, says so by [`sent`](Registry::sent), and
/// when there is nothing more calls [`release`](Registry::release)).
///
/// ```
/// use fanout::*;
///
/// let mut registry = Registry::new();
/// let foo = registry.channel(0, Kind::Channel, b"foo");
/// let class = SlowClass { send_queue: 1 << 20, policy: SlowPolicy::Close };
/// registry.join(ClientId(0), 42, &[foo], Variant(0), class, false);
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
///         Sent::Part(2)
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
/// Methods that take a [`ClientId`] panic unless the client has joined, if not said otherwise.
pub struct Registry {
    channels: Channels,
    feeds: Vec<Feed>,
    free: Vec<u32>,
    by_subscription: HashTable<u32>,
    hasher: RandomState,
    classes: Vec<SlowClass>,
    dirty: VecDeque<u32>,
    commons: Commons,
    clients: usize,
    laggards: usize,
    own_bytes: usize,
    marks: HashMap<u32, Mark>,
    scratch: Vec<u8>,
    framings: Vec<(u32, Framing)>,
    shorts: Vec<Short>,
    furthest: BinaryHeap<Behind>,
    /// [`log_bytes`](Registry::log_bytes) when everything had last been offered, or less.
    offered_bytes: u64,
    /// Messages noted since then, once per feed, where a channel has several.
    unoffered_notes: u64,
}

/// One that lags, in the order of treatment.
///
/// Who is further behind comes first, but not to the byte: of those who are about as far behind,
/// the sharers of a log come together, since it is freed when the last of them has left it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Behind {
    magnitude: u32,
    feed: u32,
    lag: u64,
    client: u32,
}

/// A message from a channel, in the forms that its clients have it in. A closure is one, too.
pub trait ToFrame {
    /// Appends it as one frame; asked once per variant among the channel's feeds. `false`: it is
    /// dropped for this variant, and what was written for it.
    fn append(&mut self, variant: Variant, out: &mut Vec<u8>) -> bool;
}

impl<F: FnMut(Variant, &mut Vec<u8>) -> bool> ToFrame for F {
    fn append(&mut self, variant: Variant, out: &mut Vec<u8>) -> bool {
        self(variant, out)
    }
}

/// Who listens to a channel: [`Registry::publish_each`].
pub struct Listeners<'a>(Feeds<'a>);

/// A channel's feeds, with what a message for them touches.
enum Feeds<'a> {
    None,
    One {
        id: u32,
        variant: Variant,
        run: Run<'a>,
        noted: usize,
    },
    Several {
        registry: &'a mut Registry,
        channel: ChannelId,
        published: Published,
    },
}

impl Listeners<'_> {
    /// The next message. `false`: no feed has noted it.
    #[inline(always)]
    pub fn note(&mut self, mut message: impl ToFrame) -> bool {
        match &mut self.0 {
            Feeds::None => false,
            Feeds::One {
                variant,
                run,
                noted,
                ..
            } => {
                let is_noted = run.note(*variant, &mut message);
                *noted += usize::from(is_noted);
                is_noted
            }
            Feeds::Several {
                registry,
                channel,
                published,
            } => {
                let now = registry.publish_to_several(*channel, message);
                published.feeds += now.feeds;
                published.clients += now.clients;
                now.feeds > 0
            }
        }
    }
}

/// What a client's feed had counted when it joined, and what it was not sent since.
#[derive(Clone, Copy)]
struct Mark {
    messages: u64,
    bytes: u64,
}

/// A message as one variant has it.
enum Framing {
    Dropped,
    Small(Range<usize>),
    Large(Arc<Large>),
}

/// Frames for several feeds are held by reference from this size on.
const SHARED: usize = 16 << 10;

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Registry {
    /// Without channels and clients.
    pub fn new() -> Registry {
        Registry {
            channels: Channels::default(),
            feeds: Vec::new(),
            free: Vec::new(),
            by_subscription: HashTable::new(),
            hasher: RandomState::new(),
            classes: Vec::new(),
            dirty: VecDeque::new(),
            commons: Commons::new(),
            clients: 0,
            laggards: 0,
            own_bytes: 0,
            marks: HashMap::new(),
            scratch: Vec::new(),
            framings: Vec::new(),
            shorts: Vec::new(),
            furthest: BinaryHeap::new(),
            offered_bytes: 0,
            unoffered_notes: 0,
        }
    }

    // Channels.

    /// The channel of this name at this broker; made if there is none.
    pub fn channel(&mut self, broker: u16, kind: Kind, name: &[u8]) -> ChannelId {
        ChannelId(self.channels.find_or_create(broker, kind, name))
    }

    /// The channel of this name at this broker.
    pub fn find_channel(&self, broker: u16, kind: Kind, name: &[u8]) -> Option<ChannelId> {
        self.channels.find(broker, kind, name).map(ChannelId)
    }

    /// A channel's broker, kind and name.
    pub fn name(&self, channel: ChannelId) -> (u16, Kind, &[u8]) {
        let channel = self.channels.get(channel.0);
        (channel.broker, channel.kind, &channel.name)
    }

    /// Somebody listens to this channel.
    pub fn has_clients(&self, channel: ChannelId) -> bool {
        !self.channels.get(channel.0).feeds.is_empty()
    }

    /// Forgets a channel; its id may be given to another. Refused (`false`) while it has clients.
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

    /// Clients that are not current: behind, muted or held.
    pub fn laggard_count(&self) -> usize {
        self.laggards
    }

    /// Bytes held for clients that have not been sent them yet. 0 when all are current and every
    /// flush is complete.
    pub fn log_bytes(&self) -> u64 {
        self.own_bytes as u64 + self.commons.large_bytes.load(Ordering::Relaxed)
    }

    // Joining and leaving.

    /// The client listens to `channels` (in any order, repeats are ignored) from now on. It is
    /// muted, i.e. behind and sent nothing, until [`unmute`](Registry::unmute): its 101 is not
    /// out yet. With `count`, [`delivered`](Registry::delivered) is known for it.
    ///
    /// `socket` is for the caller's `send`: a descriptor, or negative for a client that is written
    /// to by another road. Panics if the client has joined already.
    pub fn join(
        &mut self,
        client: ClientId,
        socket: i32,
        channels: &[ChannelId],
        variant: Variant,
        class: SlowClass,
        count: bool,
    ) -> FeedId {
        let at = client.0 as usize;
        if self.commons.seats.len() <= at {
            self.commons.seats.resize(at + 1, Seat::EMPTY);
        }
        assert!(
            !self.commons.seats[at].is_taken(),
            "{client:?} has joined already"
        );
        let feed = self.find_or_create_feed(channels, variant, class);
        self.commons.seats[at].feed = feed;
        let limit = class.send_queue;
        self.change(feed, |feed, commons| {
            feed.join((client.0, socket), limit, commons)
        });
        self.clients += 1;
        if count {
            let (messages, bytes) = self.feeds[feed as usize].passed(self.commons.seats[at]);
            self.marks.insert(client.0, Mark { messages, bytes });
        }
        FeedId(feed)
    }

    /// The client may be sent to. `true`: there is nothing to write to it now, flushes will do.
    /// `false`: write what is [`unsent`](Registry::unsent).
    pub fn unmute(&mut self, client: ClientId) -> bool {
        self.clear(client, MUTED)
    }

    /// The client leaves. Channels that nobody listens to any more are appended to `emptied`.
    /// Does nothing for a client that has not joined.
    ///
    /// What was begun is cut: see [`rest_of_frame`](Registry::rest_of_frame).
    pub fn leave(&mut self, client: ClientId, emptied: &mut Vec<ChannelId>) {
        let Some(seat) = self.taken_seat(client) else {
            return;
        };
        self.change(seat.feed, |feed, commons| feed.leave(seat, commons));
        self.commons.seats[client.0 as usize] = Seat::EMPTY;
        self.clients -= 1;
        if !self.marks.is_empty() {
            self.marks.remove(&client.0);
        }
        if self.feeds[seat.feed as usize].client_count() == 0 {
            self.remove_feed(seat.feed, emptied);
        }
    }

    /// The client's feed, if it has joined.
    pub fn feed_of(&self, client: ClientId) -> Option<FeedId> {
        self.taken_seat(client).map(|seat| FeedId(seat.feed))
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

    // Publishing.

    /// One message for all who listen to `channel`: [`publish_each`](Self::publish_each) with one.
    pub fn publish(
        &mut self,
        channel: ChannelId,
        frame: &mut impl FnMut(Variant, &mut Vec<u8>) -> bool,
    ) -> Published {
        self.publish_each(channel, |listeners| {
            listeners.note(frame);
        })
    }

    /// Messages for all who listen to `channel`, which `publish` brings one after the other. Returns
    /// what became of all of them.
    #[inline]
    pub fn publish_each(
        &mut self,
        channel: ChannelId,
        publish: impl FnOnce(&mut Listeners<'_>),
    ) -> Published {
        self.furthest.clear();
        let mut listeners = Listeners(match self.channels.get(channel.0).feeds.as_slice() {
            [] => Feeds::None,
            &[Listener { feed: id, .. }] => {
                let feed = &mut self.feeds[id as usize];
                let variant = Variant(feed.variant);
                let log = feed.log(&mut self.commons);
                let Commons {
                    buffers,
                    large_bytes,
                    ..
                } = &mut self.commons;
                Feeds::One {
                    id,
                    variant,
                    run: log.run(channel.0, buffers, large_bytes),
                    noted: 0,
                }
            }
            _ => Feeds::Several {
                registry: self,
                channel,
                published: Published::default(),
            },
        });
        publish(&mut listeners);
        match listeners.0 {
            Feeds::None => Published::default(),
            Feeds::One { id, run, noted, .. } => {
                self.own_bytes += run.end();
                self.published_to_one(id, noted)
            }
            Feeds::Several { published, .. } => published,
        }
    }

    fn published_to_one(&mut self, id: u32, noted: usize) -> Published {
        let feed = &mut self.feeds[id as usize];
        if noted == 0 {
            feed.settle(&mut self.commons);
            return Published::default();
        }
        let clients = noted * feed.client_count();
        self.mark_dirty(id);
        Published {
            feeds: noted,
            clients,
        }
    }

    /// A message for the feeds of a channel that has several.
    #[inline(never)]
    fn publish_to_several(&mut self, channel: ChannelId, mut message: impl ToFrame) -> Published {
        let mut published = Published::default();
        for at in 0..self.channels.get(channel.0).feeds.len() {
            let id = self.channels.get(channel.0).feeds[at].feed;
            if self.note_shared(id, channel, &mut message) {
                published.feeds += 1;
                self.unoffered_notes += 1;
                published.clients += self.feeds[id as usize].client_count();
                self.mark_dirty(id);
            }
        }
        self.framings.clear();
        self.scratch.clear();
        published
    }

    /// A feed with something to flush. It stays listed until its flush is complete.
    pub fn next_dirty(&mut self) -> Option<FeedId> {
        while let Some(&id) = self.dirty.front() {
            if self.feeds[id as usize].dirty {
                return Some(FeedId(id));
            }
            self.dirty.pop_front();
        }
        (self.offered_bytes, self.unoffered_notes) = (self.log_bytes(), 0);
        None
    }

    /// What was published since [`next_dirty`](Registry::next_dirty) last said that there is nothing
    /// to flush: bytes held for it, and notes of messages in feeds where a channel has several. Who
    /// publishes should stop, and flush, when this is much: nothing else bounds it.
    pub fn unoffered(&mut self) -> (u64, u64) {
        let held = self.log_bytes();
        self.offered_bytes = self.offered_bytes.min(held);
        (held - self.offered_bytes, self.unoffered_notes)
    }

    // Flushing.

    /// Sends what is due to up to `budget` current clients, by one `send` each per piece of at
    /// most about 1 MiB. Those who fall short become laggards. When the flush is complete the feed
    /// is no longer dirty; else it goes to the end of the list.
    pub fn flush(
        &mut self,
        feed: FeedId,
        budget: usize,
        mut send: impl FnMut(i32, ClientId, &[u8]) -> Sent,
        out: &mut FlushResult,
    ) {
        let mut left = budget;
        let mut shorts = std::mem::take(&mut self.shorts);
        while let Some(batch) = self.next_batch(feed, left, out) {
            shorts.clear();
            let members = batch.sockets.iter().zip(batch.clients);
            for (index, (&socket, &client)) in members.enumerate() {
                let sent = send(socket, ClientId(client), batch.bytes);
                if sent != Sent::All {
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

    /// For callers that send in batches: up to `max` clients that are due the same bytes, to be
    /// answered by [`completed`](Registry::completed) before anything else is done here. `None`:
    /// the flush is complete, or `max` is 0; [`FlushResult::complete`] tells which.
    pub fn next_batch(
        &mut self,
        feed: FeedId,
        max: usize,
        out: &mut FlushResult,
    ) -> Option<Batch<'_>> {
        let class = self.class_of(feed.0);
        let skips = out.skipped.len();
        let more = self.change(feed.0, |feed, commons| feed.advance(class, commons, out));
        self.count_skips(&out.skipped[skips..]);
        out.complete = !more;
        if !more {
            self.feeds[feed.0 as usize].dirty = false;
            if self.dirty.front() == Some(&feed.0) {
                self.dirty.pop_front();
            }
        } else if max == 0 {
            // Others first, the next time.
            if self.dirty.front() == Some(&feed.0) {
                self.dirty.rotate_left(1);
            }
        } else {
            return Some(self.feeds[feed.0 as usize].batch(max));
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
        self.change(feed.0, |feed, commons| {
            feed.completed(tried, shorts, limit, &mut commons.seats, out);
        });
    }

    // Laggards.

    /// What may be written to a laggard now, in one piece: `None` when it is muted, has been sent
    /// everything, or is held at a frame boundary. A held one is offered no more than the frame
    /// begun. Committed bytes are always among it.
    pub fn unsent(&self, client: ClientId) -> Option<&[u8]> {
        let seat = self.seat(client);
        match seat.place() {
            Place::Member(_) => None,
            Place::Laggard(at) => self.feeds[seat.feed as usize].unsent(at),
        }
    }

    /// The first `n` bytes of [`unsent`](Registry::unsent) were taken, and `committed` bytes after
    /// those must be offered again (TLS).
    pub fn sent(&mut self, client: ClientId, n: usize, committed: usize) {
        let seat = self.seat(client);
        if let Place::Laggard(at) = seat.place() {
            self.change(seat.feed, |feed, commons| {
                feed.sent(at, n, committed, &mut commons.buffers);
            });
        }
    }

    /// The caller has bytes of its own for this client that its socket did not take. The client
    /// stays where it is and is sent nothing but the frame begun, until
    /// [`release`](Registry::release): write what is [`unsent`](Registry::unsent), and at the
    /// [boundary](Registry::at_boundary) the own bytes.
    pub fn hold(&mut self, client: ClientId) {
        let seat = self.seat(client);
        let limit = self.class_of(seat.feed).send_queue;
        self.change(seat.feed, |feed, commons| feed.hold(seat, limit, commons));
    }

    /// The caller has no bytes of its own (any more) for this client. `true`: there is nothing to
    /// write to it now, flushes will do. `false`: it is muted or done for, or behind: then write
    /// what is [`unsent`](Registry::unsent), and release it again.
    pub fn release(&mut self, client: ClientId) -> bool {
        self.clear(client, HELD)
    }

    /// The client has been sent whole frames only, and no bytes are committed: frames of the
    /// caller may go out now.
    pub fn at_boundary(&self, client: ClientId) -> bool {
        let seat = self.seat(client);
        self.feeds[seat.feed as usize].at_boundary(seat)
    }

    /// Appends what the client must still be sent before any frame that is not of its feed: the
    /// rest of the frame begun and of committed bytes. For a client that is about to leave and
    /// shall get a Close frame.
    pub fn rest_of_frame(&self, client: ClientId, into: &mut Vec<u8>) {
        let seat = self.seat(client);
        self.feeds[seat.feed as usize].rest_of_frame(seat, into);
    }

    /// Flushes send to this client.
    pub fn is_current(&self, client: ClientId) -> bool {
        matches!(self.seat(client).place(), Place::Member(_))
    }

    /// Bytes of whole frames not yet begun that a client is behind.
    pub fn lag_bytes(&self, client: ClientId) -> u64 {
        let seat = self.seat(client);
        match seat.place() {
            Place::Member(_) => 0,
            Place::Laggard(at) => self.feeds[seat.feed as usize].lag(at),
        }
    }

    /// Whole messages, and bytes, that went to this client since it joined. `None` unless it
    /// joined with `count`.
    pub fn delivered(&self, client: ClientId) -> Option<(u64, u64)> {
        let seat = self.taken_seat(client)?;
        let mark = self.marks.get(&client.0)?;
        let (messages, bytes) = self.feeds[seat.feed as usize].passed(seat);
        Some((messages - mark.messages, bytes - mark.bytes))
    }

    // Memory.

    /// Begins a round over all who lag, those furthest behind first: see
    /// [`furthest_behind`](Registry::furthest_behind). Returns how many they are.
    pub fn list_those_behind(&mut self) -> usize {
        self.furthest.clear();
        if self.laggards > 0 {
            for (id, feed) in (0..).zip(&self.feeds) {
                let lags = feed.lags().filter(|(_, lag)| *lag > 0);
                self.furthest.extend(lags.map(|(client, lag)| Behind {
                    magnitude: lag.ilog2(),
                    feed: id,
                    lag,
                    client,
                }));
            }
        }
        self.furthest.len()
    }

    /// The next of the round that [`list_those_behind`](Registry::list_those_behind) began, to be
    /// treated when memory is short. `None`: all have been named, or a message has been published.
    pub fn furthest_behind(&mut self) -> Option<(FeedId, ClientId)> {
        while let Some(Behind { client, .. }) = self.furthest.pop() {
            let client = ClientId(client);
            if let Some(seat) = self.taken_seat(client)
                && self.lag_bytes(client) > 0
            {
                return Some((FeedId(seat.feed), client));
            }
        }
        None
    }

    /// Treats a client that lags by its policy, whatever its limit: `Close` reports it,
    /// `DropOldest` takes at least half of its lag, `Latest` all but the newest frames.
    pub fn treat(&mut self, client: ClientId, out: &mut FlushResult) {
        let seat = self.seat(client);
        let Place::Laggard(at) = seat.place() else {
            return;
        };
        if self.lag_bytes(client) == 0 {
            return;
        }
        let policy = self.class_of(seat.feed).policy;
        let skips = out.skipped.len();
        self.change(seat.feed, |feed, commons| {
            feed.treat(at, policy, commons, out)
        });
        self.count_skips(&out.skipped[skips..]);
    }

    // Helpers.

    /// Every change of a feed goes through here, where its memory is accounted.
    fn change<R>(&mut self, id: u32, change: impl FnOnce(&mut Feed, &mut Commons) -> R) -> R {
        let feed = &mut self.feeds[id as usize];
        let (bytes, laggards) = (feed.own_bytes(), feed.laggard_count());
        let result = change(feed, &mut self.commons);
        feed.settle(&mut self.commons);
        self.own_bytes = self.own_bytes + feed.own_bytes() - bytes;
        self.laggards = self.laggards + feed.laggard_count() - laggards;
        result
    }

    fn clear(&mut self, client: ClientId, flag: u8) -> bool {
        let seat = self.seat(client);
        match seat.place() {
            Place::Member(_) => true,
            Place::Laggard(at) => {
                self.change(seat.feed, |feed, commons| feed.release(at, flag, commons))
            }
        }
    }

    fn taken_seat(&self, client: ClientId) -> Option<Seat> {
        self.commons
            .seats
            .get(client.0 as usize)
            .copied()
            .filter(|seat| seat.is_taken())
    }

    fn seat(&self, client: ClientId) -> Seat {
        match self.taken_seat(client) {
            Some(seat) => seat,
            None => panic!("{client:?} has not joined"),
        }
    }

    fn class_of(&self, feed: u32) -> SlowClass {
        self.classes[self.feeds[feed as usize].class as usize]
    }

    fn count_skips(&mut self, skips: &[Skip]) {
        for skip in skips {
            if let Some(mark) = self.marks.get_mut(&skip.client.0) {
                mark.messages += skip.messages;
                mark.bytes += skip.bytes;
            }
        }
    }

    /// Notes a message in one of several feeds, framing it if no feed of this variant was before.
    fn note_shared(&mut self, id: u32, channel: ChannelId, message: &mut impl ToFrame) -> bool {
        let variant = self.feeds[id as usize].variant;
        let known = self
            .framings
            .iter()
            .position(|(framed, _)| *framed == variant);
        let at = known.unwrap_or_else(|| {
            let framing = self.frame_into_scratch(Variant(variant), message);
            self.framings.push((variant, framing));
            self.framings.len() - 1
        });
        let log = match &self.framings[at].1 {
            Framing::Dropped => return false,
            _ => self.feeds[id as usize].log(&mut self.commons),
        };
        self.own_bytes += match &self.framings[at].1 {
            Framing::Dropped => 0,
            Framing::Small(range) => {
                let bytes = &self.scratch[range.clone()];
                log.append(channel.0, bytes, &mut self.commons.buffers)
            }
            Framing::Large(large) => log.append_large(channel.0, large),
        };
        true
    }

    fn frame_into_scratch(&mut self, variant: Variant, message: &mut impl ToFrame) -> Framing {
        let from = self.scratch.len();
        if !message.append(variant, &mut self.scratch) || self.scratch.len() <= from {
            self.scratch.truncate(from);
            return Framing::Dropped;
        }
        if self.scratch.len() - from < SHARED {
            return Framing::Small(from..self.scratch.len());
        }
        let bytes = self.scratch.split_off(from);
        Framing::Large(Large::new(bytes, &self.commons.large_bytes))
    }

    fn mark_dirty(&mut self, id: u32) {
        let feed = &mut self.feeds[id as usize];
        if !std::mem::replace(&mut feed.dirty, true) {
            self.dirty.push_back(id);
        }
    }

    fn find_or_create_feed(
        &mut self,
        channels: &[ChannelId],
        variant: Variant,
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

    fn create_feed(&mut self, channels: &[u32], variant: Variant, class: u16) -> u32 {
        let id = self.free.pop().unwrap_or(self.feeds.len() as u32);
        let mut listening = SmallVec::new();
        listening.reserve_exact(channels.len());
        for (at, &channel) in channels.iter().enumerate() {
            let feeds = &mut self.channels.get_mut(channel).feeds;
            listening.push(Listening {
                channel,
                place: feeds.len() as u32,
            });
            feeds.push(Listener {
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

    fn remove_feed(&mut self, id: u32, emptied: &mut Vec<ChannelId>) {
        let hash = hash(&self.hasher, &self.feeds[id as usize]);
        if let Ok(entry) = self.by_subscription.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        let nothing = Feed::new(0, 0, SmallVec::new());
        let feed = std::mem::replace(&mut self.feeds[id as usize], nothing);
        self.own_bytes -= feed.own_bytes();
        for Listening { channel, place } in feed.channels {
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
