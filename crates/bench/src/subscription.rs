//! A subscription at Redis, used by the bare loops and to count what clients publish.
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use anyhow::Result;

use crate::{net, resp};

/// A non-blocking link subscribed to one channel.
pub struct Subscription {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The bytes read and not yet consumed.
    start: usize,
    end: usize,
}

impl Subscription {
    /// Connects and subscribes. The confirmation is the first push, which is skipped.
    ///
    /// # Errors
    /// Redis is not available.
    pub fn new(redis: SocketAddrV4, channel: &str) -> Result<Self> {
        let socket = net::connect(redis, 0)?;
        let mut command = Vec::new();
        resp::push_command(&mut command, &[b"SUBSCRIBE", channel.as_bytes()]);
        net::send_all(&socket, &command)?;
        Ok(Self {
            socket,
            buffer: vec![0; 64 * 1024],
            start: 0,
            end: 0,
        })
    }

    /// The socket. When it is readable, call [`Self::read`].
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reads the available input with `receive`, which must behave like [`net::receive`].
    ///
    /// # Errors
    /// Redis has closed the connection.
    pub fn read(
        &mut self,
        receive: impl FnOnce(&OwnedFd, &mut [u8]) -> io::Result<Option<usize>>,
    ) -> Result<()> {
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        match receive(&self.socket, &mut self.buffer[self.end..])? {
            Some(0) => anyhow::bail!("Redis has gone"),
            read => self.end += read.unwrap_or(0),
        }
        Ok(())
    }

    /// The next complete message of those read.
    pub fn next(&mut self) -> Option<&[u8]> {
        loop {
            let push = resp::next_push(&self.buffer[self.start..self.end])?;
            let base = self.start;
            self.start += push.end;
            if let Some(payload) = push.payload {
                return Some(&self.buffer[base + payload.start..base + payload.end]);
            }
        }
    }

    /// Call this before the next read. It frees space by moving an incomplete message to the
    /// beginning.
    pub fn forget(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}
