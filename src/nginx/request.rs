//! An HTTP request: what its headers say, its complex values, its answer.

use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use hub::answer::{Response, Switching, Text};
use hub::outside::{EvaluationFailed, Level, Request as _, Sent};
use hub::session::Summary;
use hub::settings::Template;
use nginx_sys::{
    NGX_ERROR, NGX_HTTP_FLUSH, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_LAST,
    NGX_HTTP_SPECIAL_RESPONSE, NGX_OK, ngx_chain_t, ngx_connection_t, ngx_event_t,
    ngx_http_cleanup_add, ngx_http_cleanup_t, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_core_module, ngx_http_discard_request_body, ngx_http_err_page_t,
    ngx_http_finalize_request, ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header,
    ngx_http_send_special, ngx_http_test_reading, ngx_int_t, ngx_list_push, ngx_post_event,
    ngx_posted_events, ngx_str_t, ngx_table_elt_t,
};

use super::bindings::{ngx_http_core_loc_conf_s, ngx_http_request_s};
use super::client::{self, ClientId};
use super::event::{self, on_client_request_gone, on_parked_request_gone, with};
use super::{log, module, pool};

/// A live request. The handle is valid until nginx tells of the request's end; methods of a
/// [`Hub`](hub::Hub) keep it only for requests that they have parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request(NonNull<ngx_http_request_t>);

/// A part of a request that nginx compiled from a directive's argument, variables in it.
#[derive(Clone, Copy)]
pub struct ComplexValue(pub(super) NonNull<ngx_http_complex_value_t>);

impl ComplexValue {
    /// Its value for this request, valid as long as the request.
    ///
    /// # Errors
    /// [`EvaluationFailed`]; nginx has logged why.
    pub fn evaluate(self, request: Request) -> Result<Text, EvaluationFailed> {
        let mut value = ngx_str_t::empty();
        // SAFETY: the value lies in the configuration's pool, the request is live.
        let rc =
            unsafe { ngx_http_complex_value(request.as_ptr(), self.0.as_ptr(), &raw mut value) };
        if rc == NGX_OK as isize {
            Ok(Text::from_slice(value.as_bytes()))
        } else {
            Err(EvaluationFailed)
        }
    }

    /// The text of the argument, with its variables as written.
    pub fn text(self) -> &'static [u8] {
        // SAFETY: the value lies in the configuration's pool, which outlives all requests.
        unsafe { bytes(self.0.as_ref().value) }
    }

    /// True if the argument names variables: its value differs between requests.
    pub fn has_variables(self) -> bool {
        // SAFETY: the value lies in the configuration's pool.
        !unsafe { self.0.as_ref() }.lengths.is_null()
    }
}

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

    fn main_conf(&self) -> &'static crate::conf::Main {
        // SAFETY: made by `create_main_conf`, and kept as long as the cycle.
        unsafe { &*(*self.r().main_conf.add(module::context_index())).cast() }
    }

    pub(super) fn connection(self) -> NonNull<ngx_connection_t> {
        // SAFETY: a live request has a connection.
        unsafe { NonNull::new_unchecked(self.r().connection) }
    }

    /// nginx's `tcp_nodelay`.
    pub(super) fn is_nodelay_on(self) -> bool {
        // SAFETY: the array has a slot for each HTTP module.
        unsafe {
            let core = *self.r().loc_conf.add(ngx_http_core_module.ctx_index);
            (*core.cast::<ngx_http_core_loc_conf_s>()).tcp_nodelay != 0
        }
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
    pub fn summary(self) -> Option<Summary> {
        let context = self.context();
        if context.is_null() {
            return None;
        }
        // SAFETY: the context is the client's seat, or the record of one that has left; `client`
        // tells which.
        match unsafe { client::occupant(context) } {
            client::Occupant::Client(id) => with(|worker| worker.summary(id)).flatten(),
            client::Occupant::Record(summary) => Some(summary.clone()),
        }
    }

    /// Keeps a client's numbers for the log phase. The client leaves its request.
    pub(super) fn remember(self, summary: Option<Summary>) {
        self.unwatch_client();
        // SAFETY: the request is live.
        let pool = unsafe { (*self.as_bound()).pool };
        let record = summary.and_then(|summary| pool::keep(pool, client::Record::new(summary)));
        self.set_context(record.map_or(ptr::null_mut(), |record| record.as_ptr().cast()));
    }

    /// What the client sent after its handshake, already read by nginx.
    pub(super) fn take_early_bytes(self) -> Vec<u8> {
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

    pub(super) fn has_unsent_output(self) -> bool {
        // OpenSSL's buffer counts too: nginx's chain is empty once it is there.
        // SAFETY: a live request has a live connection.
        !self.r().out.is_null() || unsafe { (*self.r().connection).buffered() != 0 }
    }

    /// Adds a response header. False: out of memory.
    fn add_header(self, name: &'static str, value: &[u8]) -> bool {
        let r = self.as_bound();
        // SAFETY: the request is live.
        unsafe {
            let Some(value) = pool::copy((*r).pool, value) else {
                return false;
            };
            let line = ngx_list_push(&raw mut (*r).headers_out.headers).cast::<ngx_table_elt_t>();
            let Some(line) = line.as_mut() else {
                return false;
            };
            *line = std::mem::zeroed();
            line.hash = 1;
            line.key = static_str(name);
            line.value = value;
            true
        }
    }

    /// Sends the 101 as `ngx_http_upstream_upgrade` prepares for one; nginx's header filter adds
    /// `Connection: upgrade`. `Some`: finalize with this status instead.
    pub(super) fn send_switching_protocols(self, switching: &Switching) -> Option<ngx_int_t> {
        let r = self.as_bound();
        let extensions = switching.extensions.map(|agreed| agreed.to_string());
        let headers = [
            ("Upgrade", Some("websocket".as_bytes())),
            ("Sec-WebSocket-Accept", Some(switching.accept.as_slice())),
            (
                "Sec-WebSocket-Protocol",
                switching.subprotocol.map(str::as_bytes),
            ),
            (
                "Sec-WebSocket-Extensions",
                extensions.as_deref().map(str::as_bytes),
            ),
        ];
        let added = headers
            .into_iter()
            .all(|(name, value)| value.is_none_or(|value| self.add_header(name, value)));
        if !added {
            return Some(NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t);
        }
        // SAFETY: the request is live; the status line is static.
        let rc = unsafe {
            (*r).set_keepalive(0);
            (*r).headers_out.status = 101;
            (*r).headers_out.status_line = static_str("101 Switching Protocols");
            (*r).headers_out.content_length_n = -1;
            ngx_http_send_header(self.as_ptr())
        };
        let has_failed = rc == NGX_ERROR as isize || rc > NGX_OK as isize;
        (has_failed || !self.write_header()).then_some(NGX_ERROR as isize)
    }

    /// Writes out what the header filter has kept: a plain socket takes it by one `send`, and body
    /// filters have no part in it; else nginx flushes it. False: the connection has failed.
    fn write_header(self) -> bool {
        let r = self.as_bound();
        // SAFETY: the request is live; what waits in its `out` is a chain of buffers.
        unsafe {
            if let Some(link) = (*r).out.as_ref()
                && link.next.is_null()
                && (*(*r).connection).ssl.is_null()
                && let buffer = &mut *link.buf
                && buffer.temporary() != 0
            {
                let header = std::slice::from_raw_parts(
                    buffer.pos,
                    buffer.last.offset_from(buffer.pos) as usize,
                );
                if let Sent::Bytes(count) = client::send_plain((*(*r).connection).fd, header) {
                    (*(*r).connection).sent += count as libc::off_t;
                    buffer.pos = buffer.pos.add(count);
                    if count == header.len() {
                        (*r).out = ptr::null_mut();
                        return true;
                    }
                }
            }
            ngx_http_send_special(self.as_ptr(), NGX_HTTP_FLUSH as usize) != NGX_ERROR as isize
        }
    }

    /// The next read event, which is posted, is `handler`'s.
    pub(super) fn read_with(self, handler: unsafe extern "C" fn(*mut ngx_http_request_t)) {
        let r = self.as_bound();
        // SAFETY: the request is live.
        unsafe {
            (*r).read_event_handler = Some(handler);
            (*r).write_event_handler = Some(ignore_event);
            ngx_post_event((*(*r).connection).read, &raw mut ngx_posted_events);
        }
    }

    /// A request that ends is no longer told of its connection's events.
    pub(super) fn ignore_events(self) {
        let r = self.as_bound();
        // SAFETY: the request is live.
        unsafe {
            (*r).read_event_handler = Some(ignore_event);
            (*r).write_event_handler = Some(ignore_event);
        }
    }

    /// nginx's `$bytes_sent`: writes that bypass `c->send` are not in its own count.
    pub(super) fn set_bytes_sent(self, frames: u64) {
        let r = self.r();
        // SAFETY: a live request has a live connection.
        unsafe { (*r.connection).sent = (r.header_size as u64 + frames) as libc::off_t };
    }

    /// The 101 did not fit the socket: writes on, then reads.
    pub(super) fn flush_then_read(self) {
        let r = self.as_bound();
        // SAFETY: the request is live; nginx's write event stays set by its write filter.
        unsafe {
            (*r).read_event_handler = Some(ignore_event);
            (*r).write_event_handler = Some(on_flush);
            nginx_sys::ngx_handle_write_event((*(*r).connection).write, 0);
        }
    }

    /// Ends a request that was parked.
    pub(super) fn finalize(self, status: ngx_int_t) {
        // SAFETY: the request is live; the handle is not used afterwards.
        unsafe { ngx_http_finalize_request(self.as_ptr(), status) };
    }

    /// Tells the worker when nginx ends the request of client `id` on its own account.
    pub(super) fn watch_client(self, id: ClientId) {
        self.watch(on_client_request_gone, id.0 as usize);
    }

    /// nginx keeps the cleanups of a subrequest with its main request.
    fn watch(self, handler: Cleanup, data: usize) -> bool {
        // SAFETY: the request is live.
        unsafe {
            let cleanup = ngx_http_cleanup_add(self.as_ptr(), 0);
            let Some(cleanup) = cleanup.as_mut() else {
                return false;
            };
            cleanup.handler = Some(handler);
            cleanup.data = data as *mut std::ffi::c_void;
            true
        }
    }

    /// nginx need not tell of the end of its client's request any more.
    pub(super) fn unwatch_client(self) {
        self.unwatch(|handler, _| ptr::fn_addr_eq(handler, on_client_request_gone as Cleanup));
    }

    /// nginx need not tell of the end of this parked request any more. A main request has the
    /// cleanups of its subrequests, too, of which others may be parked.
    pub(super) fn unwatch_parked(self, parked: u64) {
        self.unwatch(|handler, data| {
            ptr::fn_addr_eq(handler, on_parked_request_gone as Cleanup) && data as u64 == parked
        });
    }

    fn unwatch(self, is_meant: impl Fn(Cleanup, usize) -> bool) {
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

    /// True for a cleanup that this module has set.
    pub(super) fn is_ours(cleanup: &ngx_http_cleanup_t) -> bool {
        let ours: [Cleanup; 2] = [on_client_request_gone, on_parked_request_gone];
        cleanup
            .handler
            .is_some_and(|handler| ours.iter().any(|&our| ptr::fn_addr_eq(our, handler)))
    }

    /// Keeps the request open until it is answered by an effect.
    pub(super) fn park(self, parked: u64) -> bool {
        let r = self.as_bound();
        // SAFETY: the request is live.
        unsafe {
            (*r).read_event_handler = Some(ngx_http_test_reading);
            (*r).write_event_handler = Some(ignore_event);
        }
        self.watch(on_parked_request_gone, parked as usize)
    }

    pub(super) fn hold(self) {
        let r = self.as_bound();
        // SAFETY: the request is live; a subrequest counts on its main request.
        unsafe {
            let main: *mut ngx_http_request_s = (*r).main.cast();
            (*main).set_count((*main).count() + 1);
        }
    }

    /// Sends `response`; the value is for nginx's content phase or for [`Request::finalize`].
    pub(super) fn respond(self, response: &Response) -> ngx_int_t {
        let headers = &response.headers;
        if !headers
            .iter()
            .all(|(name, value)| self.add_header(name, value.as_bytes()))
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
        }
        let is_special = response.status >= NGX_HTTP_SPECIAL_RESPONSE as u16;
        if is_special && (response.body.is_empty() || self.has_error_page(response.status)) {
            return response.status as ngx_int_t;
        }
        // SAFETY: the request is live.
        unsafe {
            // nginx does the same for an answer of its own: it discards the body only now, ends the
            // connection after a 400, and does not let "error_page … =200" hide an error.
            let rc = ngx_http_discard_request_body(self.as_ptr());
            if rc != NGX_OK as isize {
                return rc;
            }
            if response.status == 400 {
                (*self.as_bound()).set_keepalive(0);
            }
            if is_special {
                (*self.as_bound()).err_status = 0;
            }
        }
        self.send_body(response)
    }

    /// Whether `error_page` names this status in the location.
    fn has_error_page(self, status: u16) -> bool {
        // SAFETY: the location's configuration lives as long as the cycle, its list of pages with it.
        unsafe {
            let core = *self.r().loc_conf.add(ngx_http_core_module.ctx_index);
            let pages = (*core.cast::<ngx_http_core_loc_conf_s>()).error_pages;
            pages.as_ref().is_some_and(|pages| {
                let pages = pages.as_slice::<ngx_http_err_page_t>();
                pages.iter().any(|page| page.status == status as ngx_int_t)
            })
        }
    }

    fn send_body(self, response: &Response) -> ngx_int_t {
        let r = self.as_bound();
        let failed = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
        // SAFETY: the request is live; body and buffer lie in its pool.
        unsafe {
            (*r).headers_out.status = response.status as usize;
            (*r).headers_out.content_length_n = response.body.len() as libc::off_t;
            (*r).headers_out.content_type = static_str(response.content_type);
            (*r).headers_out.content_type_len = response.content_type.len();
            let rc = ngx_http_send_header(self.as_ptr());
            if rc == NGX_ERROR as isize || rc > NGX_OK as isize || (*r).header_only() != 0 {
                return rc;
            }
            if response.body.is_empty() {
                return ngx_http_send_special(self.as_ptr(), NGX_HTTP_LAST as usize);
            }
            let (Some(body), Some(buffer), Some(link)) = (
                pool::copy((*r).pool, &response.body),
                pool::zeroed::<nginx_sys::ngx_buf_t>((*r).pool),
                pool::zeroed::<ngx_chain_t>((*r).pool),
            ) else {
                return failed;
            };
            let buf = &mut *buffer.as_ptr();
            (buf.pos, buf.last) = (body.data, body.data.add(body.len));
            (buf.start, buf.end) = (buf.pos, buf.last);
            buf.set_memory(1);
            // As `ngx_http_send_special`: the connection's last buffer is the main request's.
            buf.set_last_buf(self.is_main().into());
            buf.set_last_in_chain(1);
            (*link.as_ptr()).buf = buffer.as_ptr();
            ngx_http_output_filter(self.as_ptr(), link.as_ptr())
        }
    }
}

impl hub::outside::Request for Request {
    fn is_get(&self) -> bool {
        self.r().method == nginx_sys::NGX_HTTP_GET as usize
    }

    fn is_head(&self) -> bool {
        self.r().method == nginx_sys::NGX_HTTP_HEAD as usize
    }

    fn is_post(&self) -> bool {
        self.r().method == nginx_sys::NGX_HTTP_POST as usize
    }

    fn is_main(&self) -> bool {
        self.r().main == self.as_ptr()
    }

    fn http_version(&self) -> (usize, usize) {
        (self.r().http_version / 1000, self.r().http_version % 1000)
    }

    fn has_body(&self) -> bool {
        let headers = &self.r().headers_in;
        // nginx counts the number down while it drops a body. A subrequest has a body of its own.
        // SAFETY: the header line lives as long as the request.
        let announced = unsafe { headers.content_length.as_ref() };
        let is_announced = announced.is_some_and(|line| {
            let length = line.value.as_bytes();
            length.iter().any(|digit| (b'1'..=b'9').contains(digit))
        });
        headers.content_length_n > 0 || headers.chunked() != 0 || (self.is_main() && is_announced)
    }

    fn is_tls(&self) -> bool {
        // SAFETY: a live request has a live connection.
        !unsafe { (*self.r().connection).ssl.is_null() }
    }

    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut part: *const nginx_sys::ngx_list_part_t =
            &raw const self.r().headers_in.headers.part;
        let mut index = 0;
        std::iter::from_fn(move || {
            // SAFETY: nginx's list of headers lives as long as the request.
            unsafe {
                while index >= (*part).nelts {
                    part = (*part).next;
                    index = 0;
                    if part.is_null() {
                        part = &raw const EMPTY.0;
                        return None;
                    }
                }
                let line = &*(*part).elts.cast::<ngx_table_elt_t>().add(index);
                index += 1;
                Some((bytes(line.key), bytes(line.value)))
            }
        })
    }

    fn authority(&self) -> Option<&[u8]> {
        let r = self.main_request();
        let start = NonNull::new(r.host_start)?.as_ptr();
        // SAFETY: `host_start` is within `request_line`, or with `host_end` in a header's value of
        // HTTP/2 or HTTP/3; all of them live as long as the request.
        unsafe {
            let end = match self.http_version() {
                (0 | 1, _) => r.request_line.data.add(r.request_line.len),
                _ => r.host_end,
            };
            let len = end.offset_from(start) as usize;
            let rest = bytes(ngx_str_t { len, data: start });
            rest.split(|byte| b"/? ".contains(byte)).next()
        }
    }

    fn error_status(&self) -> Option<u16> {
        u16::try_from(self.r().err_status)
            .ok()
            .filter(|&status| status > 0)
    }

    fn query(&self) -> &[u8] {
        // SAFETY: lies in the request's pool.
        unsafe { bytes(self.r().args) }
    }

    fn first_query(&self) -> &[u8] {
        // SAFETY: lies in the buffers or the pool of the request.
        let target = unsafe { bytes(self.r().unparsed_uri) };
        let mark = target.iter().position(|&byte| byte == b'?');
        mark.map_or(&[], |mark| &target[mark + 1..])
    }

    fn main(&self) -> &'static hub::settings::Main {
        &self.main_conf().settings
    }

    fn location(&self) -> &'static hub::settings::Location {
        // SAFETY: made by `create_loc_conf`, merged, and kept as long as the cycle; a worker's
        // clients end before its cycle does.
        let location: &'static crate::conf::Location =
            unsafe { &*(*self.r().loc_conf.add(module::context_index())).cast() };
        &location.settings
    }

    fn evaluate(&self, template: Template) -> Result<Text, EvaluationFailed> {
        self.main_conf().templates[template.number].evaluate(*self)
    }

    fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        // SAFETY: a live request has a live connection, which has a log.
        log::write(unsafe { (*self.r().connection).log }, level, text);
    }

    fn log_to_operator(&self, text: std::fmt::Arguments<'_>) {
        // SAFETY: as `log`.
        let of_connection = unsafe { (*self.r().connection).log };
        let levels = [Level::Warn, Level::Error];
        // SAFETY: as `log`.
        let shown = levels
            .into_iter()
            .find(|level| unsafe { log::is_shown(of_connection, *level) });
        if let Some(level) = shown {
            log::write(of_connection, level, text);
        }
    }

    fn lacks_its_body(&self) -> bool {
        // SAFETY: the body's state lives as long as the request.
        let Some(body) = (unsafe { self.r().request_body.as_ref() }) else {
            return self.has_body();
        };
        // Of a body that was discarded, nginx reads the empty rest. A subrequest may have been given
        // a body that was never read.
        let may_be_empty = self.r().headers_in.chunked() != 0;
        let is_here = body.last_saved() != 0 && (may_be_empty || self.body_length() > 0);
        self.is_main() && self.has_body() && !is_here
    }

    fn body_length(&self) -> usize {
        let mut length = 0;
        // SAFETY: after the body's arrival the chain is whole and lives as long as the request.
        unsafe {
            let body = self.r().request_body.as_ref();
            let mut link = body.map_or(ptr::null_mut(), |body| body.bufs);
            while let Some(chain) = link.as_ref() {
                length += buffer_length(&*chain.buf);
                link = chain.next;
            }
        }
        length
    }

    fn body(&self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(self.body_length());
        let r = self.r();
        // SAFETY: after the body's arrival the chain is whole and lives as long as the request.
        unsafe {
            let mut link = r
                .request_body
                .as_ref()
                .map_or(ptr::null_mut(), |body| body.bufs);
            while let Some(chain) = link.as_ref() {
                read_buffer(&*chain.buf, &mut body)?;
                link = chain.next;
            }
        }
        Ok(body)
    }

    fn is_post_action(&self) -> bool {
        self.r().post_action() != 0
    }
}

/// Undoes a park for a client that gets its seat.
pub fn unpark(request: Request, parked: u64) {
    request.unwatch_parked(parked);
}

type Cleanup = unsafe extern "C" fn(*mut std::ffi::c_void);

type EventHandler = unsafe extern "C" fn(*mut ngx_event_t);

static NGINX_HANDLER: OnceLock<EventHandler> = OnceLock::new();

/// nginx's `ngx_http_request_handler`, which is static there: seen when a client is taken over.
pub(super) fn nginx_handler() -> Option<EventHandler> {
    NGINX_HANDLER.get().copied()
}

/// Called while the connection's read handler is nginx's, or OpenSSL's in its place.
///
/// # Safety
/// `c` is a live connection whose request is being handled.
pub(super) unsafe fn remember_nginx_handler(c: *mut ngx_connection_t) {
    // SAFETY: the caller's.
    let handler = unsafe {
        let saved = (*c).ssl.as_ref().and_then(|ssl| ssl.saved_read_handler);
        saved.or((*(*c).read).handler)
    };
    if let Some(handler) = handler {
        NGINX_HANDLER.get_or_init(|| handler);
    }
}

unsafe extern "C" fn ignore_event(_request: *mut ngx_http_request_t) {}

/// Write handler while the 101 is not yet out.
unsafe extern "C" fn on_flush(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls write handlers with a live request.
    let request = unsafe { Request::from_raw(r) };
    // SAFETY: an empty chain makes the write filter go on with what it holds.
    let rc = unsafe { ngx_http_output_filter(r, ptr::null_mut()) };
    if rc == NGX_ERROR as isize {
        request.finalize(rc);
    } else if !request.has_unsent_output() {
        request.read_with(event::on_take_over);
    } else {
        // SAFETY: the request is live.
        unsafe { nginx_sys::ngx_handle_write_event((*request.r().connection).write, 0) };
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
unsafe fn bytes<'a>(text: ngx_str_t) -> &'a [u8] {
    if text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(text.data, text.len) }
}

/// An empty list part, where an iterator over headers rests after its end.
struct EmptyPart(nginx_sys::ngx_list_part_t);
// SAFETY: never written.
unsafe impl Sync for EmptyPart {}
static EMPTY: EmptyPart = EmptyPart(nginx_sys::ngx_list_part_t {
    elts: ptr::null_mut(),
    nelts: 0,
    next: ptr::null_mut(),
});

/// # Safety
/// The buffer is one of a request's body.
unsafe fn buffer_length(buffer: &nginx_sys::ngx_buf_t) -> usize {
    let length = match buffer.in_file() {
        // SAFETY: a buffer in memory holds what is between `pos` and `last`, both null in one that
        // only ends the chain.
        0 => unsafe { buffer.last.offset_from(buffer.pos) as i64 },
        _ => buffer.file_last - buffer.file_pos,
    };
    usize::try_from(length).unwrap_or(0)
}

/// # Safety
/// The buffer is one of a request's body.
unsafe fn read_buffer(buffer: &nginx_sys::ngx_buf_t, body: &mut Vec<u8>) -> std::io::Result<()> {
    use std::os::fd::BorrowedFd;
    use std::os::unix::fs::FileExt;
    // SAFETY: the caller's.
    let length = unsafe { buffer_length(buffer) };
    if buffer.in_file() == 0 {
        let text = ngx_str_t {
            len: length,
            data: buffer.pos,
        };
        // SAFETY: as above; copied before the chain goes.
        body.extend_from_slice(unsafe { bytes(text) });
        return Ok(());
    }
    let start = body.len();
    body.resize(start + length, 0);
    // SAFETY: nginx keeps the temporary file open as long as the request.
    let fd = unsafe { BorrowedFd::borrow_raw((*buffer.file).fd) };
    let file = std::fs::File::from(fd.try_clone_to_owned()?);
    file.read_exact_at(
        &mut body[start..],
        u64::try_from(buffer.file_pos).unwrap_or(0),
    )
}
