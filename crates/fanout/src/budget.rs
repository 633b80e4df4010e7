//! The memory account of a worker: who holds how much, and whether that is too much.

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Logs of feeds: what some client has not taken yet.
    Logs,
    /// Messages from clients that are only partly received, input that is not parsed yet, and
    /// clients' own frames that they have not taken.
    PartialMessages,
    /// Publishes that await their reply, and posts that wait for the link.
    Replies,
    /// The compression history of clients' messages.
    Contexts,
}

/// Bytes held per category, against one limit for all.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u64,
    held: [u64; 4],
}

impl Budget {
    /// An empty account; `limit` in bytes.
    pub fn new(limit: u64) -> Budget {
        Budget {
            limit,
            held: [0; 4],
        }
    }

    /// Adds `bytes`.
    pub fn take(&mut self, category: Category, bytes: u64) {
        self.held[category as usize] += bytes;
    }

    /// Subtracts `bytes`. Giving back more than was taken leaves 0.
    pub fn give_back(&mut self, category: Category, bytes: u64) {
        let held = &mut self.held[category as usize];
        debug_assert!(
            *held >= bytes,
            "{category:?}: {bytes} of {held} bytes given back"
        );
        *held = held.saturating_sub(bytes);
    }

    /// Sets a category's sum, for one that is counted elsewhere
    /// ([`Registry::log_bytes`](crate::Registry::log_bytes)).
    pub fn set(&mut self, category: Category, bytes: u64) {
        self.held[category as usize] = bytes;
    }

    /// Bytes held for one category.
    pub fn held(&self, category: Category) -> u64 {
        self.held[category as usize]
    }

    /// Bytes held in all.
    pub fn total(&self) -> u64 {
        self.held.iter().sum()
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// More is held than the limit allows.
    pub fn over(&self) -> bool {
        self.total() > self.limit
    }

    /// `bytes` more would still be within the limit.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.total().saturating_add(bytes) <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_categories_share_one_limit() {
        let mut budget = Budget::new(100);
        budget.take(Category::PartialMessages, 60);
        budget.set(Category::Logs, 40);
        assert!(!budget.over() && budget.has_room(0) && !budget.has_room(1));
        budget.take(Category::Replies, 1);
        assert!(budget.over());
        budget.give_back(Category::PartialMessages, 60);
        assert_eq!((budget.total(), budget.over()), (41, false));
    }
}
