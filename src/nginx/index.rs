//! This module's number among nginx's HTTP modules: where its part of a request or configuration is.

use std::sync::atomic::{AtomicUsize, Ordering};

static CONTEXT_INDEX: AtomicUsize = AtomicUsize::new(0);

/// The number; nginx gives it when it loads the module.
pub(super) fn context_index() -> usize {
    CONTEXT_INDEX.load(Ordering::Relaxed)
}

/// nginx is about to read a configuration, and has given the module this number.
pub(super) fn remember_context_index(index: usize) {
    CONTEXT_INDEX.store(index, Ordering::Relaxed);
}
