//! TCP_NODELAY for a listener's connections. It is set once on the listener, and its connections
//! inherit it; nginx would set it on each by a system call of its own.

use std::os::fd::BorrowedFd;

use nginx_sys::{
    ngx_connection_t, ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_SET as NODELAY_SET,
    ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_UNSET as NODELAY_UNSET, ngx_listening_t,
};
use rustix::net::sockopt;

/// The listeners of a worker that have the option.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    listening: *mut ngx_listening_t,
    /// This many connections may have been in the listener's queue when the option was set, and
    /// lack it.
    before: usize,
}

impl Listeners {
    pub(super) const fn new() -> Listeners {
        Listeners(Vec::new())
    }

    /// Gives a client's connection TCP_NODELAY, as nginx does (`ngx_tcp_nodelay`) when it proxies
    /// an upgrade; nginx has marked unix sockets as not supporting it. Plain HTTP connections of
    /// the same listener get it, too; nginx would set it there from the second request on. With
    /// `tcp_nodelay off` (`is_on` is false) only the client gets it.
    ///
    /// # Safety
    /// `c` is a live connection that a listener of the running cycle has accepted.
    pub(super) unsafe fn set_nodelay(&mut self, c: *mut ngx_connection_t, is_on: bool) {
        // SAFETY: the caller's; the descriptor of a live connection is open.
        unsafe {
            if (*c).tcp_nodelay() != NODELAY_UNSET {
                return;
            }
            let socket = BorrowedFd::borrow_raw((*c).fd);
            if is_on && self.has_told((*c).listening)
                || sockopt::set_tcp_nodelay(socket, true).is_ok()
            {
                (*c).set_tcp_nodelay(NODELAY_SET);
            }
        }
    }

    /// Whether the listener already had the option when it accepted the connection. If the listener
    /// is new here, it gets the option. Its queue is first in, first out, so the connections from
    /// before are among the next.
    ///
    /// # Safety
    /// `listening` is null, or a listener of the running cycle.
    unsafe fn has_told(&mut self, listening: *mut ngx_listening_t) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.listening == listening) {
            let is_after = known.before == 0;
            known.before = known.before.saturating_sub(1);
            return is_after;
        }
        // SAFETY: the caller's. A listener's descriptor is open until the worker quits, and then
        // -1.
        unsafe {
            if let Some(found) = listening.as_ref()
                && found.fd >= 0
                && sockopt::set_tcp_nodelay(BorrowedFd::borrow_raw(found.fd), true).is_ok()
            {
                let before = found.backlog.max(0) as usize + 1;
                self.0.push(Listener { listening, before });
            }
        }
        false
    }
}
