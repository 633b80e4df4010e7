//! The answer to a request: a 101, or plain HTTP.

use std::ptr;

use hub::answer::{Response, Switching};
use hub::outside::{HttpRequest, Sent};
use nginx_sys::{
    NGX_ERROR, NGX_HTTP_FLUSH, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_LAST,
    NGX_HTTP_SPECIAL_RESPONSE, NGX_OK, ngx_chain_t, ngx_http_discard_request_body,
    ngx_http_err_page_t, ngx_http_output_filter, ngx_http_send_header, ngx_http_send_special,
    ngx_int_t, ngx_list_push, ngx_table_elt_t,
};

use super::super::io::send_plain;
use super::super::pool;
use super::handle::{Request, static_str};

impl Request {
    /// Adds a response header. False: out of memory.
    fn add_header(self, name: &'static str, value: &[u8]) -> bool {
        let r = self.as_raw();
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

    /// Sends the 101, prepared as `ngx_http_upstream_upgrade` does; nginx's header filter adds
    /// `Connection: upgrade`. `Some`: finalize with this status instead.
    pub(in crate::nginx) fn send_switching_protocols(
        self,
        switching: &Switching,
    ) -> Option<ngx_int_t> {
        let r = self.as_raw();
        let mut headers = switching.headers();
        if !headers.all(|(name, value)| self.add_header(name, &value)) {
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

    /// Writes what the header filter has kept. On a plain socket this is one `send`, without body
    /// filters; otherwise nginx flushes it. False: the connection has failed.
    fn write_header(self) -> bool {
        let r = self.as_raw();
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
                if let Sent::Bytes(count) = send_plain((*(*r).connection).fd, header) {
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

    /// Sets nginx's `$bytes_sent`: its own count lacks writes that bypass `c->send`.
    pub(in crate::nginx) fn set_bytes_sent(self, frames: u64) {
        let r = self.r();
        // SAFETY: a live request has a live connection.
        unsafe { (*r.connection).sent = (r.header_size as u64 + frames) as libc::off_t };
    }

    /// Sends `response`. Returns the value for nginx's content phase or for [`Request::finalize`].
    pub(in crate::nginx) fn respond(self, response: &Response) -> ngx_int_t {
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
            // nginx does the same for its own answers: it discards the body only now, ends the
            // connection after a 400, and does not let "error_page … =200" hide an error.
            let rc = ngx_http_discard_request_body(self.as_ptr());
            if rc != NGX_OK as isize {
                return rc;
            }
            if response.status == 400 {
                (*self.as_raw()).set_keepalive(0);
            }
            if is_special {
                (*self.as_raw()).err_status = 0;
            }
        }
        self.send_body(response)
    }

    /// Whether the location has an `error_page` for this status.
    fn has_error_page(self, status: u16) -> bool {
        // SAFETY: the location's list of pages lives as long as its configuration.
        let pages = unsafe { self.core_conf().error_pages.as_ref() };
        pages.is_some_and(|pages| {
            // SAFETY: nginx's arrays have this many elements.
            let pages = unsafe { pages.as_slice::<ngx_http_err_page_t>() };
            pages.iter().any(|page| page.status == status as ngx_int_t)
        })
    }

    fn send_body(self, response: &Response) -> ngx_int_t {
        let r = self.as_raw();
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
            // As in `ngx_http_send_special`: the connection's last buffer is the main request's.
            buf.set_last_buf(self.is_main().into());
            buf.set_last_in_chain(1);
            (*link.as_ptr()).buf = buffer.as_ptr();
            ngx_http_output_filter(self.as_ptr(), link.as_ptr())
        }
    }
}
