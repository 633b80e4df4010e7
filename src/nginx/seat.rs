//! Where clients sit: a table of seats, each with its client's state.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use hub::outside::ClientId;
use nginx_sys::{ngx_connection_t, ngx_pool_t};

use super::io::Io;
use super::pool::{self, Leavings, Unused};
use super::request::Request;

/// Where a client's state lies, with what belongs to nginx in front of it.
#[repr(C)] // the front is read without knowing `T`
pub(super) struct Seat<T> {
    kind: Kind,
    id: ClientId,
    connection: NonNull<ngx_connection_t>,
    detached: bool,
    /// So many bytes of the connection's pool are the seat's, which goes with it; 0: it lies on the
    /// heap.
    pool_bytes: u16,
    state: T,
}

/// What the context of a request begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Kind {
    Seat,
    Record,
}

/// The numbers of a client that has left its request, for the log phase.
#[repr(C)] // begins as a seat does
struct Record<S> {
    kind: Kind,
    summary: S,
}

/// Keeps the numbers of a client that has left its request: the request's context. `None`: out of
/// memory.
pub(super) fn record<S>(pool: *mut ngx_pool_t, summary: S) -> Option<NonNull<()>> {
    let kind = Kind::Record;
    pool::keep(pool, Record { kind, summary }).map(NonNull::cast)
}

/// What the context of a request is.
pub(super) enum Occupant<'a, S> {
    Client(ClientId),
    Record(&'a S),
}

/// # Safety
/// `context` is the live context of a request: a seat, or a record of an `S`.
pub(super) unsafe fn occupant<'a, S>(context: *mut ()) -> Occupant<'a, S> {
    // SAFETY: the caller's; both begin with their kind, and a seat's front does not depend on `T`.
    unsafe {
        match *context.cast::<Kind>() {
            Kind::Seat => Occupant::Client((*context.cast::<Seat<()>>()).id),
            Kind::Record => Occupant::Record(&(*context.cast::<Record<S>>()).summary),
        }
    }
}

/// The seats of all clients of a worker, each with an `S`.
pub struct Seats<S> {
    seats: Vec<Option<NonNull<Seat<S>>>>,
    free: Vec<u32>,
}

impl<S> Default for Seats<S> {
    fn default() -> Self {
        Seats {
            seats: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<S> Seats<S> {
    /// A seat for the client behind `request`, whose context it becomes.
    ///
    /// The state lies in the unused rest of the connection's pool if it fits, where it costs
    /// nothing. Request headers above 1 KB use that rest up, as long as the request lives.
    pub(super) fn insert(&mut self, request: Request, state: S) -> ClientId {
        let connection = request.connection();
        // SAFETY: a live request has a live connection, which has a pool.
        let (seat, pool_bytes) = unsafe { find_place((*connection.as_ptr()).pool) };
        let id = ClientId(self.free.pop().unwrap_or(self.seats.len() as u32));
        // SAFETY: the place is large enough, aligned, and nobody else's.
        unsafe {
            let kind = Kind::Seat;
            seat.write(Seat {
                kind,
                id,
                connection,
                detached: false,
                pool_bytes,
                state,
            });
        }
        match self.seats.get_mut(id.0 as usize) {
            Some(place) => *place = Some(seat),
            None => self.seats.push(Some(seat)),
        }
        request.set_context(seat.as_ptr().cast());
        id
    }

    /// The client's connection and state.
    #[inline]
    pub(super) fn get(&mut self, id: ClientId) -> Option<(Io, &mut S)> {
        let seat = (*self.seats.get(id.0 as usize)?)?;
        // SAFETY: seats in the table are live, and `&mut self` makes this the only reference.
        let seat = unsafe { &mut *seat.as_ptr() };
        Some((Io::new(seat.connection, seat.detached), &mut seat.state))
    }

    /// Takes the client's state out. The connection is not touched.
    pub(super) fn remove(&mut self, id: ClientId) -> Option<S> {
        let seat = self.seats.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        // SAFETY: the seat was in the table, so it is live; it is read once, then gone.
        unsafe {
            let Seat {
                state, pool_bytes, ..
            } = seat.read();
            if pool_bytes == 0 {
                dealloc(seat.as_ptr().cast(), Layout::new::<Seat<S>>());
            }
            Some(state)
        }
    }

    /// Number of clients.
    pub(super) fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// The ids of all clients.
    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.is_some())
            .map(|(id, _)| ClientId(id as u32))
    }

    /// The request of a client that is attached to it.
    pub(super) fn request(&self, id: ClientId) -> Option<Request> {
        let seat = (*self.seats.get(id.0 as usize)?)?;
        // SAFETY: seats in the table are live, and an attached client's data is its request.
        unsafe {
            let seat = &*seat.as_ptr();
            (!seat.detached).then(|| Request::from_raw((*seat.connection.as_ptr()).data.cast()))
        }
    }

    /// The client's request has been freed, and left this `unused` in the connection's pool, where
    /// `more` is to come. Returns the client's seat, which may be another: where the pool has room by
    /// now.
    pub(super) fn set_detached(
        &mut self,
        id: ClientId,
        mut unused: Leavings,
        more: bool,
    ) -> Option<*mut ()> {
        let place = self.seats.get_mut(id.0 as usize)?;
        let old = (*place)?;
        // SAFETY: as `get`; the connection of a client is live, and has a pool.
        unsafe {
            let seat = &mut *old.as_ptr();
            let is_small = pool::is_one_block((*seat.connection.as_ptr()).pool);
            if seat.pool_bytes > 0 && is_small && !more {
                seat.detached = true;
                return Some(old.as_ptr().cast());
            }
        }
        // SAFETY: as `get`; the connection of a client is live, and has a pool. Besides the table only
        // the request has pointed to the old seat, which is read once, then gone.
        let new = unsafe {
            let mut seat = old.read();
            match seat.pool_bytes {
                0 => dealloc(old.as_ptr().cast(), Layout::new::<Seat<S>>()),
                bytes => unused.push(Unused::before(old.as_ptr().add(1), bytes.into())),
            }
            let pool = (*seat.connection.as_ptr()).pool;
            pool::give_back(pool, &unused);
            let (new, pool_bytes) = find_place(pool);
            seat.pool_bytes = pool_bytes;
            seat.detached = true;
            new.write(seat);
            new
        };
        *place = Some(new);
        Some(new.as_ptr().cast())
    }
}

/// A place for a seat, and how many bytes of `pool` it takes.
///
/// # Safety
/// `pool` is alive.
unsafe fn find_place<T>(pool: *mut ngx_pool_t) -> (NonNull<Seat<T>>, u16) {
    const { assert!(size_of::<Seat<T>>() + align_of::<Seat<T>>() <= u16::MAX as usize) };
    if let Some((seat, bytes)) = pool::spare_room(pool) {
        return (seat, bytes as u16);
    }
    let layout = Layout::new::<Seat<T>>();
    // SAFETY: a seat is never of size zero.
    let place = NonNull::new(unsafe { alloc(layout) }.cast());
    (place.unwrap_or_else(|| handle_alloc_error(layout)), 0)
}
