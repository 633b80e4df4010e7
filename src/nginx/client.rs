//! A WebSocket client's connection, attached to its HTTP request or detached from it.
//!
//! *Attached*, nginx's request is kept: `c->data` is the request, and the seat is its context of
//! this module. *Detached*, the request is freed as nginx does for an idle keep-alive connection
//! (`ngx_http_set_keepalive`), and `c->data` is the seat. Nothing outside this file knows which.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use nginx_sys::{
    NGX_AGAIN, NGX_OK, ngx_connection_t, ngx_event_t, ngx_handle_read_event,
    ngx_handle_write_event, ngx_http_close_connection, ngx_http_finalize_request,
    ngx_http_run_posted_requests, ngx_post_event, ngx_posted_next_events,
};

use super::bindings::ngx_http_request_s;
use super::event::{self, on_client_read, on_client_write, with};
use super::log::{self, Level};
use super::request::{self, Request};
use super::{Received, Sent, pool, ssl};
use crate::session::Summary;

mod detach;

pub use fanout::ClientId;

/// Whether a client's request may be freed while its connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Unless another module needs the request.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Where a client's state lies, with what belongs to nginx in front of it.
#[repr(C)] // the front is read without knowing `T`
struct Seat<T> {
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
pub(super) struct Record {
    kind: Kind,
    summary: Summary,
}

impl Record {
    pub(super) fn new(summary: Summary) -> Record {
        Record {
            kind: Kind::Record,
            summary,
        }
    }
}

/// What the context of a request is.
pub(super) enum Occupant<'a> {
    Client(ClientId),
    Record(&'a Summary),
}

/// # Safety
/// `context` is the live context of a request: a seat, or a record.
pub(super) unsafe fn occupant<'a>(context: *mut ()) -> Occupant<'a> {
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
        Some((
            Io {
                connection: seat.connection,
                detached: seat.detached,
            },
            &mut seat.state,
        ))
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

    fn set_detached(&mut self, id: ClientId) -> Option<*mut ()> {
        let seat = (*self.seats.get(id.0 as usize)?)?;
        // SAFETY: as `get`.
        unsafe { (*seat.as_ptr()).detached = true };
        Some(seat.as_ptr().cast())
    }
}

/// A client's connection. Valid while the client has its seat.
#[derive(Clone, Copy)]
pub struct Io {
    connection: NonNull<ngx_connection_t>,
    detached: bool,
}

impl Io {
    fn c(&self) -> *mut ngx_connection_t {
        self.connection.as_ptr()
    }

    /// Reads what the socket has, at most `buf.len()` bytes.
    pub fn recv(&self, buf: &mut [u8]) -> Received {
        receive(self.connection, buf)
    }

    /// Writes by nginx's `c->send`, over TLS at most 16 KiB a call: OpenSSL commits all it is
    /// offered, and must be offered the same bytes again.
    pub fn send(&self, bytes: &[u8]) -> Sent {
        send(self.connection, bytes)
    }

    /// The descriptor if frames may be written to it directly; `None` over TLS.
    pub fn plain_fd(&self) -> Option<i32> {
        // SAFETY: the connection lives while the client has its seat.
        unsafe { (*self.c()).ssl.is_null().then_some((*self.c()).fd) }
    }

    /// True if reads would find something, or have not yet found nothing.
    pub fn is_readable(&self) -> bool {
        // SAFETY: the connection lives while the client has its seat.
        unsafe { (*(*self.c()).read).ready() != 0 }
    }

    /// Calls the read handler once more in the next round of the event loop.
    pub fn read_again(&self) {
        // SAFETY: the connection lives while the client has its seat; closing it unposts.
        unsafe { ngx_post_event((*self.c()).read, &raw mut ngx_posted_next_events) };
    }

    /// Calls the write handler in the next round of the event loop.
    pub fn write_again(&self) {
        // SAFETY: the connection lives while the client has its seat; closing it unposts.
        unsafe { ngx_post_event((*self.c()).write, &raw mut ngx_posted_next_events) };
    }

    /// Waits for readability. False: the event could not be set, the connection is of no use.
    #[must_use]
    pub fn want_read(&self) -> bool {
        // SAFETY: the connection lives while the client has its seat.
        unsafe { ngx_handle_read_event((*self.c()).read, 0) == NGX_OK as isize }
    }

    /// Waits for writability after a short write. False: the event could not be set.
    #[must_use]
    pub fn want_write(&self) -> bool {
        // SAFETY: the connection lives while the client has its seat. A direct `send(2)` does
        // not clear `ready`, as `c->send` does.
        unsafe {
            let write = (*self.c()).write;
            (*write).set_ready(0);
            ngx_handle_write_event(write, 0) == NGX_OK as isize
        }
    }

    /// No more will be written: TLS close_notify, then `shutdown(SHUT_WR)`. Reads go on, raw.
    pub fn shutdown(&self) {
        // SAFETY: the connection lives while the client has its seat.
        unsafe {
            ssl::say_goodbye(self.c());
            libc::shutdown((*self.c()).fd, libc::SHUT_WR);
        }
    }

    /// Reads and drops what the socket has, after [`Io::shutdown`], at most `max` bytes.
    pub fn discard(&self, buf: &mut [u8], max: usize) -> Received {
        let mut dropped = 0;
        while dropped < max {
            // SAFETY: a plain read to a buffer of ours; TLS has ended, its records are dropped too.
            let n = unsafe {
                libc::recv(
                    (*self.c()).fd,
                    buf.as_mut_ptr().cast(),
                    buf.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            match n {
                0 => return Received::Eof,
                n if n > 0 => dropped += n as usize,
                _ if would_block() => {
                    // SAFETY: the connection lives while the client has its seat.
                    unsafe { (*(*self.c()).read).set_ready(0) };
                    return Received::Again;
                }
                _ => return Received::Failed,
            }
        }
        Received::Bytes(dropped)
    }

    /// True once nginx has freed the request.
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// `TCP_NOTSENT_LOWAT`: how much unsent the kernel takes. 0 leaves the system's.
    pub fn set_notsent_lowat(&self, bytes: usize) {
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        if value > 0 {
            // SAFETY: an int option; a unix socket refuses it, which is fine.
            unsafe {
                libc::setsockopt(
                    (*self.c()).fd,
                    libc::IPPROTO_TCP,
                    libc::TCP_NOTSENT_LOWAT,
                    (&raw const value).cast(),
                    size_of_val(&value) as libc::socklen_t,
                );
            }
        }
    }

    /// Writes to the connection's log, which adds client and request.
    pub fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        // SAFETY: the connection lives while the client has its seat.
        log::write(unsafe { (*self.c()).log }, level, text);
    }
}

/// One `send(2)` of a frame run to a plain socket: the hot path of a fan-out.
#[inline]
pub fn send_plain(fd: i32, bytes: &[u8]) -> Sent {
    // SAFETY: reads at most so many bytes of ours.
    let n = unsafe {
        libc::send(
            fd,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    };
    if n >= 0 {
        Sent::Bytes(n as usize)
    } else if would_block() {
        Sent::Again
    } else {
        Sent::Failed
    }
}

fn would_block() -> bool {
    matches!(
        std::io::Error::last_os_error().kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
    )
}

/// Reads by `c->recv`, for clients and peers alike.
pub(super) fn receive(connection: NonNull<ngx_connection_t>, buf: &mut [u8]) -> Received {
    let c = connection.as_ptr();
    // SAFETY: the connection is live; `recv` writes at most so many bytes.
    let n = unsafe {
        let Some(recv) = (*c).recv else {
            return Received::Failed;
        };
        recv(c, buf.as_mut_ptr(), buf.len())
    };
    match n {
        0 => Received::Eof,
        n if n > 0 => Received::Bytes(n as usize),
        n if n == NGX_AGAIN as isize => Received::Again,
        _ => Received::Failed,
    }
}

/// Writes by `c->send`, for clients and peers alike.
pub(super) fn send(connection: NonNull<ngx_connection_t>, bytes: &[u8]) -> Sent {
    let c = connection.as_ptr();
    // SAFETY: the connection is live; `send` reads at most so many bytes.
    let n = unsafe {
        let most = if (*c).ssl.is_null() {
            bytes.len()
        } else {
            bytes.len().min(ssl::RECORD)
        };
        let Some(send) = (*c).send else {
            return Sent::Failed;
        };
        send(c, bytes.as_ptr().cast_mut(), most)
    };
    match n {
        n if n >= 0 => Sent::Bytes(n as usize),
        n if n == NGX_AGAIN as isize => Sent::Again,
        _ => Sent::Failed,
    }
}

/// The client of a connection whose handlers are ours; `None` when it has left its request.
///
/// # Safety
/// `c` is a live connection, attached to a request or detached with a seat.
pub(super) unsafe fn id_of(c: *mut ngx_connection_t) -> Option<ClientId> {
    // SAFETY: `destroyed` is set from the detach on; before it `c->data` is the request.
    unsafe {
        let context: *mut () = if (*c).destroyed() != 0 {
            (*c).data.cast()
        } else {
            Request::from_raw((*c).data.cast()).context()
        };
        client_in(context)
    }
}

/// # Safety
/// As [`occupant`], or null.
unsafe fn client_in(context: *mut ()) -> Option<ClientId> {
    if context.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    match unsafe { occupant(context) } {
        Occupant::Client(id) => Some(id),
        Occupant::Record(_) => None,
    }
}

/// Sends the 101 of a client whose handshake had been parked.
pub(super) fn accept_parked(id: ClientId, headers: &request::Headers) {
    let Some(request) = with(|worker| worker.clients().request(id)).flatten() else {
        return;
    };
    let connection = request.connection();
    if let Some(status) = accept(request, id, headers) {
        request.finalize(status);
    }
    // SAFETY: nginx marks a connection that ended meanwhile as destroyed; its struct stays.
    unsafe { ngx_http_run_posted_requests(connection.as_ptr()) };
}

/// Sends the 101; from its last byte on, [`take_over`] has the connection. `Some`: the request has
/// to be finalized with this status instead.
pub(super) fn accept(request: Request, id: ClientId, headers: &request::Headers) -> Option<isize> {
    // SAFETY: the connection is live, and nginx's own handlers are on it.
    unsafe { request::remember_nginx_handler(request.connection().as_ptr()) };
    if let Some(status) = request.send_switching_protocols(headers) {
        request.remember(None);
        event::run_client(id, |worker| worker.client_gone(id));
        return Some(status);
    }
    request.read_with(event::on_take_over);
    None
}

/// The posted read event after the 101: takes the connection from the request.
pub(super) fn take_over(r: *mut nginx_sys::ngx_http_request_t) {
    // SAFETY: nginx calls read handlers with a live request.
    let request = unsafe { Request::from_raw(r) };
    if request.has_unsent_output() {
        request.flush_then_read();
        return;
    }
    let connection = request.connection();
    // SAFETY: the seat was set before the 101 was sent, and is there while the request is.
    let Some(id) = (unsafe { client_in(request.context()) }) else {
        return;
    };
    let early = request.take_early_bytes();
    let detached = match with(|worker| worker.detach_policy(id)).flatten() {
        Some(policy) if detach::may(request, policy) => detach::detach(request, id),
        _ => false,
    };
    // SAFETY: the connection is live and the request is done with it, or kept for its log only.
    unsafe {
        ssl::write_in_parts(connection.as_ptr());
        if !detached {
            nginx_sys::ngx_tcp_nodelay(connection.as_ptr());
        }
        set_handlers(connection.as_ptr());
        (*connection.as_ptr()).set_idle(1);
    }
    event::run_client(id, |worker| worker.client_open(id, early));
}

/// Tries again to free a request that was still in use (a mirror) when its client was taken over.
pub(super) fn try_detach(id: ClientId) {
    let Some(request) = with(|worker| worker.clients().request(id)).flatten() else {
        return;
    };
    let Some(policy) = with(|worker| worker.detach_policy(id)).flatten() else {
        return;
    };
    if detach::may(request, policy) {
        detach::detach(request, id);
    }
}

/// Our handlers are on the connection in both lives: nginx's own would answer `c->close` with an
/// end without a Close frame. OpenSSL's read may hold the one, its write the other.
unsafe fn set_handlers(c: *mut ngx_connection_t) {
    // SAFETY: the caller's connection is live.
    unsafe {
        let (mut read, mut write): (*mut _, *mut _) = (
            &raw mut (*(*c).read).handler,
            &raw mut (*(*c).write).handler,
        );
        if let Some(ssl) = (*c).ssl.as_mut() {
            if ssl.saved_write_handler.is_some() {
                write = &raw mut ssl.saved_write_handler;
            }
            if ssl.saved_read_handler.is_some() {
                read = &raw mut ssl.saved_read_handler;
            }
        }
        *read = Some(on_client_read as unsafe extern "C" fn(*mut ngx_event_t));
        *write = Some(on_client_write as unsafe extern "C" fn(*mut ngx_event_t));
    }
}

/// Ends the connection. The worker's state of it goes first, so that nothing calls back into it.
pub(super) fn close(id: ClientId) {
    let found = with(|worker| {
        let request = worker.clients().request(id);
        let (io, _) = worker.clients().get(id)?;
        let summary = request.and_then(|_| worker.summary(id));
        worker.client_gone(id);
        Some((io, request, summary))
    });
    let Some((io, request, summary)) = found.flatten() else {
        return;
    };
    let c = io.c();
    // SAFETY: the connection is live until one of the calls below frees it.
    unsafe {
        (*c).set_idle(0);
        ssl::end_quietly(c);
        match request {
            None => ngx_http_close_connection(c),
            Some(request) => {
                request.set_bytes_sent(summary.as_ref().map_or(0, |summary| summary.bytes_out));
                request.remember(summary);
                end_request(request);
                ngx_http_run_posted_requests(c);
            }
        }
    }
}

/// nginx ends the request of an attached client on its own account; its log phase comes next.
pub(super) fn request_gone(id: ClientId) {
    let summary = with(|worker| worker.summary(id)).flatten();
    if let Some(request) = with(|worker| worker.clients().request(id)).flatten() {
        request.remember(summary);
    }
    event::run_client(id, |worker| worker.client_gone(id));
}

/// Finalizes an attached client's request. With `eof` set nginx neither keeps the connection alive
/// nor lingers: we have lingered already.
unsafe fn end_request(request: Request) {
    let r: *mut ngx_http_request_s = request.as_bound();
    // SAFETY: the request is live; it is not used after it is finalized.
    unsafe {
        let c = (*r).connection;
        (*r).set_keepalive(0);
        (*r).set_lingering_close(0);
        (*(*c).read).set_eof(1);
        request.ignore_events();
        let handler = request::nginx_handler();
        (*(*c).read).handler = handler;
        (*(*c).write).handler = handler;
        ngx_http_finalize_request(request.as_ptr(), nginx_sys::NGX_DONE as isize);
    }
}

/// Makes the connection the client's alone: `c->data` becomes its seat.
fn adopt(c: *mut ngx_connection_t, id: ClientId) {
    let seat = with(|worker| worker.clients().set_detached(id)).flatten();
    // SAFETY: the connection is live. `destroyed` stays set, else nginx's
    // `ngx_http_run_posted_requests` would read `c->data` as a request.
    unsafe {
        (*c).data = seat.map_or(ptr::null_mut(), <*mut ()>::cast);
        (*c).set_destroyed(1);
    }
}
