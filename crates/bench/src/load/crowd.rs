//! Many clients of one server, and what each has still to receive.
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};

use crate::frame::{self, Frame};
use crate::handshake;
use crate::net::{self, Poll};

/// One client.
pub struct Member {
    pub socket: OwnedFd,
    /// The number of the message it must receive next. `None` before its first.
    pub next: Option<u64>,
    /// How many bytes of that message's frame have arrived and been compared.
    pub matched: usize,
    /// The beginning of any other incomplete frame.
    pub partial: Vec<u8>,
}

/// Connected and upgraded clients, watched by index.
pub struct Crowd {
    pub poll: Poll,
    pub members: Vec<Member>,
}

impl Crowd {
    /// Opens `count` clients at `path`.
    pub fn open(address: SocketAddrV4, path: &str, count: usize) -> Result<Self> {
        let request = handshake::request(path, "");
        let poll = Poll::new(1024)?;
        let mut members = Vec::with_capacity(count);
        for nth in 0..count {
            let (socket, partial) =
                open(address, &request, nth).with_context(|| format!("client {nth}"))?;
            poll.watch(&socket, nth as u64)?;
            members.push(Member {
                socket,
                next: None,
                matched: 0,
                partial,
            });
        }
        Ok(Self { poll, members })
    }
}

/// Connects and sends `request`. Returns the socket once the 101 has arrived, and the bytes after
/// it.
///
/// # Errors
/// The server refused, or did not answer within ten seconds.
pub fn open(address: SocketAddrV4, request: &[u8], nth: usize) -> Result<(OwnedFd, Vec<u8>)> {
    let socket = net::connect(address, nth).context("cannot connect")?;
    net::send_all(&socket, request)?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 2048];
        let (read, _) = rustix::net::recv(&socket, &mut buffer, rustix::net::RecvFlags::empty())?;
        if read == 0 {
            bail!("closed without an answer");
        }
        answer.extend_from_slice(&buffer[..read]);
        if let Some(head) = handshake::head_len(&answer).map_err(anyhow::Error::msg)? {
            answer.drain(..head);
            return Ok((socket, answer));
        }
    }
}

/// Handles a control frame: a Ping gets its Pong, a Close is a failure.
pub fn control(socket: &OwnedFd, bytes: &[u8], frame: &Frame) -> Result<()> {
    let payload = &bytes[frame.at..frame.end()];
    match frame.first {
        0x89 => {
            let mut pong = Vec::new();
            frame::push_client(&mut pong, 10, payload, [7, 7, 7, 7]);
            net::send_all(socket, &pong)?;
            Ok(())
        }
        0x88 => {
            let code = payload
                .first_chunk()
                .map_or(1005, |code| u16::from_be_bytes(*code));
            bail!("the server closed with {code}")
        }
        first => bail!("a frame begins with {first:#04x}"),
    }
}
