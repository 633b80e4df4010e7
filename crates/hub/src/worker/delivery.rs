//! Messages of a channel, from the link into the logs of those who listen.

use fanout::{ChannelId, Listeners, Registry, ToFrame, Variant};
use proto::redis::Link;

use super::counters::Counters;
use super::wires::{Message, Wires};

/// Where the messages of one channel go, and what is counted of them.
pub(super) struct Delivery<'a> {
    pub(super) channel: ChannelId,
    pub(super) registry: &'a mut Registry,
    pub(super) wires: &'a mut Wires,
    pub(super) counters: &'a mut Counters,
}

impl Delivery<'_> {
    /// The message that the link has just told of.
    pub(super) fn one(&mut self, name: &[u8], pattern: Option<&[u8]>, payload: &[u8]) {
        let mut tally = Tally::default();
        let wires = &mut *self.wires;
        let published = self.registry.publish_each(self.channel, |listeners| {
            tally.note(listeners, wires, name, pattern, payload);
        });
        self.count(&tally, published.clients);
    }

    /// What the link has received of the same channel behind it.
    pub(super) fn rest(&mut self, link: &mut Link) {
        if !link.holds_more() {
            return;
        }
        let mut tally = Tally::default();
        let wires = &mut *self.wires;
        let published = self.registry.publish_each(self.channel, |listeners| {
            link.each_of(self.channel.0, |name, payload| {
                tally.note(listeners, wires, name, None, payload);
            });
        });
        self.count(&tally, published.clients);
    }

    fn count(&mut self, tally: &Tally, clients: usize) {
        self.counters.redis_messages += tally.messages;
        self.counters.messages_out += clients as u64;
        self.counters.unwanted += tally.unwanted;
    }
}

/// What became of messages. Apart from [`Counters`], so that a loop keeps it in registers.
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
        wires: &mut Wires,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
    ) {
        let before = wires.dropped().total();
        let is_noted = listeners.note(Forms {
            wires,
            message: Message {
                channel,
                pattern,
                payload,
            },
            utf8: None,
        });
        self.messages += 1;
        self.unwanted += u64::from(!is_noted && wires.dropped().total() == before);
    }
}

/// A message in the forms that its clients have it in.
struct Forms<'a> {
    wires: &'a mut Wires,
    message: Message<'a>,
    /// The payload is UTF-8, once that was asked.
    utf8: Option<bool>,
}

impl ToFrame for Forms<'_> {
    #[inline(always)]
    fn append(&mut self, variant: Variant, out: &mut Vec<u8>) -> bool {
        self.wires
            .append(variant, self.message, &mut self.utf8, out)
    }
}
