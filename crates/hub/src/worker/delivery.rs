//! Messages of a channel, on their way from the link to the logs of its feeds.

use proto::payload::Message;

use fanout::{ChannelId, FormatId, Listeners, Registry, ToFrame};

use super::encoders::Encoders;
use crate::broker::{Run, Sink};
use crate::counters::Counters;

/// The sink of all messages.
pub(super) struct Delivery<'a> {
    pub(super) registry: &'a mut Registry,
    pub(super) encoders: &'a mut Encoders,
    pub(super) counters: &'a mut Counters,
    /// Most bytes that may still have to be offered to clients.
    pub(super) most_unoffered: u64,
}

/// Redis is not read while more bytes than this, or than this part of `websocket_memory`, still
/// have to be offered to clients. One message is always read.
const MOST_UNOFFERED: u64 = 4 << 20;
const UNOFFERED_PART: u64 = 8;

/// The same limit as work: consecutive messages count once for each feed that they go to.
const HEAR_BUDGET: u64 = 50_000;

/// [`Delivery::most_unoffered`] for a limit of the memory account.
pub(super) fn most_unoffered(memory: u64) -> u64 {
    MOST_UNOFFERED.min(memory / UNOFFERED_PART)
}

impl Sink for Delivery<'_> {
    /// Redis must not be read before clients have been offered what it has already sent: until then
    /// it is not known which clients are slow, so no policy could free memory.
    #[inline]
    fn has_room(&mut self) -> bool {
        let (bytes, notes) = self.registry.unoffered();
        notes < HEAR_BUDGET && bytes <= self.most_unoffered
    }

    #[inline(always)]
    fn message(&mut self, channel: ChannelId, name: &[u8], pattern: Option<&[u8]>, payload: &[u8]) {
        let mut tally = Tally::default();
        let encoders = &mut *self.encoders;
        let published = self.registry.publish_each(channel, |listeners| {
            tally.note(listeners, encoders, name, pattern, payload);
        });
        self.count(&tally, published.clients);
    }

    #[inline(always)]
    fn run(&mut self, channel: ChannelId, run: &mut impl Run) {
        let mut tally = Tally::default();
        let encoders = &mut *self.encoders;
        let published = self.registry.publish_each(channel, |listeners| {
            run.each(|name, payload| {
                tally.note(listeners, encoders, name, None, payload);
            });
        });
        self.count(&tally, published.clients);
    }
}

impl Delivery<'_> {
    fn count(&mut self, tally: &Tally, clients: usize) {
        self.counters.redis_messages += tally.messages;
        self.counters.messages_out += clients as u64;
        self.counters.unwanted += tally.unwanted;
    }
}

/// What happened to messages. It is separate from [`Counters`] so that a loop keeps it in
/// registers.
#[derive(Default)]
struct Tally {
    messages: u64,
    unwanted: u64,
}

impl Tally {
    #[inline(always)]
    fn note(
        &mut self,
        listeners: &mut Listeners<'_>,
        encoders: &mut Encoders,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
    ) {
        let before = encoders.dropped().total();
        let is_noted = listeners.note(Formatted {
            encoders,
            message: Message {
                channel,
                pattern,
                payload,
            },
            utf8: None,
        });
        self.messages += 1;
        self.unwanted += u64::from(!is_noted && encoders.dropped().total() == before);
    }
}

/// A message, to be framed in the formats of its clients.
struct Formatted<'a> {
    encoders: &'a mut Encoders,
    message: Message<'a>,
    /// Whether the payload is UTF-8, once that has been checked.
    utf8: Option<bool>,
}

impl ToFrame for Formatted<'_> {
    #[inline(always)]
    fn append(&mut self, variant: FormatId, out: &mut Vec<u8>) -> bool {
        self.encoders
            .append(variant, self.message, &mut self.utf8, out)
    }
}
