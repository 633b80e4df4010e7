//! The body of a request, in memory or in nginx's temporary file.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::ptr;

use hub::outside::HttpRequest;
use nginx_sys::{ngx_buf_t, ngx_str_t};

use super::handle::{Request, bytes};

/// See [`HttpRequest::lacks_its_body`].
pub(super) fn is_missing(request: Request) -> bool {
    // SAFETY: the body's state lives as long as the request.
    let Some(body) = (unsafe { request.r().request_body.as_ref() }) else {
        return request.has_body();
    };
    // Of a discarded body, nginx reads the empty rest. A subrequest may have been given a body that
    // was never read.
    let may_be_empty = request.r().headers_in.chunked() != 0;
    let is_here = body.last_saved() != 0 && (may_be_empty || length(request) > 0);
    request.is_main() && request.has_body() && !is_here
}

/// Number of bytes of the whole body.
pub(super) fn length(request: Request) -> usize {
    let mut length = 0;
    // SAFETY: after the body's arrival the chain is whole and lives as long as the request.
    unsafe {
        let body = request.r().request_body.as_ref();
        let mut link = body.map_or(ptr::null_mut(), |body| body.bufs);
        while let Some(chain) = link.as_ref() {
            length += buffer_length(&*chain.buf);
            link = chain.next;
        }
    }
    length
}

/// The whole body.
pub(super) fn read(request: Request) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(length(request));
    let r = request.r();
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

/// # Safety
/// The buffer is one of a request's body.
unsafe fn buffer_length(buffer: &ngx_buf_t) -> usize {
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
unsafe fn read_buffer(buffer: &ngx_buf_t, body: &mut Vec<u8>) -> io::Result<()> {
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
    let file = File::from(fd.try_clone_to_owned()?);
    file.read_exact_at(
        &mut body[start..],
        u64::try_from(buffer.file_pos).unwrap_or(0),
    )
}
