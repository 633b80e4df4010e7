//! Who listens to a channel of several feeds, by form.

use smallvec::SmallVec;

/// The feeds of one channel, counted by variant: who listened last is likely to be asked again.
#[derive(Default)]
pub(super) struct Audience {
    pub(super) channel: Option<u32>,
    pub(super) forms: SmallVec<[Form; 2]>,
}

/// The feeds that have messages in the same form.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) variant: u32,
    pub(super) tape: usize,
    pub(super) feeds: usize,
    pub(super) clients: usize,
}
