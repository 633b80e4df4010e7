//! nginx's OpenSSL: clients and peers over TLS.

use std::ffi::{CString, c_long, c_void};
use std::ptr::NonNull;

use nginx_sys::{
    NGX_OK, SSL_CTRL_MODE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, SSL_MODE_ENABLE_PARTIAL_WRITE,
    SSL_ctrl, SSL_shutdown, ngx_connection_t, ngx_ssl_t,
};

/// Most that is offered to `SSL_write` at a time: one TLS record.
pub const RECORD: usize = 16 * 1024;

/// Allows OpenSSL to write in parts, and to be offered the same bytes again from another address.
/// nginx sets neither mode: an `SSL_write` of more would say "again" with most of it already on the
/// wire.
///
/// # Safety
/// `c` is a live connection.
pub(super) unsafe fn write_in_parts(c: *mut ngx_connection_t) {
    // SAFETY: the caller's; `SSL_set_mode` is a macro for this call.
    unsafe {
        if let Some(ssl) = (*c).ssl.as_ref() {
            let modes = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
            let none = std::ptr::null_mut::<c_void>();
            SSL_ctrl(ssl.connection, SSL_CTRL_MODE as i32, modes as c_long, none);
        }
    }
}

/// Sends the TLS close_notify, as far as the socket takes it.
///
/// # Safety
/// `c` is a live connection.
pub(super) unsafe fn say_goodbye(c: *mut ngx_connection_t) {
    // SAFETY: the caller's.
    unsafe {
        if let Some(ssl) = (*c).ssl.as_ref() {
            nginx_sys::ERR_clear_error();
            SSL_shutdown(ssl.connection);
            nginx_sys::ERR_clear_error();
        }
    }
}

/// Makes nginx free the TLS connection at once: no second close_notify, and no wait for the peer's,
/// which would keep the connection up to 3 s under nginx's handlers.
///
/// # Safety
/// `c` is a live connection.
pub(super) unsafe fn end_quietly(c: *mut ngx_connection_t) {
    // SAFETY: the caller's.
    unsafe {
        if let Some(ssl) = (*c).ssl.as_mut() {
            ssl.set_no_wait_shutdown(1);
            ssl.set_no_send_shutdown(1);
        }
    }
}

/// The TLS settings of a link: verifies the server's certificate against the system's authorities.
pub struct PeerTls {
    ssl: Box<ngx_ssl_t>,
    host: CString,
    verify: bool,
}

impl PeerTls {
    /// # Errors
    /// OpenSSL's error, already logged by nginx.
    pub fn new(host: &str, verify: bool) -> Result<PeerTls, String> {
        let host = CString::new(host).map_err(|_| "host name with a zero byte".to_owned())?;
        // SAFETY: nginx zeroes its own `ngx_ssl_t` too; the cycle's log lives as long as we do.
        let mut ssl: Box<ngx_ssl_t> = Box::new(unsafe { std::mem::zeroed() });
        let protocols = nginx_sys::NGX_SSL_TLSv1_2 | nginx_sys::NGX_SSL_TLSv1_3;
        // SAFETY: the structure is ours until it is dropped.
        unsafe {
            ssl.log = (*nginx_sys::ngx_cycle).log;
            let none = std::ptr::null_mut::<c_void>();
            let rc = nginx_sys::ngx_ssl_create(&raw mut *ssl, protocols as usize, none);
            if rc != NGX_OK as isize {
                return Err("ngx_ssl_create() failed".to_owned());
            }
            if verify {
                nginx_sys::SSL_CTX_set_default_verify_paths(ssl.ctx);
                nginx_sys::SSL_CTX_set_verify(ssl.ctx, nginx_sys::SSL_VERIFY_PEER as i32, None);
            }
        }
        Ok(PeerTls { ssl, host, verify })
    }

    /// Sets up TLS on `c`, with the name to send and to verify. False: it failed.
    pub(super) fn prepare(&self, c: NonNull<ngx_connection_t>) -> bool {
        const TLSEXT_NAMETYPE_HOST_NAME: c_long = 0;
        let flags = (nginx_sys::NGX_SSL_BUFFER | nginx_sys::NGX_SSL_CLIENT) as usize;
        let ssl = (&raw const *self.ssl).cast_mut();
        let host = self.host.as_ptr();
        // SAFETY: `c` is live and has a pool; OpenSSL copies the name.
        unsafe {
            if nginx_sys::ngx_ssl_create_connection(ssl, c.as_ptr(), flags) != NGX_OK as isize {
                return false;
            }
            write_in_parts(c.as_ptr());
            let connection = (*(*c.as_ptr()).ssl).connection;
            if self
                .host
                .to_str()
                .is_ok_and(|host| host.parse::<std::net::IpAddr>().is_ok())
            {
                return !self.verify
                    || nginx_sys::X509_VERIFY_PARAM_set1_ip_asc(
                        nginx_sys::SSL_get0_param(connection),
                        host,
                    ) == 1;
            }
            let command = nginx_sys::SSL_CTRL_SET_TLSEXT_HOSTNAME as i32;
            SSL_ctrl(
                connection,
                command,
                TLSEXT_NAMETYPE_HOST_NAME,
                host.cast_mut().cast(),
            );
            !self.verify
                || nginx_sys::X509_VERIFY_PARAM_set1_host(
                    nginx_sys::SSL_get0_param(connection),
                    host,
                    self.host.as_bytes().len(),
                ) == 1
        }
    }
}

impl Drop for PeerTls {
    fn drop(&mut self) {
        // SAFETY: made by `ngx_ssl_create`; connections hold references of their own.
        unsafe { nginx_sys::SSL_CTX_free(self.ssl.ctx) };
    }
}
