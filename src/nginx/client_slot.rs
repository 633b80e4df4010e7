//! The table of clients: slots, each with its client's state.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use hub::outside::ClientId;
use nginx_sys::{ngx_connection_t, ngx_pool_t};

use super::io::Io;
use super::pool::{self, PoolRemains, Unused};
use super::request::Request;

/// A client's state, preceded by what nginx needs.
#[repr(C)] // the front is read without knowing `T`
pub(super) struct ClientSlot<T> {
    kind: ContextKind,
    id: ClientId,
    connection: NonNull<ngx_connection_t>,
    detached: bool,
    /// How many bytes of the connection's pool the slot takes, which is freed with the pool; 0 if
    /// the slot is on the heap.
    pool_bytes: u16,
    state: T,
}

/// The first field of a request's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum ContextKind {
    ClientSlot,
    FinalSummary,
}

/// The figures of a client that has left its request, for the log phase.
#[repr(C)] // begins as a slot does
struct FinalSummary<S> {
    kind: ContextKind,
    summary: S,
}

/// Keeps the figures of a client that has left its request, as the request's context. `None`: out
/// of memory.
pub(super) fn record<S>(pool: *mut ngx_pool_t, summary: S) -> Option<NonNull<()>> {
    let kind = ContextKind::FinalSummary;
    pool::keep(pool, FinalSummary { kind, summary }).map(NonNull::cast)
}

/// What the context of a request is.
pub(super) enum RequestContext<'a, S> {
    Client(ClientId),
    FinalSummary(&'a S),
}

/// # Safety
/// `context` is the live context of a request: a slot, or a record of an `S`.
pub(super) unsafe fn occupant<'a, S>(context: *mut ()) -> RequestContext<'a, S> {
    // SAFETY: the caller's; both begin with their kind, and a slot's header does not depend on `T`.
    unsafe {
        match *context.cast::<ContextKind>() {
            ContextKind::ClientSlot => {
                RequestContext::Client((*context.cast::<ClientSlot<()>>()).id)
            }
            ContextKind::FinalSummary => {
                RequestContext::FinalSummary(&(*context.cast::<FinalSummary<S>>()).summary)
            }
        }
    }
}

/// The slots of all clients of a worker, each with an `S`.
pub struct ClientSlots<S> {
    slots: Vec<Option<NonNull<ClientSlot<S>>>>,
    free: Vec<u32>,
}

impl<S> Default for ClientSlots<S> {
    fn default() -> Self {
        ClientSlots {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<S> ClientSlots<S> {
    /// Makes a slot for the client behind `request`; it becomes the request's context.
    ///
    /// The state is placed in the unused rest of the connection's pool if it fits, where it costs
    /// nothing. Request headers above 1 KB use that rest as long as the request lives.
    pub(super) fn insert(&mut self, request: Request, state: S) -> ClientId {
        let connection = request.connection();
        // SAFETY: a live request has a live connection, which has a pool.
        let (slot, pool_bytes) = unsafe { find_place((*connection.as_ptr()).pool) };
        let id = ClientId(self.free.pop().unwrap_or(self.slots.len() as u32));
        // SAFETY: the place is large enough, aligned, and not used by anything else.
        unsafe {
            let kind = ContextKind::ClientSlot;
            slot.write(ClientSlot {
                kind,
                id,
                connection,
                detached: false,
                pool_bytes,
                state,
            });
        }
        match self.slots.get_mut(id.0 as usize) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        request.set_context(slot.as_ptr().cast());
        id
    }

    /// The client's connection and state.
    #[inline]
    pub(super) fn get(&mut self, id: ClientId) -> Option<(Io, &mut S)> {
        let slot = (*self.slots.get(id.0 as usize)?)?;
        // SAFETY: slots in the table are live, and `&mut self` makes this the only reference.
        let slot = unsafe { &mut *slot.as_ptr() };
        Some((Io::new(slot.connection, slot.detached), &mut slot.state))
    }

    /// Removes the client and returns its state. The connection is not touched.
    pub(super) fn remove(&mut self, id: ClientId) -> Option<S> {
        let slot = self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        // SAFETY: the slot was in the table, so it is live; it is read once, then gone.
        unsafe {
            let ClientSlot {
                state, pool_bytes, ..
            } = slot.read();
            if pool_bytes == 0 {
                dealloc(slot.as_ptr().cast(), Layout::new::<ClientSlot<S>>());
            }
            Some(state)
        }
    }

    /// Number of clients.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The ids of all clients.
    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> {
        let slots = self.slots.iter().enumerate();
        slots
            .filter(|(_, slot)| slot.is_some())
            .map(|(id, _)| ClientId(id as u32))
    }

    /// The request of a client that is attached to it.
    pub(super) fn request(&self, id: ClientId) -> Option<Request> {
        let slot = (*self.slots.get(id.0 as usize)?)?;
        // SAFETY: slots in the table are live, and an attached client's data is its request.
        unsafe {
            let slot = &*slot.as_ptr();
            (!slot.detached).then(|| Request::from_raw((*slot.connection.as_ptr()).data.cast()))
        }
    }

    /// The client's request has been freed and has left `unused` parts of the connection's pool,
    /// where `more` will be allocated. Returns the client's slot, which may have moved into the
    /// pool if there is space by now.
    pub(super) fn set_detached(
        &mut self,
        id: ClientId,
        mut unused: PoolRemains,
        more: bool,
    ) -> Option<*mut ()> {
        let place = self.slots.get_mut(id.0 as usize)?;
        let old = (*place)?;
        // SAFETY: as `get`; the connection of a client is live, and has a pool.
        unsafe {
            let slot = &mut *old.as_ptr();
            let is_small = pool::is_one_block((*slot.connection.as_ptr()).pool);
            if slot.pool_bytes > 0 && is_small && !more {
                slot.detached = true;
                return Some(old.as_ptr().cast());
            }
        }
        // SAFETY: as `get`; the connection of a client is live, and has a pool. Besides the table
        // only the request has pointed to the old slot, which is read once, then gone.
        let new = unsafe {
            let mut slot = old.read();
            match slot.pool_bytes {
                0 => dealloc(old.as_ptr().cast(), Layout::new::<ClientSlot<S>>()),
                bytes => unused.push(Unused::before(old.as_ptr().add(1), bytes.into())),
            }
            let pool = (*slot.connection.as_ptr()).pool;
            pool::give_back(pool, &unused);
            let (new, pool_bytes) = find_place(pool);
            slot.pool_bytes = pool_bytes;
            slot.detached = true;
            new.write(slot);
            new
        };
        *place = Some(new);
        Some(new.as_ptr().cast())
    }
}

/// A place for a slot, and how many bytes of `pool` it takes.
///
/// # Safety
/// `pool` is alive.
unsafe fn find_place<T>(pool: *mut ngx_pool_t) -> (NonNull<ClientSlot<T>>, u16) {
    const { assert!(size_of::<ClientSlot<T>>() + align_of::<ClientSlot<T>>() <= u16::MAX as usize) };
    if let Some((slot, bytes)) = pool::spare_room(pool) {
        return (slot, bytes as u16);
    }
    let layout = Layout::new::<ClientSlot<T>>();
    // SAFETY: a slot is never of size zero.
    let place = NonNull::new(unsafe { alloc(layout) }.cast());
    (place.unwrap_or_else(|| handle_alloc_error(layout)), 0)
}
