//! The state of this module in an nginx process.

use std::cell::{Cell, UnsafeCell};

use super::listening::Listeners;
use super::timer::Timer;

/// Where a process keeps its host. Only `event` accesses it.
pub struct Slot<H> {
    pub(super) host: UnsafeCell<Option<Box<H>>>,
    pub(super) timer: UnsafeCell<Option<Timer>>,
    pub(super) listeners: UnsafeCell<Listeners>,
    pub(super) lent: Cell<bool>,
    pub(super) performing: Cell<bool>,
}

// SAFETY: nginx's worker handles events in one thread, and this module starts no other.
unsafe impl<H> Sync for Slot<H> {}

impl<H> Slot<H> {
    /// A slot without a host.
    pub const fn new() -> Slot<H> {
        Slot {
            host: UnsafeCell::new(None),
            timer: UnsafeCell::new(None),
            listeners: UnsafeCell::new(Listeners::new()),
            lent: Cell::new(false),
            performing: Cell::new(false),
        }
    }
}
