//! The handle of a request, and what the other files about requests use.

use std::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_http_core_module, ngx_http_request_t, ngx_str_t};

use super::super::bindings::{ngx_http_core_loc_conf_s, ngx_http_request_s};
use super::super::index::context_index;

/// A live request. The handle is valid until nginx reports the request's end; a host keeps it only
/// for requests that it has parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request(NonNull<ngx_http_request_t>);

impl Request {
    /// # Safety
    /// `r` is a live request.
    pub(in crate::nginx) unsafe fn from_raw(r: *mut ngx_http_request_t) -> Request {
        // SAFETY: the caller's.
        Request(unsafe { NonNull::new_unchecked(r) })
    }

    pub(in crate::nginx) fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    /// The request as our own bindings define it, whose bit-fields are right in every version.
    pub(in crate::nginx) fn as_raw(self) -> *mut ngx_http_request_s {
        self.0.as_ptr().cast()
    }

    pub(in crate::nginx) fn r(&self) -> &ngx_http_request_s {
        // SAFETY: the handle is valid as long as the request lives.
        unsafe { &*self.as_raw() }
    }

    /// The request that the client sent: this one, or the one that this subrequest is part of.
    pub(super) fn main_request(&self) -> &ngx_http_request_s {
        // SAFETY: a live request has a live main request, whose pool is its own.
        unsafe { &*self.r().main.cast() }
    }

    pub(super) fn core_conf(&self) -> &ngx_http_core_loc_conf_s {
        // SAFETY: the array has a slot for each HTTP module; the core module's is always there.
        unsafe { &*(*self.r().loc_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    pub(in crate::nginx) fn connection(self) -> NonNull<ngx_connection_t> {
        // SAFETY: a live request has a connection.
        unsafe { NonNull::new_unchecked(self.r().connection) }
    }

    /// nginx's `tcp_nodelay`.
    pub(in crate::nginx) fn is_nodelay_on(self) -> bool {
        self.core_conf().tcp_nodelay != 0
    }

    pub(in crate::nginx) fn context(self) -> *mut () {
        // SAFETY: the array has a slot for each HTTP module.
        unsafe { (*self.r().ctx.add(context_index())).cast() }
    }

    pub(in crate::nginx) fn set_context(self, context: *mut ()) {
        // SAFETY: as `context`.
        unsafe { *self.r().ctx.add(context_index()) = context.cast() };
    }
}

pub(super) fn static_str(text: &'static str) -> ngx_str_t {
    ngx_str_t {
        len: text.len(),
        data: text.as_ptr().cast_mut(),
    }
}

/// # Safety
/// The string's memory lives as long as `'a`.
pub(in crate::nginx) unsafe fn bytes<'a>(text: ngx_str_t) -> &'a [u8] {
    if text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(text.data, text.len) }
}
