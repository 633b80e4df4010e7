//! TCP_NODELAY for a listener's connections: set once on the listener, whose connections have it from
//! their beginning, where nginx would set it on each by a system call of its own.

use std::os::fd::BorrowedFd;

use nginx_sys::{
    ngx_connection_t, ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_SET as NODELAY_SET,
    ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_UNSET as NODELAY_UNSET, ngx_listening_t,
};
use rustix::net::sockopt;

/// What a worker has told the sockets that it listens on.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    listening: *mut ngx_listening_t,
    /// So many connections may have been in its queue when it was told, and not have the option.
    before: usize,
}

impl Listeners {
    pub(super) const fn new() -> Listeners {
        Listeners(Vec::new())
    }

    /// Gives a client's connection TCP_NODELAY, as nginx does (`ngx_tcp_nodelay`) with those that it
    /// proxies an upgrade for; it has marked unix sockets as without the option. Plain HTTP of the
    /// same listener has it too, as it has by nginx from its second request on; with
    /// `tcp_nodelay off` (`is_on` is false) only the client has it.
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

    /// Whether the listener had been told before it took the connection that is asked for. Its queue
    /// is first in, first out, so those from before are among the next.
    ///
    /// # Safety
    /// `listening` is null, or a listener of the running cycle.
    unsafe fn has_told(&mut self, listening: *mut ngx_listening_t) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.listening == listening) {
            let is_after = known.before == 0;
            known.before = known.before.saturating_sub(1);
            return is_after;
        }
        // SAFETY: the caller's. Until a worker quits its listeners are open, and then -1.
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
