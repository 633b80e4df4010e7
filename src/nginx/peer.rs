//! An outgoing connection in nginx's event loop.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use hub::outside::{PeerId, Progress, Received, Sent};
use nginx_sys::{
    NGX_AGAIN, NGX_OK, ngx_close_connection, ngx_connection_t, ngx_create_pool, ngx_cycle,
    ngx_destroy_pool, ngx_event_connect_peer, ngx_event_get_peer, ngx_event_t,
    ngx_handle_read_event, ngx_handle_write_event, ngx_peer_connection_t, ngx_post_event,
    ngx_posted_next_events, ngx_str_t,
};

use super::event::{connection, run};
use super::host::Host;
use super::io;
use super::ssl::{self, PeerTls};

/// A socket address, resolved when the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A C `sockaddr`, in nginx's byte order on this machine.
    pub(super) sockaddr: Vec<u8>,
    /// For the log.
    pub name: String,
}

/// The stages of a peer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Handshaking,
    Open,
}

/// An outgoing connection, whose events go to `H`. Dropping it closes it.
pub struct Peer<H> {
    connection: NonNull<ngx_connection_t>,
    stage: Stage,
    /// The address, for the log.
    name: &'static str,
    host: PhantomData<fn(&mut H)>,
}

impl<H: Host> Peer<H> {
    /// Starts to connect. The connection's events carry `id`.
    ///
    /// # Errors
    /// The cause, for the log.
    pub fn connect(
        address: &'static Address,
        tls: Option<&PeerTls>,
        id: PeerId,
    ) -> Result<Peer<H>, String> {
        let name = ngx_str_t {
            len: address.name.len(),
            data: address.name.as_ptr().cast_mut(),
        };
        // SAFETY: all zeroes is how nginx begins one too; nginx reads the address only here.
        let mut request: ngx_peer_connection_t = unsafe { std::mem::zeroed() };
        request.sockaddr = address.sockaddr.as_ptr().cast_mut().cast();
        request.socklen = address.sockaddr.len() as nginx_sys::socklen_t;
        request.name = (&raw const name).cast_mut();
        request.get = Some(ngx_event_get_peer);
        // nginx would log each failed attempt; a link reports only the first one.
        // SAFETY: the cycle and its log live as long as the process.
        let mut quiet = unsafe { *(*ngx_cycle).log };
        quiet.log_level = nginx_sys::NGX_LOG_ALERT as usize;
        request.log = &raw mut quiet;
        // SAFETY: the request is filled in; `prepare` gives the connection a log that stays.
        let rc = unsafe { ngx_event_connect_peer(&raw mut request) };
        let error = std::io::Error::last_os_error();
        let connected = rc == NGX_OK as isize || rc == NGX_AGAIN as isize;
        let Some(connection) = NonNull::new(request.connection).filter(|_| connected) else {
            return Err(error.to_string());
        };
        let peer = Peer {
            connection,
            stage: Stage::Connecting,
            name: &address.name,
            host: PhantomData,
        };
        peer.prepare(tls, id)?;
        Ok(peer)
    }

    fn prepare(&self, tls: Option<&PeerTls>, id: PeerId) -> Result<(), String> {
        let c = self.connection.as_ptr();
        // SAFETY: the connection is new and ours.
        unsafe {
            (*c).data = ptr::without_provenance_mut(id.0 as usize);
            (*c).log = (*ngx_cycle).log;
            (*(*c).read).log = (*c).log;
            (*(*c).write).log = (*c).log;
            (*c).set_log_error(nginx_sys::ngx_connection_log_error_e_NGX_ERROR_INFO);
            set_handlers::<H>(c);
            (*c).pool = ngx_create_pool(512, (*c).log);
            if (*c).pool.is_null() {
                return Err("out of memory".to_owned());
            }
            if (*(*c).write).ready() != 0 {
                // Connected at once, so no event will report it.
                ngx_post_event((*c).write, &raw mut nginx_sys::ngx_posted_events);
            }
        }
        match tls {
            Some(tls) if !tls.prepare(self.connection) => Err("TLS setup failed".to_owned()),
            _ => Ok(()),
        }
    }

    fn failed(&self, cause: String) -> Progress {
        Progress::Failed(format!("{cause} while connecting to {}", self.name))
    }

    fn handshake(&mut self) -> Progress {
        let c = self.connection.as_ptr();
        // SAFETY: the connection is live. While the TLS handshake is under way, nginx's own
        // handlers are on it, which call `ssl->handler` at its end; that sets ours again.
        unsafe {
            if (*(*c).ssl).handshaked() == 0 {
                match nginx_sys::ngx_ssl_handshake(c) {
                    rc if rc == NGX_AGAIN as isize => {
                        (*(*c).ssl).handler = Some(on_handshake_end::<H>);
                        return Progress::Pending;
                    }
                    rc if rc == NGX_OK as isize => {}
                    _ => return self.failed(self.tls_error()),
                }
            }
            set_handlers::<H>(c);
        }
        self.stage = Stage::Open;
        Progress::Opened
    }

    fn tls_error(&self) -> String {
        // SAFETY: the connection is live and has its TLS part.
        unsafe {
            let code =
                nginx_sys::SSL_get_verify_result((*(*self.connection.as_ptr()).ssl).connection);
            if code == nginx_sys::X509_V_OK as std::ffi::c_long {
                return "TLS handshake failed".to_owned();
            }
            let text = nginx_sys::X509_verify_cert_error_string(code);
            format!(
                "certificate refused: {}",
                std::ffi::CStr::from_ptr(text).to_string_lossy()
            )
        }
    }

    /// The socket's pending error.
    fn socket_error(&self) -> Option<String> {
        let mut error: libc::c_int = 0;
        let mut length = size_of_val(&error) as libc::socklen_t;
        // SAFETY: writes one int.
        let rc = unsafe {
            libc::getsockopt(
                (*self.connection.as_ptr()).fd,
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut length,
            )
        };
        match (rc, error) {
            (0, 0) => None,
            (0, error) => Some(std::io::Error::from_raw_os_error(error).to_string()),
            _ => Some(std::io::Error::last_os_error().to_string()),
        }
    }
}

impl<H: Host> hub::outside::Peer for Peer<H> {
    fn advance(&mut self) -> Progress {
        let c = self.connection.as_ptr();
        if self.stage == Stage::Connecting {
            if let Some(cause) = self.socket_error() {
                return self.failed(cause);
            }
            // SAFETY: the connection is live.
            if unsafe { (*(*c).write).ready() } == 0 {
                return Progress::Pending;
            }
            // SAFETY: the connection is live.
            if unsafe { (*c).ssl.is_null() } {
                self.stage = Stage::Open;
                return Progress::Opened;
            }
            self.stage = Stage::Handshaking;
        }
        if self.stage == Stage::Handshaking {
            return self.handshake();
        }
        Progress::Open
    }

    fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    fn recv(&self, buf: &mut [u8]) -> Received {
        let received = io::receive(self.connection, buf);
        if !self.is_readable() {
            // SAFETY: the connection is live.
            unsafe { ngx_handle_read_event((*self.connection.as_ptr()).read, 0) };
        }
        received
    }

    fn is_readable(&self) -> bool {
        // SAFETY: the connection is live.
        unsafe { (*(*self.connection.as_ptr()).read).ready() != 0 }
    }

    fn send(&self, bytes: &[u8]) -> Sent {
        let sent = io::send(self.connection, bytes);
        if sent == Sent::Again {
            // SAFETY: the connection is live.
            unsafe { ngx_handle_write_event((*self.connection.as_ptr()).write, 0) };
        }
        sent
    }

    fn read_again(&self) {
        // SAFETY: the connection is live; closing it takes its events out of the queue.
        unsafe {
            ngx_post_event(
                (*self.connection.as_ptr()).read,
                &raw mut ngx_posted_next_events,
            );
        }
    }
}

/// # Safety
/// `c` is a live connection of a peer, whose data is its id.
unsafe fn set_handlers<H: Host>(c: *mut ngx_connection_t) {
    // SAFETY: the caller's.
    unsafe {
        (*(*c).read).handler = Some(on_read::<H>);
        (*(*c).write).handler = Some(on_write::<H>);
    }
}

unsafe extern "C" fn on_read<H: Host>(event: *mut ngx_event_t) {
    // SAFETY: this handler is set only on connections of peers, whose data is their id.
    unsafe {
        let c = connection(event);
        let id = PeerId((*c).data as usize as u32);
        if (*c).close() != 0 {
            run("link", |host: &mut H| host.peer_told_to_close(id));
        } else {
            run("link", |host: &mut H| host.peer_readable(id));
        }
    }
}

unsafe extern "C" fn on_write<H: Host>(event: *mut ngx_event_t) {
    // SAFETY: as `on_read`.
    unsafe {
        let id = PeerId((*connection(event)).data as usize as u32);
        run("link", |host: &mut H| host.peer_writable(id));
    }
}

/// nginx has ended the TLS handshake, with or without success: the write event tells the host.
unsafe extern "C" fn on_handshake_end<H: Host>(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls it with a live connection.
    unsafe {
        set_handlers::<H>(c);
        ngx_post_event((*c).write, &raw mut nginx_sys::ngx_posted_events);
    }
}

impl<H> Drop for Peer<H> {
    fn drop(&mut self) {
        let c = self.connection.as_ptr();
        // SAFETY: the connection is live and not used by anything else.
        unsafe {
            if !(*c).ssl.is_null() {
                ssl::end_quietly(c);
                nginx_sys::ngx_ssl_shutdown(c);
            }
            let pool = (*c).pool;
            ngx_close_connection(c);
            if !pool.is_null() {
                ngx_destroy_pool(pool);
            }
        }
    }
}
