//! Clients that connect, upgrade, and leave when the 101 has arrived.
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use rustix::net::sockopt;

use super::{Load, STALLED, Turn, latencies, open};
use crate::handshake;
use crate::net::{self, Poll};

/// A given number of handshakes at a time.
pub struct Handshakes {
    address: SocketAddrV4,
    request: Vec<u8>,
    poll: Poll,
    under_way: Vec<Option<(OwnedFd, Instant)>>,
    /// Counts connections, to choose their source addresses.
    opened: usize,
    /// A client that stays, so that the channel stays subscribed.
    _resident: OwnedFd,
}

impl Handshakes {
    /// Opens the client that stays. `at_once` others connect and leave.
    ///
    /// # Errors
    /// The server refused it.
    pub fn open(address: SocketAddrV4, path: &str, at_once: usize) -> Result<Self> {
        let request = handshake::request(path, "");
        let (resident, _) = open(address, &request, 0)?;
        Ok(Self {
            address,
            request,
            poll: Poll::new(256)?,
            under_way: std::iter::repeat_with(|| None).take(at_once).collect(),
            opened: 0,
            _resident: resident,
        })
    }

    fn begin(&mut self, nth: usize) -> Result<()> {
        // Each thousand connections use another address, so no port is reused soon.
        self.opened += 1;
        let begin = Instant::now();
        let socket = net::connect(self.address, self.opened)?;
        // Close by a reset: sockets in TIME_WAIT would accumulate, and end on the server's CPU
        // time.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        net::send_all(&socket, &self.request)?;
        self.poll.watch(&socket, nth as u64)?;
        self.under_way[nth] = Some((socket, begin));
        Ok(())
    }

    /// Reads the 101 and disconnects. Returns how long it took.
    fn end(&mut self, nth: usize) -> Result<Option<Duration>> {
        let Some((socket, begin)) = self.under_way[nth].take() else {
            return Ok(None);
        };
        let mut answer = [0; 2048];
        let read = net::receive(&socket, &mut answer)?.unwrap_or(0);
        ensure!(read > 0, "closed without an answer");
        match handshake::head_len(&answer[..read]).map_err(|line| anyhow!(line))? {
            Some(_) => Ok(Some(begin.elapsed())),
            None => bail!("a 101 came in pieces"),
        }
    }
}

impl Load for Handshakes {
    fn turn(&mut self, length: Duration) -> Result<Turn> {
        let mut latency = latencies();
        let begin = Instant::now();
        let mut work = 0;
        let mut under_way = self.under_way.len();
        (0..under_way).try_for_each(|nth| self.begin(nth))?;
        while under_way > 0 {
            let events = self.poll.spin(STALLED)?;
            if events == 0 {
                bail!("stalled: {under_way} handshakes were not answered");
            }
            let ending = begin.elapsed() >= length;
            for event in 0..events {
                let nth = self.poll.token(event) as usize;
                let Some(took) = self.end(nth)? else { continue };
                latency.saturating_record(took.as_nanos() as u64);
                work += 1;
                if ending {
                    under_way -= 1;
                } else {
                    self.begin(nth)?;
                }
            }
        }
        Ok(Turn {
            work,
            latency,
            last: latencies(),
        })
    }

    fn tend(&mut self) -> Result<()> {
        Ok(())
    }
}
