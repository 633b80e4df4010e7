//! Reads and writes on a client's connection, and the direct write of a fan-out.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use hub::outside::{Io as _, Level, Received, Sent};
use nginx_sys::{
    NGX_AGAIN, NGX_OK, ngx_connection_error, ngx_connection_t, ngx_handle_read_event,
    ngx_handle_write_event, ngx_post_event, ngx_posted_next_events, ngx_use_epoll_rdhup,
};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::{log, ssl};

/// A client's connection. Valid while the client has its slot.
#[derive(Clone, Copy)]
pub struct Io {
    connection: NonNull<ngx_connection_t>,
    detached: bool,
}

impl Io {
    pub(super) fn new(connection: NonNull<ngx_connection_t>, detached: bool) -> Io {
        Io {
            connection,
            detached,
        }
    }

    pub(super) fn c(&self) -> *mut ngx_connection_t {
        self.connection.as_ptr()
    }

    fn news(&self) -> (bool, bool) {
        // SAFETY: the connection lives while the client has its slot; `poll` writes one structure.
        unsafe {
            let was_full = (*(*self.c()).write).ready() == 0;
            let mut asked = libc::pollfd {
                fd: (*self.c()).fd,
                events: libc::POLLIN | if was_full { libc::POLLOUT } else { 0 },
                revents: 0,
            };
            let is_told = libc::poll(&raw mut asked, 1, 0) == 1;
            let input = is_told && asked.revents & libc::POLLIN != 0;
            let room = is_told && asked.revents & libc::POLLOUT != 0;
            (input || self.is_readable(), room)
        }
    }

    fn set_tcp_option(&self, option: libc::c_int, value: libc::c_int) {
        self.set_option(libc::IPPROTO_TCP, option, value);
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
        // SAFETY: an int option; a unix socket refuses TCP's, which is fine.
        unsafe {
            libc::setsockopt(
                (*self.c()).fd,
                level,
                option,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            );
        }
    }
}

impl hub::outside::Io for Io {
    fn recv(&self, buf: &mut [u8]) -> Received {
        receive(self.connection, buf)
    }

    fn send(&self, bytes: &[u8]) -> Sent {
        match self.plain_fd() {
            Some(fd) => send_plain(fd, bytes),
            None => send(self.connection, bytes),
        }
    }

    fn plain_fd(&self) -> Option<i32> {
        // SAFETY: the connection lives while the client has its slot.
        unsafe { (*self.c()).ssl.is_null().then_some((*self.c()).fd) }
    }

    fn is_readable(&self) -> bool {
        // SAFETY: the connection lives while the client has its slot.
        unsafe { (*(*self.c()).read).ready() != 0 }
    }

    fn has_news(&self) -> bool {
        let (input, room) = self.news();
        input || room
    }

    fn has_room_again(&self) -> bool {
        self.news().1
    }

    fn unacknowledged(&self) -> u64 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: writes one int; the connection lives while the client has its slot.
        let rc = unsafe { libc::ioctl((*self.c()).fd, libc::TIOCOUTQ, &raw mut bytes) };
        if rc == 0 {
            bytes.unsigned_abs().into()
        } else {
            0
        }
    }

    fn read_again(&self) {
        // SAFETY: the connection lives while the client has its slot; closing it unposts.
        unsafe { ngx_post_event((*self.c()).read, &raw mut ngx_posted_next_events) };
    }

    fn write_again(&self) {
        // SAFETY: the connection lives while the client has its slot; closing it unposts.
        unsafe { ngx_post_event((*self.c()).write, &raw mut ngx_posted_next_events) };
    }

    fn want_read(&self) -> bool {
        // SAFETY: the connection lives while the client has its slot.
        unsafe { ngx_handle_read_event((*self.c()).read, 0) == NGX_OK as isize }
    }

    fn want_write(&self) -> bool {
        // SAFETY: the connection lives while the client has its slot. A direct `send(2)` does
        // not clear `ready`, as `c->send` does.
        unsafe {
            let write = (*self.c()).write;
            (*write).set_ready(0);
            ngx_handle_write_event(write, 0) == NGX_OK as isize
        }
    }

    fn shutdown(&self) {
        // SAFETY: the connection lives while the client has its slot.
        unsafe {
            ssl::say_goodbye(self.c());
            libc::shutdown((*self.c()).fd, libc::SHUT_WR);
        }
    }

    fn abandon(&self, patience_ms: libc::c_int) {
        self.set_tcp_option(libc::TCP_USER_TIMEOUT, patience_ms);
    }

    fn close_at_exit(&self) {
        // SAFETY: the connection lives while the client has its slot, and no more events come.
        unsafe { nginx_sys::ngx_close_connection(self.c()) };
    }

    fn discard(&self, buf: &mut [u8], max: usize) -> Received {
        let mut dropped = 0;
        while dropped < max {
            // SAFETY: the connection lives while the client has its slot, so its descriptor is
            // open.
            let socket = unsafe { BorrowedFd::borrow_raw((*self.c()).fd) };
            // TLS has ended; its records are dropped, too.
            match net::recv(socket, &mut *buf, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Received::Eof,
                Ok((count, _)) => dropped += count,
                Err(Errno::AGAIN | Errno::INTR) => {
                    // SAFETY: the connection lives while the client has its slot.
                    unsafe { (*(*self.c()).read).set_ready(0) };
                    return Received::Again;
                }
                Err(_) => return Received::Failed,
            }
        }
        Received::Bytes(dropped)
    }

    fn is_detached(&self) -> bool {
        self.detached
    }

    fn set_notsent_lowat(&self, bytes: usize) {
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        if value > 0 {
            self.set_tcp_option(libc::TCP_NOTSENT_LOWAT, value);
        }
    }

    fn bound_receive_buffer(&self, most: usize) {
        let mut size: libc::c_int = 0;
        let mut len = size_of_val(&size) as libc::socklen_t;
        // SAFETY: an int option; the descriptor is open while the client has its slot.
        let got = unsafe {
            libc::getsockopt(
                (*self.c()).fd,
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                (&raw mut size).cast(),
                &raw mut len,
            )
        };
        if got == 0 {
            let most = libc::c_int::try_from(most).unwrap_or(libc::c_int::MAX);
            // The kernel reports twice the value that was set.
            self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, most.min(size / 2));
        }
    }

    fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        // SAFETY: the connection lives while the client has its slot.
        log::write(unsafe { (*self.c()).log }, level, text);
    }
}

/// One `send(2)` of a run of frames to a plain socket: the hot path of a fan-out.
///
/// rustix makes the system call inline. With the kernel's mitigations, each return and indirect
/// jump after a system call is mispredicted: C's wrapper would cost a tenth of the time of a
/// delivery.
#[inline]
pub fn send_plain(fd: i32, bytes: &[u8]) -> Sent {
    // SAFETY: the descriptor of a client that has its slot is open.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    match net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(count) => Sent::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Sent::Again,
        Err(_) => Sent::Failed,
    }
}

/// Reads from clients and peers alike; over TLS with nginx's `c->recv`.
#[inline]
pub(super) fn receive(connection: NonNull<ngx_connection_t>, buf: &mut [u8]) -> Received {
    // SAFETY: the connection is live; nginx writes the variable when it starts.
    let is_plain = unsafe { (*connection.as_ptr()).ssl.is_null() && ngx_use_epoll_rdhup != 0 };
    if is_plain {
        receive_plain(connection, buf)
    } else {
        receive_by_nginx(connection, buf)
    }
}

/// `ngx_unix_recv` without its calls (see [`send_plain`]). A read that returns less than asked for
/// has drained the socket, unless epoll has reported the peer's FIN.
#[inline]
fn receive_plain(connection: NonNull<ngx_connection_t>, buf: &mut [u8]) -> Received {
    let c = connection.as_ptr();
    loop {
        // SAFETY: the connection is live, so its descriptor is open.
        let received = unsafe {
            let socket = BorrowedFd::borrow_raw((*c).fd);
            net::recv(socket, &mut *buf, RecvFlags::DONTWAIT)
        };
        // SAFETY: the connection is live, and its events with it.
        let event = unsafe { &mut *(*c).read };
        match received {
            Ok((0, _)) => {
                event.set_ready(0);
                event.set_eof(1);
                return Received::Eof;
            }
            Ok((count, _)) => {
                if count < buf.len() && event.pending_eof() == 0 {
                    event.set_ready(0);
                    event.available = 0;
                }
                return Received::Bytes(count);
            }
            Err(Errno::AGAIN) => {
                event.set_ready(0);
                return Received::Again;
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                event.set_ready(0);
                event.set_error(1);
                let text = c"recv() failed".as_ptr().cast_mut();
                // SAFETY: the connection is live and has a log.
                unsafe { ngx_connection_error(c, error.raw_os_error(), text) };
                return Received::Failed;
            }
        }
    }
}

fn receive_by_nginx(connection: NonNull<ngx_connection_t>, buf: &mut [u8]) -> Received {
    let c = connection.as_ptr();
    // SAFETY: the connection is live; `recv` writes at most that many bytes.
    let n = unsafe {
        let Some(recv) = (*c).recv else {
            return Received::Failed;
        };
        recv(c, buf.as_mut_ptr(), buf.len())
    };
    match n {
        0 => Received::Eof,
        n if n > 0 => Received::Bytes(n as usize),
        n if n == NGX_AGAIN as isize => Received::Again,
        _ => Received::Failed,
    }
}

/// Writes to clients and peers alike, with `c->send`.
pub(super) fn send(connection: NonNull<ngx_connection_t>, bytes: &[u8]) -> Sent {
    let c = connection.as_ptr();
    // SAFETY: the connection is live; `send` reads at most that many bytes.
    let n = unsafe {
        let most = if (*c).ssl.is_null() {
            bytes.len()
        } else {
            bytes.len().min(ssl::RECORD)
        };
        let Some(send) = (*c).send else {
            return Sent::Failed;
        };
        send(c, bytes.as_ptr().cast_mut(), most)
    };
    match n {
        n if n >= 0 => Sent::Bytes(n as usize),
        n if n == NGX_AGAIN as isize => Sent::Again,
        _ => Sent::Failed,
    }
}
