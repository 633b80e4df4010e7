//! A client's connection, attached to its HTTP request or detached from it.
//!
//! *Attached*, nginx's request is kept: `c->data` is the request, and the slot is its context of
//! this module. *Detached*, the request is freed as nginx does for an idle keep-alive connection
//! (`ngx_http_set_keepalive`), and `c->data` is the slot. No code outside this file knows which.

use hub::answer::Switching;
use hub::outside::ClientId;
use nginx_sys::{
    ngx_connection_t, ngx_event_t, ngx_http_close_connection, ngx_http_finalize_request,
    ngx_http_request_t, ngx_http_run_posted_requests,
};

use super::bindings::ngx_http_request_s;
use super::client_slot::{ClientSlots, RequestContext, occupant};
use super::event::{connection, run_client, set_nodelay, with};
use super::host::Host;
use super::io::Io;
use super::request::{self, Request};
use super::ssl;

mod detach;

/// All clients of a worker.
pub struct Clients<H: Host> {
    slots: ClientSlots<H::Session>,
}

impl<H: Host> Clients<H> {
    /// The table of slots.
    pub fn slots(&mut self) -> &mut ClientSlots<H::Session> {
        &mut self.slots
    }
}

impl<H: Host> Default for Clients<H> {
    fn default() -> Self {
        let slots = ClientSlots::default();
        Clients { slots }
    }
}

impl<H: Host> hub::outside::Clients<H::Session> for Clients<H> {
    type Request = Request;
    type Io = Io;

    fn insert(&mut self, request: Request, state: H::Session) -> ClientId {
        let id = self.slots.insert(request, state);
        request.watch_client::<H>(id);
        id
    }

    #[inline]
    fn get(&mut self, id: ClientId) -> Option<(Io, &mut H::Session)> {
        self.slots.get(id)
    }

    fn remove(&mut self, id: ClientId) -> Option<H::Session> {
        self.slots.remove(id)
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.slots.ids()
    }
}

/// The client of a connection whose handlers are ours; `None` if it has left its request.
///
/// # Safety
/// `c` is a live connection, attached to a request or detached with a slot.
unsafe fn id_of<H: Host>(c: *mut ngx_connection_t) -> Option<ClientId> {
    // SAFETY: `destroyed` is set from the detach on; before it `c->data` is the request.
    unsafe {
        let context: *mut () = if (*c).destroyed() != 0 {
            (*c).data.cast()
        } else {
            Request::from_raw((*c).data.cast()).context()
        };
        client_in::<H>(context)
    }
}

/// # Safety
/// As [`occupant`], or null.
unsafe fn client_in<H: Host>(context: *mut ()) -> Option<ClientId> {
    if context.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    match unsafe { occupant::<H::Summary>(context) } {
        RequestContext::Client(id) => Some(id),
        RequestContext::FinalSummary(_) => None,
    }
}

/// Sends the 101 of a client whose handshake was parked.
pub(super) fn accept_parked<H: Host>(id: ClientId, switching: &Switching) {
    let Some(request) = with(|host: &mut H| host.slots().request(id)).flatten() else {
        return;
    };
    let connection = request.connection();
    if let Some(status) = accept::<H>(request, id, switching) {
        request.finalize(status);
    }
    // SAFETY: nginx marks a connection that ended meanwhile as destroyed; its struct stays.
    unsafe { ngx_http_run_posted_requests(connection.as_ptr()) };
}

/// Sends the 101. After its last byte, [`take_over`] owns the connection. `Some`: the request must
/// be finalized with this status instead.
pub(super) fn accept<H: Host>(
    request: Request,
    id: ClientId,
    switching: &Switching,
) -> Option<isize> {
    // SAFETY: the connection is live, and nginx's own handlers are on it.
    unsafe { request::remember_nginx_handler(request.connection().as_ptr()) };
    if let Some(status) = request.send_switching_protocols(switching) {
        request.remember::<H>(None);
        run_client(id, |host: &mut H| host.client_gone(id));
        return Some(status);
    }
    request.read_with(take_over::<H>);
    None
}

/// The posted read event after the 101: takes the connection over from the request.
unsafe extern "C" fn take_over<H: Host>(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls read handlers with a live request.
    let request = unsafe { Request::from_raw(r) };
    // SAFETY: the slot was set before the 101 was sent, and is there while the request is.
    let Some(id) = (unsafe { client_in::<H>(request.context()) }) else {
        return;
    };
    if request.has_unsent_output() {
        request.flush_with(on_flush::<H>);
        run_client(id, |host: &mut H| host.client_opens_slowly(id));
        return;
    }
    let connection = request.connection();
    let early = request.take_early_bytes();
    let is_nodelay_on = request.is_nodelay_on();
    detach_if_allowed::<H>(request, id);
    // SAFETY: the connection is live and the request is done with it, or kept for its log only.
    unsafe {
        ssl::write_in_parts(connection.as_ptr());
        set_nodelay::<H>(connection.as_ptr(), is_nodelay_on);
        set_handlers::<H>(connection.as_ptr());
        (*connection.as_ptr()).set_idle(1);
    }
    run_client(id, |host: &mut H| host.client_open(id, early));
}

/// The write handler until the 101 has been sent.
unsafe extern "C" fn on_flush<H: Host>(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls write handlers with a live request.
    let request = unsafe { Request::from_raw(r) };
    match request.flush() {
        Ok(true) => request.read_with(take_over::<H>),
        Ok(false) => {}
        Err(status) => request.finalize(status),
    }
}

/// Tries again to free a request that was still in use (by a mirror) when its client was taken
/// over.
pub(super) fn try_detach<H: Host>(id: ClientId) {
    let request = with(|host: &mut H| host.slots().request(id));
    if let Some(request) = request.flatten() {
        detach_if_allowed::<H>(request, id);
    }
}

fn detach_if_allowed<H: Host>(request: Request, id: ClientId) {
    let is_needed = || detach::is_needed::<H>(request);
    let may_detach = with(|host: &mut H| host.may_detach(id, is_needed));
    if may_detach == Some(true) && detach::is_idle(request) {
        detach::detach::<H>(request, id);
    }
}

/// Sets our handlers on the connection, attached or detached. nginx's own would answer `c->close`
/// by ending the connection without a Close frame. A read of OpenSSL may have put its own write
/// handler in place, and a write its own read handler; then ours replace the saved ones.
unsafe fn set_handlers<H: Host>(c: *mut ngx_connection_t) {
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
        *read = Some(on_read::<H> as unsafe extern "C" fn(*mut ngx_event_t));
        *write = Some(on_write::<H> as unsafe extern "C" fn(*mut ngx_event_t));
    }
}

/// Closes the connection. The host's state of it is removed first, so that nothing calls back into
/// it.
pub(super) fn close<H: Host>(id: ClientId) {
    let found = with(|host: &mut H| {
        let request = host.slots().request(id);
        let (io, _) = host.slots().get(id)?;
        let summary = request.and_then(|_| host.summary(id));
        host.client_gone(id);
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
                request.set_bytes_sent(summary.as_ref().map_or(0, H::bytes_sent));
                request.remember::<H>(summary);
                end_request(request);
                ngx_http_run_posted_requests(c);
            }
        }
    }
}

/// Finalizes an attached client's request. With `eof` set, nginx neither keeps the connection alive
/// nor lingers: we have lingered already.
unsafe fn end_request(request: Request) {
    let r: *mut ngx_http_request_s = request.as_raw();
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

/// Read handler of a client's connection, attached or detached.
unsafe extern "C" fn on_read<H: Host>(event: *mut ngx_event_t) {
    // SAFETY: this handler is set only on connections of clients that have a slot.
    unsafe {
        let c = connection(event);
        let Some(id) = id_of::<H>(c) else { return };
        if (*c).close() != 0 {
            let forced = (*c).error() != 0;
            (*c).set_close(0);
            run_client(id, |host: &mut H| host.client_told_to_close(id, forced));
            return;
        }
        run_client(id, |host: &mut H| host.client_readable(id));
    }
}

/// Write handler of a client's connection, attached or detached.
unsafe extern "C" fn on_write<H: Host>(event: *mut ngx_event_t) {
    // SAFETY: as `on_read`.
    unsafe {
        let Some(id) = id_of::<H>(connection(event)) else {
            return;
        };
        run_client(id, |host: &mut H| host.client_writable(id));
    }
}
