//! A request's life in nginx: what keeps it, who handles its events, and who learns of its end.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use nginx_sys::{
    NGX_ERROR, ngx_connection_t, ngx_event_t, ngx_handle_write_event, ngx_http_cleanup_add,
    ngx_http_finalize_request, ngx_http_output_filter, ngx_http_request_t, ngx_http_test_reading,
    ngx_int_t, ngx_post_event, ngx_posted_events, ngx_str_t,
};

use super::super::bindings::ngx_http_request_s;
use super::handle::{Request, bytes};

pub(in crate::nginx) type Cleanup = unsafe extern "C" fn(*mut c_void);

type RequestHandler = unsafe extern "C" fn(*mut ngx_http_request_t);

impl Request {
    /// What the client sent after its handshake and nginx has already read.
    pub(in crate::nginx) fn take_early_bytes(self) -> Vec<u8> {
        // SAFETY: `header_in` is the buffer that nginx parses from.
        unsafe {
            let Some(buffer) = self.r().header_in.as_mut() else {
                return Vec::new();
            };
            let len = buffer.last.offset_from(buffer.pos) as usize;
            let early = bytes(ngx_str_t {
                len,
                data: buffer.pos,
            })
            .to_vec();
            buffer.pos = buffer.last;
            early
        }
    }

    pub(in crate::nginx) fn has_unsent_output(self) -> bool {
        // OpenSSL's buffer counts, too: nginx's chain is empty once the data is there.
        // SAFETY: a live request has a live connection.
        !self.r().out.is_null() || unsafe { (*self.r().connection).buffered() != 0 }
    }

    /// Sets the handler of the next read event, and posts that event.
    pub(in crate::nginx) fn read_with(self, handler: RequestHandler) {
        let r = self.as_raw();
        // SAFETY: the request is live.
        unsafe {
            (*r).read_event_handler = Some(handler);
            (*r).write_event_handler = Some(ignore_event);
            ngx_post_event((*(*r).connection).read, &raw mut ngx_posted_events);
        }
    }

    /// Stops passing the connection's events to a request that ends.
    pub(in crate::nginx) fn ignore_events(self) {
        let r = self.as_raw();
        // SAFETY: the request is live.
        unsafe {
            (*r).read_event_handler = Some(ignore_event);
            (*r).write_event_handler = Some(ignore_event);
        }
    }

    /// The 101 did not fit the socket: sets the handler of the next write event, which must
    /// [flush](Request::flush).
    pub(in crate::nginx) fn flush_with(self, handler: RequestHandler) {
        let r = self.as_raw();
        // SAFETY: the request is live; nginx's write event stays set by its write filter.
        unsafe {
            (*r).read_event_handler = Some(ignore_event);
            (*r).write_event_handler = Some(handler);
            ngx_handle_write_event((*(*r).connection).write, 0);
        }
    }

    /// Writes what the socket takes. True if that was all; otherwise a write event comes when the
    /// socket takes more.
    ///
    /// # Errors
    /// The request must be finalized with this status.
    pub(in crate::nginx) fn flush(self) -> Result<bool, ngx_int_t> {
        // SAFETY: an empty chain makes the write filter go on with what it holds.
        let rc = unsafe { ngx_http_output_filter(self.as_ptr(), ptr::null_mut()) };
        if rc == NGX_ERROR as isize {
            return Err(rc);
        }
        let is_out = !self.has_unsent_output();
        if !is_out {
            // SAFETY: the request is live.
            unsafe { ngx_handle_write_event((*self.r().connection).write, 0) };
        }
        Ok(is_out)
    }

    /// Ends the request, unless nginx has another use for it.
    pub(in crate::nginx) fn finalize(self, status: ngx_int_t) {
        // SAFETY: the request is live; the handle is not used afterwards.
        unsafe { ngx_http_finalize_request(self.as_ptr(), status) };
    }

    /// Has `handler` called when nginx ends the request. False: out of memory.
    ///
    /// nginx keeps the cleanups of a subrequest with its main request.
    pub(in crate::nginx) fn on_cleanup(self, handler: Cleanup, data: usize) -> bool {
        // SAFETY: the request is live.
        unsafe {
            let cleanup = ngx_http_cleanup_add(self.as_ptr(), 0);
            let Some(cleanup) = cleanup.as_mut() else {
                return false;
            };
            cleanup.handler = Some(handler);
            cleanup.data = data as *mut c_void;
            true
        }
    }

    /// Removes the handlers for which `is_meant` is true.
    pub(in crate::nginx) fn unwatch(self, is_meant: impl Fn(Cleanup, usize) -> bool) {
        let mut cleanup = self.main_request().cleanup;
        // SAFETY: the list lives as long as the request.
        while let Some(entry) = unsafe { cleanup.as_mut() } {
            let data = entry.data as usize;
            if entry.handler.is_some_and(|handler| is_meant(handler, data)) {
                entry.handler = None;
            }
            cleanup = entry.next;
        }
    }

    /// Keeps the connection's events from the request while it waits. Only the client's disconnect
    /// is noticed.
    pub(in crate::nginx) fn wait(self) {
        let r = self.as_raw();
        // SAFETY: the request is live.
        unsafe {
            (*r).read_event_handler = Some(ngx_http_test_reading);
            (*r).write_event_handler = Some(ignore_event);
        }
    }

    /// Adds a reference, which keeps the request open.
    pub(in crate::nginx) fn add_ref(self) {
        self.count(1);
    }

    /// Releases a [reference](Request::add_ref). Others may remain.
    pub(in crate::nginx) fn release(self) {
        self.count(-1);
    }

    fn count(self, more: i32) {
        let r = self.as_raw();
        // SAFETY: the request is live; a subrequest counts on its main request.
        unsafe {
            let main: *mut ngx_http_request_s = (*r).main.cast();
            (*main).set_count((*main).count().wrapping_add_signed(more));
        }
    }
}

unsafe extern "C" fn ignore_event(_request: *mut ngx_http_request_t) {}

type EventHandler = unsafe extern "C" fn(*mut ngx_event_t);

static NGINX_HANDLER: OnceLock<EventHandler> = OnceLock::new();

/// nginx's `ngx_http_request_handler`, which is static there. It is remembered when a client is
/// taken over.
pub(in crate::nginx) fn nginx_handler() -> Option<EventHandler> {
    NGINX_HANDLER.get().copied()
}

/// Remembers nginx's handler. Called while the connection's read handler is nginx's, or is
/// OpenSSL's in its place.
///
/// # Safety
/// `c` is a live connection whose request is being handled.
pub(in crate::nginx) unsafe fn remember_nginx_handler(c: *mut ngx_connection_t) {
    // SAFETY: the caller's.
    let handler = unsafe {
        let saved = (*c).ssl.as_ref().and_then(|ssl| ssl.saved_read_handler);
        saved.or((*(*c).read).handler)
    };
    if let Some(handler) = handler {
        NGINX_HANDLER.get_or_init(|| handler);
    }
}
