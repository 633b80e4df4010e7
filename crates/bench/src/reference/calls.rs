//! The two ways into the kernel that a bare loop is compiled for.
//!
//! [`Libc`] calls the C library's functions, as nearly every program does. [`InPlace`] inlines the
//! system call's instruction: no function to call, no second return, no check for cancellation, no
//! `errno`.
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{self, MsgFlags, setsockopt, sockopt};
use rustix::net::SocketFlags;

use crate::net::{self, Poll};

/// A loop's system calls while it serves, and its epoll instance. Dropping a descriptor closes it;
/// the standard library does that through libc.
///
/// The errors are the system's.
pub trait Calls: Sized {
    /// Waits return at most `batch` events.
    fn new(batch: usize) -> io::Result<Self>;

    /// Watches for input (level-triggered).
    fn watch(&self, socket: &OwnedFd, token: u64) -> io::Result<()>;

    /// Waits without a timeout. Returns the number of events.
    fn wait(&mut self) -> io::Result<usize>;

    /// The token of an event of the last wait.
    fn token(&self, event: usize) -> u64;

    /// Accepts a connection of a non-blocking listener, with TCP_NODELAY. `Ok(None)` if there is
    /// none. The socket is blocking, but [`Self::receive`] and [`Self::send`] do not wait.
    fn accept(listener: &TcpListener) -> io::Result<Option<OwnedFd>>;

    /// Reads without waiting. `Ok(None)` if there is nothing.
    fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Sends without waiting and without SIGPIPE. Returns how many bytes were taken.
    fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize>;
}

/// Through the C library: `accept4`, `setsockopt`, `epoll_ctl`, `epoll_wait`, `recv`, `send`.
pub struct Libc {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Calls for Libc {
    fn new(batch: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); batch],
        })
    }

    fn watch(&self, socket: &OwnedFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        Ok(self.epoll.add(socket, event)?)
    }

    fn wait(&mut self) -> io::Result<usize> {
        match self.epoll.wait(&mut self.events, EpollTimeout::NONE) {
            Ok(events) => Ok(events),
            Err(Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn token(&self, event: usize) -> u64 {
        self.events[event].data()
    }

    fn accept(listener: &TcpListener) -> io::Result<Option<OwnedFd>> {
        // nix's `accept4` returns a number, which safe code cannot turn into a descriptor.
        let socket = match listener.accept() {
            Ok((stream, _)) => OwnedFd::from(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        Ok(Some(socket))
    }

    fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match socket::recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(read) => Ok(Some(read)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        Ok(socket::send(socket.as_raw_fd(), bytes, flags)?)
    }
}

/// The same calls, inlined.
pub struct InPlace(Poll);

impl Calls for InPlace {
    fn new(batch: usize) -> io::Result<Self> {
        Ok(Self(Poll::new(batch)?))
    }

    fn watch(&self, socket: &OwnedFd, token: u64) -> io::Result<()> {
        self.0.watch(socket, token)
    }

    fn wait(&mut self) -> io::Result<usize> {
        self.0.wait(None)
    }

    fn token(&self, event: usize) -> u64 {
        self.0.token(event)
    }

    fn accept(listener: &TcpListener) -> io::Result<Option<OwnedFd>> {
        // The address is unused, but the standard library asks for it, too.
        let socket = match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC) {
            Ok((socket, _)) => socket,
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        Ok(Some(socket))
    }

    fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        net::receive(socket, buffer)
    }

    #[inline]
    fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        net::send(socket, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_libc_a_client_is_accepted_heard_and_sent_to() {
        serves_a_client::<Libc>();
    }

    #[test]
    fn in_place_a_client_is_accepted_heard_and_sent_to() {
        serves_a_client::<InPlace>();
    }

    #[track_caller]
    fn serves_a_client<C: Calls>() {
        let address = net::free_address().unwrap();
        let listening = net::listen(address).unwrap();
        let mut calls = C::new(8).unwrap();
        calls.watch(&listening, 1).unwrap();
        let listener = TcpListener::from(listening);
        assert!(C::accept(&listener).unwrap().is_none());

        let client = net::connect(address, 0).unwrap();
        assert_eq!(tokens(&mut calls), [1]);
        let socket = C::accept(&listener).unwrap().unwrap();
        assert!(rustix::net::sockopt::tcp_nodelay(&socket).unwrap());
        calls.watch(&socket, u64::MAX).unwrap();

        let mut buffer = [0; 64];
        assert_eq!(C::receive(&socket, &mut buffer).unwrap(), None);
        net::send_all(&client, b"hello").unwrap();
        assert_eq!(tokens(&mut calls), [u64::MAX]);
        assert_eq!(C::receive(&socket, &mut buffer).unwrap(), Some(5));
        assert_eq!(&buffer[..5], b"hello");

        let large = vec![0; 64 * 1024];
        let full = loop {
            if let Err(error) = C::send(&socket, &large) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);

        drop(client);
        assert_eq!(tokens(&mut calls), [u64::MAX]);
        // The client left unread input behind, which causes a reset.
        assert!(C::receive(&socket, &mut buffer).is_err());
    }

    /// The tokens of the events of one wait.
    fn tokens<C: Calls>(calls: &mut C) -> Vec<u64> {
        let events = calls.wait().unwrap();
        (0..events).map(|event| calls.token(event)).collect()
    }
}
