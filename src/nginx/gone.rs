//! Requests that nginx ends by itself: reports it to the host, and keeps what the log phase needs.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use hub::outside::ClientId;
use nginx_sys::ngx_http_cleanup_t;

use super::client_slot::{self, RequestContext};
use super::event::{run, run_client, with};
use super::host::Host;
use super::request::{Cleanup, Request};

impl Request {
    /// Tells the host if nginx ends the request of client `id` by itself.
    pub(super) fn watch_client<H: Host>(self, id: ClientId) {
        self.on_cleanup(on_client_gone::<H>, id.0 as usize);
    }

    /// The end of its client's request need not be reported any more.
    pub(super) fn unwatch_client<H: Host>(self) {
        let ours: Cleanup = on_client_gone::<H>;
        self.unwatch(|handler, _| ptr::fn_addr_eq(handler, ours));
    }

    /// Keeps the request open until an effect answers it, and tells the host if nginx ends it
    /// before.
    pub(super) fn park<H: Host>(self, parked: u64) -> bool {
        self.wait();
        self.on_cleanup(on_parked_gone::<H>, parked as usize)
    }

    /// The end of this parked request need not be reported any more. A main request also has the
    /// cleanups of its subrequests, of which others may be parked.
    pub fn unwatch_parked<H: Host>(self, parked: u64) {
        let ours: Cleanup = on_parked_gone::<H>;
        self.unwatch(|handler, data| ptr::fn_addr_eq(handler, ours) && data as u64 == parked);
    }

    /// True for a cleanup that this module has set.
    pub(super) fn is_ours<H: Host>(cleanup: &ngx_http_cleanup_t) -> bool {
        let ours: [Cleanup; 2] = [on_client_gone::<H>, on_parked_gone::<H>];
        cleanup
            .handler
            .is_some_and(|handler| ours.iter().any(|&our| ptr::fn_addr_eq(our, handler)))
    }

    /// The figures of the request's client, while it lives and in the log phase after it.
    pub fn summary<H: Host>(self) -> Option<H::Summary> {
        let context = self.context();
        if context.is_null() {
            return None;
        }
        // SAFETY: the context is the client's slot, or the record of one that has left; `slot`
        // tells which.
        match unsafe { client_slot::occupant::<H::Summary>(context) } {
            RequestContext::Client(id) => with(|host: &mut H| host.summary(id)).flatten(),
            RequestContext::FinalSummary(summary) => Some(summary.clone()),
        }
    }

    /// Keeps a client's figures for the log phase. The client leaves its request.
    pub(super) fn remember<H: Host>(self, summary: Option<H::Summary>) {
        self.unwatch_client::<H>();
        // SAFETY: the request is live.
        let pool = unsafe { (*self.as_raw()).pool };
        let record = summary.and_then(|summary| client_slot::record(pool, summary));
        self.set_context(record.map_or(ptr::null_mut(), NonNull::as_ptr));
    }
}

/// The cleanup of a request that a client is attached to: nginx ends the request by itself, and its
/// log phase comes next.
// Compared by address, so there must be only one instance.
#[inline(never)]
unsafe extern "C" fn on_client_gone<H: Host>(data: *mut c_void) {
    let id = ClientId(data as usize as u32);
    let summary = with(|host: &mut H| host.summary(id)).flatten();
    if let Some(request) = with(|host: &mut H| host.slots().request(id)).flatten() {
        request.remember::<H>(summary);
    }
    run_client(id, |host: &mut H| host.client_gone(id));
}

/// The cleanup of a parked request: nginx ends the request by itself.
// Compared by address, so there must be only one instance.
#[inline(never)]
unsafe extern "C" fn on_parked_gone<H: Host>(data: *mut c_void) {
    let parked = data as usize as u64;
    run("handshake", |host: &mut H| host.parked_gone(parked));
}
