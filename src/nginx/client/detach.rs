//! Frees the request of a client that needs it no longer, as `ngx_http_set_keepalive` does.

use std::ffi::{CStr, c_void};

use nginx_sys::{
    NGX_OK, ngx_connection_t, ngx_cycle, ngx_http_free_request, ngx_module_t, ngx_pfree,
    ngx_pool_cleanup_add, ngx_pool_cleanup_t, ngx_shm_zone_t, ngx_ssl_free_buffer, ngx_str_t,
};

use super::super::bindings::ngx_http_request_s;
use super::super::pool;
use super::super::request::Request;
use super::{ClientId, Detach, adopt};

/// True if `policy` and the other modules allow to free the request now.
pub(super) fn may(request: Request, policy: Detach) -> bool {
    let r: *mut ngx_http_request_s = request.as_bound();
    // SAFETY: the request is live.
    let idle = unsafe {
        (*r).count() == 1
            && (*r).blocked() == 0
            && (*r).out.is_null()
            && (*r).postponed.is_null()
            && (*(*r).connection).buffered() == 0
    };
    idle && match policy {
        Detach::Off => false,
        Detach::On => true,
        Detach::Auto => !is_needed(r),
    }
}

/// Another module waits for the request's end: a cleanup of its own on the request or its pool.
fn is_needed(r: *mut ngx_http_request_s) -> bool {
    // SAFETY: the request is live, and so are the lists of its cleanups.
    unsafe {
        let mut cleanup = (*r).cleanup;
        while let Some(entry) = cleanup.as_ref() {
            // auth_request leaves an entry without a handler.
            if entry.handler.is_some() && !Request::is_ours(entry) {
                return true;
            }
            cleanup = entry.next;
        }
        let mut cleanup = (*(*r).pool).cleanup;
        while let Some(entry) = cleanup.as_ref() {
            if entry.handler.is_some()
                && !is_realip(r, entry)
                && limit_conn_zone(r, entry).is_none()
            {
                return true;
            }
            cleanup = entry.next;
        }
    }
    false
}

/// Frees the request. Always true: the client is detached.
pub(super) fn detach(request: Request, id: ClientId) -> bool {
    let r: *mut ngx_http_request_s = request.as_bound();
    // SAFETY: `may` has seen that nobody else uses the request. What outlives it is copied first.
    unsafe {
        let c = (*r).connection;
        request.unwatch(); // its log may still ask for the client's numbers
        carry_limit_conn(r);
        let address = ((*c).sockaddr, (*c).socklen, (*c).addr_text);
        let address = if uses_realip(r) {
            copy_address(c, address)
        } else {
            None
        };
        let http = (*r).http_connection;
        (*r).set_keepalive(0);
        ngx_http_free_request(request.as_ptr(), 0);
        if let Some((sockaddr, socklen, addr_text)) = address {
            (*c).sockaddr = sockaddr;
            (*c).socklen = socklen;
            (*c).addr_text = addr_text;
        }
        adopt(c, id);
        free_buffers(c, http);
        if let Some(log) = (*c).log.as_mut() {
            log.action = c"serving websocket client".as_ptr().cast_mut();
        }
    }
    true
}

/// What an idle keep-alive connection does without: the header buffers and OpenSSL's.
unsafe fn free_buffers(c: *mut ngx_connection_t, http: *mut nginx_sys::ngx_http_connection_t) {
    // SAFETY: the request that used the buffers is gone; the pool is the connection's.
    unsafe {
        for list in [&raw mut (*http).free, &raw mut (*http).busy] {
            while let Some(link) = (*list).as_mut() {
                *list = link.next;
                ngx_pfree((*c).pool, (*link.buf).start.cast());
                link.next = (*(*c).pool).chain;
                (*(*c).pool).chain = link;
            }
        }
        (*http).nbusy = 0;
        if let Some(buffer) = (*c).buffer.as_mut()
            && ngx_pfree((*c).pool, buffer.start.cast()) == NGX_OK as isize
        {
            buffer.pos = std::ptr::null_mut();
        }
        if !(*c).ssl.is_null() {
            ngx_ssl_free_buffer(c);
        }
    }
}

type Address = (*mut nginx_sys::sockaddr, nginx_sys::socklen_t, ngx_str_t);

/// realip's address lies in the request's pool, and realip's cleanup restores the proxy's.
unsafe fn copy_address(c: *mut ngx_connection_t, (addr, len, text): Address) -> Option<Address> {
    // SAFETY: realip has set a valid address and text.
    unsafe {
        let bytes = std::slice::from_raw_parts(addr.cast::<u8>(), len as usize);
        let addr = pool::copy((*c).pool, bytes)?.data.cast();
        Some((addr, len, pool::copy((*c).pool, text.as_bytes())?))
    }
}

/// The context that realip has set, if it has rewritten the address.
unsafe fn realip_context(r: *const ngx_http_request_s) -> Option<*mut c_void> {
    // SAFETY: contexts are indexed by the modules' numbers.
    unsafe {
        let module = find_module(c"ngx_http_realip_module")?;
        let context = *(*r).ctx.add((*module).ctx_index);
        (!context.is_null()).then_some(context)
    }
}

unsafe fn uses_realip(r: *const ngx_http_request_s) -> bool {
    // SAFETY: the caller's request is live.
    unsafe {
        let mut cleanup = (*(*r).pool).cleanup;
        while let Some(entry) = cleanup.as_ref() {
            if is_realip(r, entry) {
                return true;
            }
            cleanup = entry.next;
        }
        false
    }
}

unsafe fn is_realip(r: *const ngx_http_request_s, cleanup: &ngx_pool_cleanup_t) -> bool {
    // SAFETY: the caller's request is live.
    unsafe { realip_context(r) == Some(cleanup.data) }
}

/// limit_conn's cleanup data begins with its zone: found by the zones' tag.
unsafe fn limit_conn_zone(
    r: *const ngx_http_request_s,
    cleanup: &ngx_pool_cleanup_t,
) -> Option<*mut c_void> {
    // SAFETY: a cleanup with data made by `ngx_pool_cleanup_add` has at least a word there; the
    // list of zones is the cycle's and does not change while it runs.
    unsafe {
        if (*r).limit_conn_status() == 0 {
            return None;
        }
        let module = find_module(c"ngx_http_limit_conn_module")?;
        let data = cleanup.data;
        if data.is_null() || !(data as usize).is_multiple_of(align_of::<usize>()) {
            return None;
        }
        let zone = *data.cast::<*mut c_void>();
        let mut part: *const nginx_sys::ngx_list_part_t =
            &raw const (*ngx_cycle).shared_memory.part;
        while let Some(zones) = part.as_ref() {
            for index in 0..zones.nelts {
                let known = zones.elts.cast::<ngx_shm_zone_t>().add(index);
                if known.cast::<c_void>() == zone && (*known).tag == module.cast() {
                    return Some(zone);
                }
            }
            part = zones.next;
        }
        None
    }
}

/// Moves limit_conn's cleanups to the connection: the client counts until it leaves.
unsafe fn carry_limit_conn(r: *mut ngx_http_request_s) {
    // SAFETY: the request is live. limit_conn's data is its zone and its node: two words.
    unsafe {
        let mut cleanup = (*(*r).pool).cleanup;
        while let Some(entry) = cleanup.as_mut() {
            if entry.handler.is_some() && limit_conn_zone(r, entry).is_some() {
                let words = [0usize; 2];
                let moved = ngx_pool_cleanup_add((*(*r).connection).pool, size_of_val(&words));
                if let Some(moved) = moved.as_mut() {
                    moved.handler = entry.handler.take();
                    moved
                        .data
                        .cast::<[usize; 2]>()
                        .write(entry.data.cast::<[usize; 2]>().read());
                }
            }
            cleanup = entry.next;
        }
    }
}

fn find_module(name: &CStr) -> Option<*mut ngx_module_t> {
    // SAFETY: the cycle's modules live as long as the process; each has a name.
    unsafe {
        (0..(*ngx_cycle).modules_n)
            .map(|index| *(*ngx_cycle).modules.add(index))
            .find(|module| CStr::from_ptr((**module).name) == name)
    }
}
