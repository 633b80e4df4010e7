//! The bare loops that everything is compared with: epoll, one process, and nothing that the work
//! does not need. They trust the load: anything it never does ends them.
//!
//! A subscriber may request any path; `/echo` echoes. A message from Redis is framed once and sent
//! to each subscriber, with one `send(2)` per delivery, or per client and wake-up.
//!
//! A loop is written once and compiled for each way into the kernel ([`Calls`]).
mod calls;

pub use calls::{Calls, InPlace, Libc};

use std::io;
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};

use crate::frame::{self, Frame};
use crate::handshake;
use crate::net;
use crate::subscription::Subscription;

/// How a loop fans out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// One `send(2)` per delivery.
    PerDelivery,
    /// One `send(2)` per client and wake-up, with all messages that Redis had.
    PerWakeUp,
}

/// Serves until it is killed.
///
/// # Errors
/// Redis is not available, or the load did something it never does.
pub fn serve<C: Calls>(
    listen: SocketAddrV4,
    redis: SocketAddrV4,
    channel: &str,
    writes: Writes,
) -> Result<()> {
    let listening = net::listen(listen)?;
    let calls = C::new(512)?;
    calls.watch(&listening, LISTENER)?;
    let mut bare = Loop {
        calls,
        listener: TcpListener::from(listening),
        redis: Subscription::new(redis, channel)?,
        clients: Vec::new(),
        subscribers: Vec::new(),
        buffer: vec![0; 64 * 1024],
        out: Vec::new(),
        writes,
    };
    bare.calls.watch(bare.redis.socket(), REDIS)?;
    loop {
        for event in 0..bare.calls.wait()? {
            match bare.calls.token(event) {
                LISTENER => bare.accept()?,
                REDIS => bare.fan_out()?,
                client => bare.read(client as usize)?,
            }
        }
    }
}

const LISTENER: u64 = u64::MAX;
const REDIS: u64 = u64::MAX - 1;

struct Loop<C> {
    calls: C,
    listener: TcpListener,
    redis: Subscription,
    /// Indexed by descriptor, which is also the token.
    clients: Vec<Client>,
    /// Contiguous: a fan-out touches nothing else.
    subscribers: Vec<OwnedFd>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    writes: Writes,
}

enum Client {
    Gone,
    /// The client has not sent its request.
    Fresh(OwnedFd),
    /// The index among the subscribers.
    Subscriber(usize),
    /// With the incomplete frame received so far.
    Echo(OwnedFd, Vec<u8>),
}

impl<C: Calls> Loop<C> {
    fn accept(&mut self) -> Result<()> {
        let Some(socket) = C::accept(&self.listener)? else {
            return Ok(());
        };
        let number = socket.as_raw_fd() as usize;
        self.calls.watch(&socket, number as u64)?;
        if self.clients.len() <= number {
            self.clients.resize_with(number + 1, || Client::Gone);
        }
        self.clients[number] = Client::Fresh(socket);
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<()> {
        let socket = match &self.clients[number] {
            Client::Fresh(socket) | Client::Echo(socket, _) => socket,
            Client::Subscriber(place) => &self.subscribers[*place],
            // The client left in this same batch of events.
            Client::Gone => return Ok(()),
        };
        match C::receive(socket, &mut self.buffer) {
            Ok(None) => Ok(()),
            Ok(Some(0)) | Err(_) => {
                self.leave(number);
                Ok(())
            }
            Ok(Some(read)) => match &mut self.clients[number] {
                Client::Fresh(_) => self.upgrade(number, read),
                Client::Echo(socket, partial) => echo::<C>(socket, partial, &mut self.buffer, read),
                // A subscriber's Pongs are ignored.
                Client::Subscriber(_) | Client::Gone => Ok(()),
            },
        }
    }

    fn upgrade(&mut self, number: usize, read: usize) -> Result<()> {
        let request = &self.buffer[..read];
        ensure!(handshake::is_whole(request), "a request came in pieces");
        self.out.clear();
        handshake::answer(request, &mut self.out).context("a request without a key")?;
        let wants_echo = request.starts_with(b"GET /echo ");
        let Client::Fresh(socket) = std::mem::replace(&mut self.clients[number], Client::Gone)
        else {
            return Ok(());
        };
        send_whole::<C>(&socket, &self.out)?;
        self.clients[number] = if wants_echo {
            Client::Echo(socket, Vec::new())
        } else {
            self.subscribers.push(socket);
            Client::Subscriber(self.subscribers.len() - 1)
        };
        Ok(())
    }

    fn leave(&mut self, number: usize) {
        let left = std::mem::replace(&mut self.clients[number], Client::Gone);
        if let Client::Subscriber(place) = left {
            self.subscribers.swap_remove(place);
            if let Some(moved) = self.subscribers.get(place) {
                self.clients[moved.as_raw_fd() as usize] = Client::Subscriber(place);
            }
        }
    }

    fn fan_out(&mut self) -> Result<()> {
        self.redis.read(C::receive)?;
        self.out.clear();
        while let Some(payload) = self.redis.next() {
            frame::push_server(&mut self.out, payload);
            if self.writes == Writes::PerDelivery {
                send_to_all::<C>(&self.subscribers, &self.out)?;
                self.out.clear();
            }
        }
        if !self.out.is_empty() {
            send_to_all::<C>(&self.subscribers, &self.out)?;
        }
        self.redis.forget();
        Ok(())
    }
}

// A separate function, so that the optimizer treats its loop as hot. Inside the caller it did not,
// and left an extra call and return around each `send`.
#[inline(never)]
fn send_to_all<C: Calls>(subscribers: &[OwnedFd], bytes: &[u8]) -> Result<()> {
    for socket in subscribers {
        send_whole::<C>(socket, bytes)?;
    }
    Ok(())
}

fn send_whole<C: Calls>(socket: &OwnedFd, bytes: &[u8]) -> Result<()> {
    match C::send(socket, bytes) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => anyhow::bail!("a client reads too slowly for a bare loop"),
        // The next read handles the disconnect.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Echoes each whole frame of `partial` and the `read` bytes of `buffer`.
fn echo<C: Calls>(
    socket: &OwnedFd,
    partial: &mut Vec<u8>,
    buffer: &mut [u8],
    read: usize,
) -> Result<()> {
    if partial.is_empty() {
        let used = echo_frames::<C>(socket, &mut buffer[..read])?;
        partial.extend_from_slice(&buffer[used..read]);
    } else {
        partial.extend_from_slice(&buffer[..read]);
        let used = echo_frames::<C>(socket, partial)?;
        partial.drain(..used);
    }
    Ok(())
}

fn echo_frames<C: Calls>(socket: &OwnedFd, bytes: &mut [u8]) -> Result<usize> {
    let mut at = 0;
    while let Some(frame) = Frame::parse(&bytes[at..]) {
        let (start, end) = (at + frame.at, at + frame.end());
        frame::unmask(
            &mut bytes[start..end],
            frame.mask.context("a client must mask")?,
        );
        let head = frame::write_head_before(bytes, start, frame.len);
        send_whole::<C>(socket, &bytes[head..end])?;
        at = end;
    }
    Ok(at)
}
