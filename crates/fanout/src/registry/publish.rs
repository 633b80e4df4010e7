//! Publishing: from a channel to the logs of its feeds.

use smallvec::SmallVec;

use super::audience::{Audience, Form};
use super::state::Registry;
use crate::channels::FeedPlace;
use crate::feed::SharedState;
use crate::held::Held;
use crate::run::Run;
use crate::tape::{Noted, Stage};
use crate::types::{ChannelId, FormatId, Published, ToFrame};

/// The listeners of a channel: see [`Registry::publish_each`].
pub struct Listeners<'a>(Feeds<'a>);

/// A channel's feeds, with all that noting a message needs.
enum Feeds<'a> {
    None,
    One {
        id: u32,
        variant: FormatId,
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
    /// Publishes the next message. Returns `false` if no feed noted it.
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

impl Registry {
    /// Publishes one message to all listeners of `channel`: [`publish_each`](Self::publish_each)
    /// with one.
    pub fn publish(
        &mut self,
        channel: ChannelId,
        frame: &mut impl FnMut(FormatId, &mut Vec<u8>) -> bool,
    ) -> Published {
        self.publish_each(channel, |listeners| {
            listeners.note(frame);
        })
    }

    /// Publishes messages to all listeners of `channel`: `publish` passes them one by one to
    /// [`Listeners::note`]. Returns the sum over all messages.
    #[inline]
    pub fn publish_each(
        &mut self,
        channel: ChannelId,
        publish: impl FnOnce(&mut Listeners<'_>),
    ) -> Published {
        let mut listeners = Listeners(match self.channels.get(channel.0).feeds.as_slice() {
            [] => Feeds::None,
            &[FeedPlace { feed: id, .. }] => self.one_feed(id, channel),
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

    #[inline(always)]
    fn one_feed(&mut self, id: u32, channel: ChannelId) -> Feeds<'_> {
        if self.feeds[id as usize].channels.len() > 1 {
            // Earlier messages of another of its channels may be on a tape.
            self.commit();
        }
        let feed = &mut self.feeds[id as usize];
        let variant = FormatId(feed.variant);
        let log = feed.log(&mut self.shared);
        let SharedState { buffers, tally, .. } = &mut self.shared;
        Feeds::One {
            id,
            variant,
            run: Run::begin(log, channel.0, buffers, tally),
            noted: 0,
        }
    }

    fn published_to_one(&mut self, id: u32, noted: usize) -> Published {
        let feed = &mut self.feeds[id as usize];
        if noted == 0 {
            feed.settle(&mut self.shared);
            return Published::default();
        }
        let clients = noted * feed.client_count();
        self.mark_dirty(id);
        Published {
            feeds: noted,
            clients,
        }
    }

    /// Publishes a message to the feeds of a channel that has several.
    #[inline(never)]
    fn publish_to_several(&mut self, channel: ChannelId, mut message: impl ToFrame) -> Published {
        if self.audience.channel != Some(channel.0) {
            self.audience = self.audience_of(channel);
        }
        let (mut published, mut is_full) = (Published::default(), false);
        for at in 0..self.audience.forms.len() {
            let form = self.audience.forms[at];
            let append = |out: &mut Vec<u8>| message.append(FormatId(form.variant), out);
            match self.stage.note(form.tape, channel.0, append) {
                Noted::Not => continue,
                Noted::OnEnd => {}
                Noted::Anew => self.unoffered_notes += form.feeds as u64,
                Noted::Large(bytes) => self.publish_large(channel, form, bytes),
            }
            published.feeds += form.feeds;
            published.clients += form.clients;
            is_full |= self.stage.is_full(form.tape);
        }
        if is_full {
            self.commit();
        }
        published
    }

    fn audience_of(&mut self, channel: ChannelId) -> Audience {
        let mut forms: SmallVec<[Form; 2]> = SmallVec::new();
        for listener in &self.channels.get(channel.0).feeds {
            let feed = &self.feeds[listener.feed as usize];
            let clients = feed.client_count();
            if let Some(form) = forms.iter_mut().find(|it| it.variant == feed.variant) {
                form.feeds += 1;
                form.clients += clients;
            } else {
                forms.push(Form {
                    variant: feed.variant,
                    tape: self.stage.tape(feed.variant),
                    feeds: 1,
                    clients,
                });
            }
        }
        Audience {
            channel: Some(channel.0),
            forms,
        }
    }

    /// Each feed of the form holds the large frame by reference, after what is on the tape.
    fn publish_large(&mut self, channel: ChannelId, form: Form, frame: Vec<u8>) {
        self.commit();
        self.unoffered_notes += form.feeds as u64;
        let held = Held::one(frame, channel.0, &self.shared.tally);
        for at in 0..self.channels.get(channel.0).feeds.len() {
            let id = self.channels.get(channel.0).feeds[at].feed;
            let feed = &mut self.feeds[id as usize];
            if feed.variant == form.variant {
                let log = feed.log(&mut self.shared);
                self.own_bytes += log.append_held(&held, 0..held.len());
                self.mark_dirty(id);
            }
        }
    }

    /// Gives the feeds what is on the tapes for them. To be called before anything that needs
    /// complete logs, or that changes the listeners.
    #[inline]
    pub(super) fn commit(&mut self) {
        if !self.stage.is_empty() {
            self.commit_stage();
        }
    }

    #[inline(never)]
    fn commit_stage(&mut self) {
        let mut stage = std::mem::take(&mut self.stage);
        let mut due = std::mem::take(&mut self.due);
        let stretches: Vec<_> = stage.stretches().collect();
        for (channel, variant, tape, range) in stretches {
            for at in 0..self.channels.get(channel).feeds.len() {
                let id = self.channels.get(channel).feeds[at].feed;
                let feed = &mut self.feeds[id as usize];
                if feed.variant != variant {
                    continue;
                }
                let staged = &mut feed.log(&mut self.shared).staged;
                if staged.start == staged.end {
                    due.push((id, tape));
                } else if staged.end == range.start {
                    staged.end = range.end;
                    continue;
                } else {
                    self.give(&mut stage, id, tape);
                }
                self.feeds[id as usize].log(&mut self.shared).staged = range.clone();
            }
        }
        for (id, tape) in due.drain(..) {
            self.give(&mut stage, id, tape);
            self.mark_dirty(id);
        }
        stage.clear();
        (self.stage, self.due) = (stage, due);
    }

    fn give(&mut self, stage: &mut Stage, id: u32, tape: usize) {
        let log = self.feeds[id as usize].log(&mut self.shared);
        let SharedState { buffers, tally, .. } = &mut self.shared;
        self.own_bytes += stage.give(tape, log, buffers, tally);
    }

    /// Forgets the audience, because the listeners may change.
    pub(super) fn forget_audience(&mut self) {
        self.audience.channel = None;
    }

    /// What was published since [`next_dirty`](Registry::next_dirty) last returned `None`: the
    /// bytes held for it, and how many notes feeds took of channels with several feeds. A publisher
    /// should stop and flush when this is much: nothing else bounds it.
    pub fn unoffered(&mut self) -> (u64, u64) {
        if self.unoffered_notes - self.committed_notes > LATE_NOTES {
            // What is copied for each feed is counted only when it is committed.
            self.commit();
            self.committed_notes = self.unoffered_notes;
        }
        let held = self.log_bytes();
        self.offered_bytes = self.offered_bytes.min(held);
        self.shortage.note(held);
        (held - self.offered_bytes, self.unoffered_notes)
    }
}

/// How many notes may wait on the tapes when [`Registry::unoffered`] is called.
const LATE_NOTES: u64 = 4_096;
