//! Loopback TCP and epoll with plain system calls, shared by the loops and the load.
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::{Timespec, epoll::EventFlags};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A port that is free now.
///
/// # Errors
/// No port is free.
pub fn free_address() -> io::Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(SocketAddrV4::new(
        Ipv4Addr::LOCALHOST,
        listener.local_addr()?.port(),
    ))
}

/// A listening socket, non-blocking.
///
/// # Errors
/// The system's error.
pub fn listen(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

/// A blocking connection of the `nth` client. Each source address serves 1,000 clients: one address
/// would not have enough ports for all.
///
/// # Errors
/// The system's error.
pub fn connect(to: SocketAddrV4, nth: usize) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (nth / 1000 % 250) as u8);
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_timeout(
        &socket,
        sockopt::Timeout::Recv,
        Some(Duration::from_secs(10)),
    )?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}

/// Reads without waiting. `Ok(None)` if there is nothing.
///
/// # Errors
/// The system's error.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((read, _)) => Ok(Some(read)),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends without waiting and without SIGPIPE. Returns how many bytes were taken.
///
/// # Errors
/// The system's error, including `WouldBlock`.
#[inline]
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(
        socket,
        bytes,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )?)
}

/// Sends everything, and waits if the peer is slow.
///
/// # Errors
/// The system's error.
pub fn send_all(socket: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// An epoll instance and the events of its last wait.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    /// Waits return at most `batch` events.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(batch: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(batch),
        })
    }

    /// Watches for input (level-triggered).
    ///
    /// # Errors
    /// The system's error.
    pub fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(token),
            EventFlags::IN,
        )?)
    }

    /// Waits, forever without a timeout. Returns the number of events.
    ///
    /// # Errors
    /// The system's error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        });
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits without sleeping, so that no sender pays for waking this process. Yields to others on
    /// its core. Returns the number of events.
    ///
    /// # Errors
    /// The system's error.
    pub fn spin(&mut self, timeout: Duration) -> io::Result<usize> {
        let begin = Instant::now();
        loop {
            let events = self.wait(Some(Duration::ZERO))?;
            if events > 0 || begin.elapsed() >= timeout {
                return Ok(events);
            }
            rustix::thread::sched_yield();
        }
    }

    /// The token of an event of the last wait.
    pub fn token(&self, event: usize) -> u64 {
        self.events[event].data.u64()
    }
}
