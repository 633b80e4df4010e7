//! The listeners of a channel with several feeds, by form.

use smallvec::SmallVec;

/// The feeds of one channel, counted by variant. It is kept because the next message is likely to
/// be for the same channel.
#[derive(Default)]
pub(super) struct Audience {
    pub(super) channel: Option<u32>,
    pub(super) forms: SmallVec<[Form; 2]>,
}

/// The feeds that get messages in the same form.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) variant: u32,
    pub(super) tape: usize,
    pub(super) feeds: usize,
    pub(super) clients: usize,
}
