//! What is said to the registry and by it.

#[cfg(doc)]
use crate::Registry;

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
