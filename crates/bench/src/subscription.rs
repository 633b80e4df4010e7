//! A subscriber of Redis: the bare loops', and that of what clients publish.
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use anyhow::Result;

use crate::{net, resp};

/// A link that hears one channel, without waiting.
pub struct Subscription {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// What has been read and not been taken yet.
    start: usize,
    end: usize,
}

impl Subscription {
    /// Connects and asks; the confirmation comes as the first push, which is skipped.
    ///
    /// # Errors
    /// Redis is away.
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

    /// Its messages are to be read, by [`Self::read`].
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reads what is there by `receive`, which is to be like [`net::receive`].
    ///
    /// # Errors
    /// Redis has gone.
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

    /// The next message of what has been read, once it is whole.
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

    /// To be called before the next read: makes room: what is left of a message goes to the begin.
    pub fn forget(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}
