//! This module's number among nginx's HTTP modules, which locates its part of a request or
//! configuration.

use std::sync::atomic::{AtomicUsize, Ordering};

static CONTEXT_INDEX: AtomicUsize = AtomicUsize::new(0);

/// The number. nginx assigns it when it loads the module.
pub(super) fn context_index() -> usize {
    CONTEXT_INDEX.load(Ordering::Relaxed)
}

/// Called when nginx is about to read a configuration and has assigned this number.
pub(super) fn remember_context_index(index: usize) {
    CONTEXT_INDEX.store(index, Ordering::Relaxed);
}
