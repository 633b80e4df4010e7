//! The types of the registry's arguments and results.

#[cfg(doc)]
use crate::Registry;

/// A client: a small number that the caller chooses, and may reuse after [`Registry::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u32);

/// A channel or pattern. It is valid until [`Registry::release_channel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// A feed. It is valid as long as it has clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedId(pub u32);

/// How a message looks on the wire (envelope, frame kind, ...): a number that the caller chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FormatId(pub u32);

/// What a subscription's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameKind {
    /// The name of one channel.
    Channel,
    /// A glob pattern.
    Pattern,
}

/// What becomes of a client that is further behind than its `send_queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlowPolicy {
    /// The client is reported. It is sent the rest of a partly sent frame, then nothing.
    Close,
    /// It skips the oldest frames, until it is within the limit.
    DropOldest,
    /// It skips all but the newest frame of each channel. A pattern is one channel here.
    ///
    /// These frames alone may exceed the limit. Then the policy is applied again after another
    /// quarter of the limit.
    Latest,
}

/// A limit and what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlowClass {
    /// How many bytes a client may be behind. Only whole frames that are not yet begun count.
    pub send_queue: u64,
    /// What happens beyond that.
    pub policy: SlowPolicy,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// All bytes were taken.
    All,
    /// This many bytes were taken; 0 if the socket is full.
    Part(usize),
    /// TLS: `written` bytes were taken, and `offered` more are committed: they must be offered
    /// again, unchanged, before anything else.
    Committed {
        /// Bytes taken.
        written: usize,
        /// How many bytes after those were offered and not taken.
        offered: usize,
    },
    /// The client cannot be written to any more.
    Gone,
}

/// A member of a [`Batch`] that did not take all bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Its place in the batch.
    pub index: u32,
    /// What it took.
    pub sent: WriteOutcome,
}

/// Members of a feed that are to be sent the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Their sockets, as given to [`Registry::join`].
    pub sockets: &'a [i32],
    /// Their ids, in the same order.
    pub clients: &'a [u32],
    /// What to send to each. Empty only if there are no members.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The first `most` members.
    pub fn first(&self, most: usize) -> Batch<'a> {
        let most = most.min(self.sockets.len());
        Batch {
            sockets: &self.sockets[..most],
            clients: &self.clients[..most],
            bytes: self.bytes,
        }
    }
}

/// Messages that a slow policy skipped for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The client.
    pub client: ClientId,
    /// How many messages.
    pub messages: u64,
    /// Their frames' bytes.
    pub bytes: u64,
}

/// What flushes did. Each flush adds to it; the caller empties it ([`FlushResult::clear`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushResult {
    /// Members that were offered bytes.
    pub tried: usize,
    /// The last flush left nothing to do in its feed.
    pub complete: bool,
    /// Clients that became laggards. When their sockets are writable, write what
    /// [`Registry::unsent`] returns.
    pub short: Vec<ClientId>,
    /// Clients whose write was [`WriteOutcome::Gone`]. They are sent nothing more; call
    /// [`Registry::leave`].
    pub gone: Vec<ClientId>,
    /// Clients beyond their limit under [`SlowPolicy::Close`]; each is reported once. They are sent
    /// the rest of a partly sent frame, then nothing; call [`Registry::leave`].
    pub too_slow: Vec<ClientId>,
    /// Paused clients ([`Registry::pause_feed`]) within a frame that takes several passes, for
    /// which a new pass has more of it: write what [`Registry::unsent`] returns.
    pub resumed: Vec<ClientId>,
    /// Messages that the other policies skipped.
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

/// How many feeds and clients messages went to. Each message is counted separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Feeds that noted them.
    pub feeds: usize,
    /// Clients of these feeds, including those that are behind or muted.
    pub clients: usize,
}

/// A message from a channel, to be framed for each variant. Closures implement it.
pub trait ToFrame {
    /// Appends the message as one frame. Called once for each variant among the channel's feeds.
    /// Returns `false` to drop the message for this variant, with whatever was appended.
    fn append(&mut self, variant: FormatId, out: &mut Vec<u8>) -> bool;
}

impl<F: FnMut(FormatId, &mut Vec<u8>) -> bool> ToFrame for F {
    fn append(&mut self, variant: FormatId, out: &mut Vec<u8>) -> bool {
        self(variant, out)
    }
}
