//! Frees the request of a client that no longer needs it, as `ngx_http_set_keepalive` does.

use std::ffi::{CStr, c_void};
use std::{ptr, slice};

use hub::outside::ClientId;
use nginx_sys::{
    NGX_OK, ngx_connection_t, ngx_cycle, ngx_http_free_request, ngx_module_t, ngx_palloc,
    ngx_pfree, ngx_pool_cleanup_add, ngx_pool_cleanup_t, ngx_shm_zone_t, ngx_ssl_free_buffer,
    ngx_str_t,
};

use super::super::bindings::ngx_http_request_s;
use super::super::event::with;
use super::super::host::Host;
use super::super::pool::{self, PoolRemains, Unused};
use super::super::request::Request;

/// True if nothing is using the request now.
pub(super) fn is_idle(request: Request) -> bool {
    let r: *mut ngx_http_request_s = request.as_raw();
    // SAFETY: the request is live.
    unsafe {
        (*r).count() == 1
            && (*r).blocked() == 0
            && (*r).out.is_null()
            && (*r).postponed.is_null()
            && (*(*r).connection).buffered() == 0
    }
}

/// Whether another module waits for the request's end: it has a cleanup of its own on the request
/// or its pool.
pub(super) fn is_needed<H: Host>(request: Request) -> bool {
    let r: *mut ngx_http_request_s = request.as_raw();
    // SAFETY: the request is live, and so are the lists of its cleanups.
    unsafe {
        let mut cleanup = (*r).cleanup;
        while let Some(entry) = cleanup.as_ref() {
            // auth_request leaves an entry without a handler.
            if entry.handler.is_some() && !Request::is_ours::<H>(entry) {
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

/// Frees the request.
pub(super) fn detach<H: Host>(request: Request, id: ClientId) {
    let r: *mut ngx_http_request_s = request.as_raw();
    // SAFETY: `may` has checked that nothing else uses the request. What outlives it is copied
    // first.
    unsafe {
        let c = (*r).connection;
        request.unwatch_client::<H>(); // its log may still ask for the client's numbers
        let kept = Kept::of(r);
        let http = (*r).http_connection;
        (*r).set_keepalive(0);
        ngx_http_free_request(request.as_ptr(), 0);
        let mut unused = free_buffers(c, http);
        unused.extend(kept.unused());
        adopt::<H>(c, id, unused, !kept.is_nothing());
        kept.put(c);
        if let Some(log) = (*c).log.as_mut() {
            log.action = H::ACTION.as_ptr().cast_mut();
        }
    }
}

/// Makes the connection the client's alone: `c->data` becomes its slot. The request has left
/// `unused` parts of the connection's pool; `more` says that more will be allocated there.
fn adopt<H: Host>(c: *mut ngx_connection_t, id: ClientId, unused: PoolRemains, more: bool) {
    let slot = with(|host: &mut H| host.slots().set_detached(id, unused, more)).flatten();
    // SAFETY: the connection is live. `destroyed` stays set, else nginx's
    // `ngx_http_run_posted_requests` would read `c->data` as a request.
    unsafe {
        (*c).data = slot.map_or(ptr::null_mut(), <*mut ()>::cast);
        (*c).set_destroyed(1);
    }
}

/// Frees what an idle keep-alive connection does not need: the header buffers and OpenSSL's.
/// Returns the structs that described them, which nginx would keep for the next request.
unsafe fn free_buffers(
    c: *mut ngx_connection_t,
    http: *mut nginx_sys::ngx_http_connection_t,
) -> PoolRemains {
    let mut unused = PoolRemains::new();
    // SAFETY: the request that used the buffers is gone; the pool is the connection's. nginx
    // allocates a buffer again if the pointer to it is null, as it is at first.
    unsafe {
        for list in [&raw mut (*http).free, &raw mut (*http).busy] {
            while let Some(link) = (*list).as_mut() {
                *list = link.next;
                ngx_pfree((*c).pool, (*link.buf).start.cast());
                unused.extend([Unused::at(link.buf), Unused::at(link)]);
            }
        }
        (*http).nbusy = 0;
        if let Some(buffer) = (*c).buffer.as_mut()
            && ngx_pfree((*c).pool, buffer.start.cast()) == NGX_OK as isize
        {
            (*c).buffer = ptr::null_mut();
            unused.push(Unused::at(buffer));
        }
        if !(*c).ssl.is_null() {
            ngx_ssl_free_buffer(c);
            let buffer = (*(*c).ssl).buf;
            if !buffer.is_null() && (*buffer).start.is_null() {
                (*(*c).ssl).buf = ptr::null_mut();
                unused.push(Unused::at(buffer));
            }
        }
    }
    unused
}

/// State of other modules that a client keeps when its request is freed.
struct Kept {
    counted: Vec<Counted>,
    address: Option<Address>,
}

/// limit_conn's count of the connection: the function that takes it back, and its data, a zone and
/// a node.
type Counted = (unsafe extern "C" fn(*mut c_void), [usize; 2]);

/// The client address that realip has set.
struct Address {
    sockaddr: Vec<u8>,
    text: Vec<u8>,
    /// realip's own text, in the connection's pool.
    realip: ngx_str_t,
}

impl Kept {
    /// Takes the state out of a request that is about to be freed.
    unsafe fn of(r: *mut ngx_http_request_s) -> Kept {
        // SAFETY: the caller's request is live; realip has set a valid address and text.
        unsafe {
            let c = (*r).connection;
            let address = uses_realip(r).then(|| Address {
                sockaddr: slice::from_raw_parts((*c).sockaddr.cast(), (*c).socklen as usize)
                    .to_vec(),
                text: (*c).addr_text.as_bytes().to_vec(),
                realip: (*c).addr_text,
            });
            let counted = take_counted(r);
            Kept { counted, address }
        }
    }

    fn is_nothing(&self) -> bool {
        self.counted.is_empty() && self.address.is_none()
    }

    /// What becomes unused when the request is freed: realip's cleanup has restored the proxy's
    /// address by then.
    unsafe fn unused(&self) -> Option<Unused> {
        let ngx_str_t { data, len } = self.address.as_ref()?.realip;
        // SAFETY: realip has allocated its text from the connection's pool, and nothing points to
        // it.
        Some(unsafe { Unused::before(data.wrapping_add(len), len) })
    }

    /// Moves the state to the client's connection. If memory runs out, limit_conn no longer counts
    /// the client, and its address is the proxy's.
    unsafe fn put(self, c: *mut ngx_connection_t) {
        // SAFETY: the connection is live.
        unsafe {
            if let Some(address) = self.address {
                address.put(c);
            }
            for (handler, mut words) in self.counted {
                match ngx_pool_cleanup_add((*c).pool, size_of_val(&words)).as_mut() {
                    Some(cleanup) => {
                        cleanup.data.cast::<[usize; 2]>().write(words);
                        cleanup.handler = Some(handler);
                    }
                    None => handler((&raw mut words).cast()),
                }
            }
        }
    }
}

impl Address {
    /// See [`Kept::put`].
    unsafe fn put(&self, c: *mut ngx_connection_t) {
        let len = self.sockaddr.len();
        // SAFETY: the caller's connection is live; what `ngx_palloc` gives is aligned.
        unsafe {
            let sockaddr = ngx_palloc((*c).pool, len).cast::<u8>();
            if !sockaddr.is_null()
                && let Some(text) = pool::copy((*c).pool, &self.text)
            {
                sockaddr.copy_from_nonoverlapping(self.sockaddr.as_ptr(), len);
                (*c).sockaddr = sockaddr.cast();
                (*c).socklen = len as nginx_sys::socklen_t;
                (*c).addr_text = text;
            }
        }
    }
}

/// The context that realip set; `None` if it has not rewritten the address.
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

/// The zone of limit_conn's cleanup data, which begins with it. It is found by the zones' tag.
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

/// Takes limit_conn's cleanups from the request: the client counts until it leaves.
unsafe fn take_counted(r: *mut ngx_http_request_s) -> Vec<Counted> {
    let mut counted = Vec::new();
    // SAFETY: the request is live. limit_conn's data is its zone and its node: two words.
    unsafe {
        let mut cleanup = (*(*r).pool).cleanup;
        while let Some(entry) = cleanup.as_mut() {
            if limit_conn_zone(r, entry).is_some()
                && let Some(handler) = entry.handler.take()
            {
                counted.push((handler, entry.data.cast::<[usize; 2]>().read()));
            }
            cleanup = entry.next;
        }
    }
    counted
}

fn find_module(name: &CStr) -> Option<*mut ngx_module_t> {
    // SAFETY: the cycle's modules live as long as the process; each has a name.
    unsafe {
        (0..(*ngx_cycle).modules_n)
            .map(|index| *(*ngx_cycle).modules.add(index))
            .find(|module| CStr::from_ptr((**module).name) == name)
    }
}
