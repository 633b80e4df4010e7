//! What the head of a request says.

use std::ptr::{self, NonNull};

use hub::outside::{HttpRequest, Level};
use nginx_sys::{ngx_list_part_t, ngx_str_t, ngx_table_elt_t};

use super::super::log;
use super::body;
use super::handle::{Request, bytes};

impl HttpRequest for Request {
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
        // nginx decrements the number while it discards a body. A subrequest has a body of its own.
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
        let mut part: *const ngx_list_part_t = &raw const self.r().headers_in.headers.part;
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
        body::is_missing(*self)
    }

    fn body_length(&self) -> usize {
        body::length(*self)
    }

    fn body(&self) -> std::io::Result<Vec<u8>> {
        body::read(*self)
    }

    fn is_post_action(&self) -> bool {
        self.r().post_action() != 0
    }
}

/// An empty list part, at which an iterator over headers stays after its end.
struct EmptyPart(ngx_list_part_t);
// SAFETY: never written.
unsafe impl Sync for EmptyPart {}
static EMPTY: EmptyPart = EmptyPart(ngx_list_part_t {
    elts: ptr::null_mut(),
    nelts: 0,
    next: ptr::null_mut(),
});
