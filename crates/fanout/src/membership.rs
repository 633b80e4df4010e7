//! A client's place in its feed.

/// A client's feed, and its index among the feed's members or laggards.
#[derive(Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) feed: u32,
    pub(crate) place: u32,
}

const NOBODY: u32 = u32::MAX;
pub(crate) const LAGGARD: u32 = 1 << 31;
pub(crate) enum Place {
    Member(usize),
    Laggard(usize),
}

impl Membership {
    pub(crate) const EMPTY: Membership = Membership {
        feed: NOBODY,
        place: 0,
    };

    pub(crate) fn is_taken(self) -> bool {
        self.feed != NOBODY
    }

    pub(crate) fn place(self) -> Place {
        match self.place & LAGGARD {
            0 => Place::Member(self.place as usize),
            _ => Place::Laggard((self.place & !LAGGARD) as usize),
        }
    }
}
