//! Where clients sit: a table of seats, each with its client's state.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use nginx_sys::ngx_connection_t;

use super::super::pool;
use super::super::request::Request;
use super::{ClientId, Io};
use crate::session::Summary;

/// Where a client's state lies, with what belongs to nginx in front of it.
#[repr(C)] // the front is read without knowing `T`
pub(super) struct Seat<T> {
    kind: Kind,
    id: ClientId,
    connection: NonNull<ngx_connection_t>,
    detached: bool,
    /// The seat lies in the connection's pool, and goes with it.
    in_pool: bool,
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
#[repr(C)]
pub(in crate::nginx) struct Record {
    kind: Kind,
    summary: Summary,
}

impl Record {
    pub(in crate::nginx) fn new(summary: Summary) -> Record {
        Record {
            kind: Kind::Record,
            summary,
        }
    }
}

/// What the context of a request is.
pub(in crate::nginx) enum Occupant<'a> {
    Client(ClientId),
    Record(&'a Summary),
}

/// # Safety
/// `context` is the live context of a request: a seat, or a record.
pub(in crate::nginx) unsafe fn occupant<'a>(context: *mut ()) -> Occupant<'a> {
    // SAFETY: the caller's; both begin with their kind, and a seat's front does not depend on `T`.
    unsafe {
        match *context.cast::<Kind>() {
            Kind::Seat => Occupant::Client((*context.cast::<Seat<()>>()).id),
            Kind::Record => Occupant::Record(&(*context.cast::<Record>()).summary),
        }
    }
}

/// All clients of a worker, with a `T` each.
pub struct Clients<T> {
    seats: Vec<Option<NonNull<Seat<T>>>>,
    free: Vec<u32>,
}

impl<T> Default for Clients<T> {
    fn default() -> Self {
        Clients {
            seats: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Clients<T> {
    /// Gives the client behind `request` a seat.
    ///
    /// The state lies in the unused rest of the connection's pool if it fits, where it costs
    /// nothing; request headers above 1 KB use that rest up.
    pub fn insert(&mut self, request: Request, state: T) -> ClientId {
        let connection = request.connection();
        // SAFETY: a live request has a live connection, which has a pool.
        let spare = pool::spare_room::<Seat<T>>(unsafe { (*connection.as_ptr()).pool });
        let in_pool = spare.is_some();
        let seat = match spare {
            Some(seat) => seat,
            None => {
                let layout = Layout::new::<Seat<T>>();
                // SAFETY: a seat is never of size zero.
                let place = NonNull::new(unsafe { alloc(layout) }.cast());
                place.unwrap_or_else(|| handle_alloc_error(layout))
            }
        };
        let id = ClientId(self.free.pop().unwrap_or(self.seats.len() as u32));
        // SAFETY: the place is large enough, aligned, and nobody else's.
        unsafe {
            let kind = Kind::Seat;
            seat.write(Seat {
                kind,
                id,
                connection,
                detached: false,
                in_pool,
                state,
            });
        }
        match self.seats.get_mut(id.0 as usize) {
            Some(place) => *place = Some(seat),
            None => self.seats.push(Some(seat)),
        }
        request.set_context(seat.as_ptr().cast());
        request.watch_client(id);
        id
    }

    /// The client's connection and state.
    pub fn get(&mut self, id: ClientId) -> Option<(Io, &mut T)> {
        let seat = (*self.seats.get(id.0 as usize)?)?;
        // SAFETY: seats in the table are live, and `&mut self` makes this the only reference.
        let seat = unsafe { &mut *seat.as_ptr() };
        Some((Io::new(seat.connection, seat.detached), &mut seat.state))
    }

    /// Takes the client's state out; its seat is free. The connection is not touched.
    pub fn remove(&mut self, id: ClientId) -> Option<T> {
        let seat = self.seats.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        // SAFETY: the seat was in the table, so it is live; it is read once, then gone.
        unsafe {
            let Seat { state, in_pool, .. } = seat.read();
            if !in_pool {
                dealloc(seat.as_ptr().cast(), Layout::new::<Seat<T>>());
            }
            Some(state)
        }
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// The ids of all clients.
    pub fn ids(&self) -> impl Iterator<Item = ClientId> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.is_some())
            .map(|(id, _)| ClientId(id as u32))
    }

    /// The request of a client that is attached to it.
    pub fn request(&self, id: ClientId) -> Option<Request> {
        let seat = (*self.seats.get(id.0 as usize)?)?;
        // SAFETY: seats in the table are live, and an attached client's data is its request.
        unsafe {
            let seat = &*seat.as_ptr();
            (!seat.detached).then(|| Request::from_raw((*seat.connection.as_ptr()).data.cast()))
        }
    }

    pub(super) fn set_detached(&mut self, id: ClientId) -> Option<*mut ()> {
        let seat = (*self.seats.get(id.0 as usize)?)?;
        // SAFETY: as `get`.
        unsafe { (*seat.as_ptr()).detached = true };
        Some(seat.as_ptr().cast())
    }
}
