//! The publisher. It pipelines and asks for no more answers than necessary.
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use anyhow::{Result, ensure};

use crate::net;
use crate::resp;

/// How a server gets messages.
#[derive(Clone, Debug)]
pub enum Via {
    /// `PUBLISH` to a channel.
    Redis {
        address: SocketAddrV4,
        channel: String,
    },
    /// `POST` to a path.
    Http { address: SocketAddrV4, path: String },
}

/// A connection that publishes.
pub struct Publisher {
    via: Via,
    socket: OwnedFd,
    out: Vec<u8>,
}

impl Publisher {
    /// Connects. Redis is told to send no replies.
    pub fn connect(via: &Via) -> Result<Self> {
        let (Via::Redis { address, .. } | Via::Http { address, .. }) = via;
        let socket = net::connect(*address, 0)?;
        let mut out = Vec::new();
        if let Via::Redis { .. } = via {
            resp::push_command(&mut out, &[b"CLIENT", b"REPLY", b"OFF"]);
        }
        Ok(Self {
            via: via.clone(),
            socket,
            out,
        })
    }

    /// The socket. When it is readable, call [`Self::receive`].
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Queues a message.
    pub fn push(&mut self, payload: &[u8]) {
        match &self.via {
            Via::Redis { channel, .. } => {
                resp::push_command(&mut self.out, &[b"PUBLISH", channel.as_bytes(), payload]);
            }
            Via::Http { path, .. } => {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                    payload.len()
                );
                self.out.extend_from_slice(head.as_bytes());
                self.out.extend_from_slice(payload);
            }
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            net::send_all(&self.socket, &self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    /// Reads answers and checks the first of them.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let Some(read) = net::receive(&self.socket, buffer)? else {
            return Ok(());
        };
        ensure!(read > 0, "the publisher was cut off");
        let line = buffer[..read]
            .split(|&byte| byte == b'\r')
            .next()
            .unwrap_or_default();
        let refused = line.starts_with(b"-")
            || line.starts_with(b"HTTP/1.1 ") && !line.starts_with(b"HTTP/1.1 2");
        ensure!(
            !refused,
            "a publish was refused: {}",
            String::from_utf8_lossy(line)
        );
        Ok(())
    }
}
