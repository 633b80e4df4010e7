//! An HTTP request: what its head says, its body, its answer, and its life with nginx.

mod answer;
mod body;
mod head;
mod life;

use std::ptr::{self, NonNull};

use nginx_sys::{ngx_connection_t, ngx_http_core_module, ngx_http_request_t, ngx_str_t};

use super::bindings::{ngx_http_core_loc_conf_s, ngx_http_request_s};
use super::client::{self, Occupant};
use super::event::with;
use super::host::Host;
use super::module::{self, LocationOf, MainOf, Module};
pub(super) use life::{nginx_handler, remember_nginx_handler};

/// A live request. The handle is valid until nginx tells of the request's end; a [`Host`] keeps it only
/// for requests that it has parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request(NonNull<ngx_http_request_t>);

impl Request {
    /// # Safety
    /// `r` is a live request.
    pub(super) unsafe fn from_raw(r: *mut ngx_http_request_t) -> Request {
        // SAFETY: the caller's.
        Request(unsafe { NonNull::new_unchecked(r) })
    }

    pub(super) fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    /// By our own bindings, whose bit-fields are right in every version.
    pub(super) fn as_bound(self) -> *mut ngx_http_request_s {
        self.0.as_ptr().cast()
    }

    fn r(&self) -> &ngx_http_request_s {
        // SAFETY: the handle is valid as long as the request lives.
        unsafe { &*self.as_bound() }
    }

    /// The request that the client sent: itself, or the one that a subrequest is part of.
    fn main_request(&self) -> &ngx_http_request_s {
        // SAFETY: a live request has a live main request, whose pool is its own.
        unsafe { &*self.r().main.cast() }
    }

    /// What the configuration says of the whole `http` block.
    pub fn main_conf<M: Module>(self) -> &'static MainOf<M> {
        // SAFETY: made by `create_main_conf`, and kept as long as the cycle. There is one `Module`.
        unsafe { &*(*self.r().main_conf.add(module::context_index())).cast() }
    }

    /// What the configuration says of the location that handles the request.
    pub fn location_conf<M: Module>(self) -> &'static LocationOf<M> {
        // SAFETY: made by `create_loc_conf`, merged, and kept as long as the cycle; a worker's
        // clients end before its cycle does. There is one `Module`.
        unsafe { &*(*self.r().loc_conf.add(module::context_index())).cast() }
    }

    fn core_conf(&self) -> &ngx_http_core_loc_conf_s {
        // SAFETY: the array has a slot for each HTTP module; the core module's is always there.
        unsafe { &*(*self.r().loc_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    pub(super) fn connection(self) -> NonNull<ngx_connection_t> {
        // SAFETY: a live request has a connection.
        unsafe { NonNull::new_unchecked(self.r().connection) }
    }

    /// nginx's `tcp_nodelay`.
    pub(super) fn is_nodelay_on(self) -> bool {
        self.core_conf().tcp_nodelay != 0
    }

    pub(super) fn context(self) -> *mut () {
        // SAFETY: the array has a slot for each HTTP module.
        unsafe { (*self.r().ctx.add(module::context_index())).cast() }
    }

    pub(super) fn set_context(self, context: *mut ()) {
        // SAFETY: as `context`.
        unsafe { *self.r().ctx.add(module::context_index()) = context.cast() };
    }

    /// The life in numbers of the request's client: while it lives, and in the log phase after.
    pub fn summary<H: Host>(self) -> Option<H::Summary> {
        let context = self.context();
        if context.is_null() {
            return None;
        }
        // SAFETY: the context is the client's seat, or the record of one that has left; `client`
        // tells which.
        match unsafe { client::occupant::<H::Summary>(context) } {
            Occupant::Client(id) => with(|host: &mut H| host.summary(id)).flatten(),
            Occupant::Record(summary) => Some(summary.clone()),
        }
    }

    /// Keeps a client's numbers for the log phase. The client leaves its request.
    pub(super) fn remember<H: Host>(self, summary: Option<H::Summary>) {
        self.unwatch_client::<H>();
        // SAFETY: the request is live.
        let pool = unsafe { (*self.as_bound()).pool };
        let record = summary.and_then(|summary| client::record(pool, summary));
        self.set_context(record.map_or(ptr::null_mut(), NonNull::as_ptr));
    }
}

fn static_str(text: &'static str) -> ngx_str_t {
    ngx_str_t {
        len: text.len(),
        data: text.as_ptr().cast_mut(),
    }
}

/// # Safety
/// The string's memory lives as long as `'a`.
pub(super) unsafe fn bytes<'a>(text: ngx_str_t) -> &'a [u8] {
    if text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(text.data, text.len) }
}
