//! Clients that send a message as soon as the last one has come back.
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::crowd::{self, Crowd};
use super::{Load, STALLED, Turn, latencies, payload};
use crate::frame::{self, Frame};
use crate::net;

/// Distinct messages, sent in rotation, so that each client's next differs from its last.
const VARIANTS: usize = 64;

/// Connections that each have one message in flight.
pub struct Echo {
    crowd: Crowd,
    variants: Vec<Variant>,
    /// When each client sent its message in flight.
    sent: Vec<Option<Instant>>,
    buffer: Vec<u8>,
}

struct Variant {
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Echo {
    /// Connects `count` clients, which send messages of `size` bytes.
    ///
    /// # Errors
    /// The server refused one.
    pub fn open(address: SocketAddrV4, path: &str, count: usize, size: usize) -> Result<Self> {
        let variant = |number: usize| {
            let payload = payload(number as u64, size);
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            frame::push_client(&mut request, 1, &payload, [0x5a, 0xc3, 0x17, 0x88]);
            frame::push_server(&mut answer, &payload);
            Variant { request, answer }
        };
        let mut crowd = Crowd::open(address, path, count)?;
        for member in &mut crowd.members {
            member.next = Some(0);
        }
        Ok(Self {
            sent: vec![None; crowd.members.len()],
            crowd,
            variants: (0..VARIANTS).map(variant).collect(),
            buffer: vec![0; 256 * 1024],
        })
    }

    fn send(&mut self, nth: usize) -> Result<()> {
        let member = &self.crowd.members[nth];
        let variant = &self.variants[member.next.unwrap_or(0) as usize % VARIANTS];
        self.sent[nth] = Some(Instant::now());
        net::send_all(&member.socket, &variant.request)?;
        Ok(())
    }

    /// Reads. If a whole message has come back, returns how long it took.
    fn read(&mut self, nth: usize) -> Result<Option<Duration>> {
        let member = &mut self.crowd.members[nth];
        let Some(read) = net::receive(&member.socket, &mut self.buffer)? else {
            return Ok(None);
        };
        ensure!(read > 0, "the server closed without a Close frame");
        let number = member.next.unwrap_or(0);
        let answer = &self.variants[number as usize % VARIANTS].answer;
        member.partial.extend_from_slice(&self.buffer[..read]);
        if let Some(frame) = Frame::parse(&member.partial)
            && frame.first & 0x0f > 2
        {
            let bytes = std::mem::take(&mut member.partial);
            crowd::control(&member.socket, &bytes, &frame)?;
            member.partial.extend_from_slice(&bytes[frame.end()..]);
        }
        if member.partial.len() < answer.len() {
            return Ok(None);
        }
        ensure!(
            member.partial == *answer,
            "echo {number} differs from what was sent"
        );
        member.partial.clear();
        member.next = Some(number + 1);
        Ok(self.sent[nth].take().map(|sent| sent.elapsed()))
    }
}

impl Load for Echo {
    fn turn(&mut self, length: Duration) -> Result<Turn> {
        let mut latency = latencies();
        let begin = Instant::now();
        let mut work = 0;
        let mut under_way = self.crowd.members.len();
        (0..under_way).try_for_each(|nth| self.send(nth))?;
        while under_way > 0 {
            let events = self.crowd.poll.spin(STALLED)?;
            if events == 0 {
                bail!("stalled: {under_way} echoes did not come");
            }
            let ending = begin.elapsed() >= length;
            for event in 0..events {
                let nth = self.crowd.poll.token(event) as usize;
                let Some(took) = self.read(nth).with_context(|| format!("client {nth}"))? else {
                    continue;
                };
                latency.saturating_record(took.as_nanos() as u64);
                work += 1;
                if ending {
                    under_way -= 1;
                } else {
                    self.send(nth)?;
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
        for event in 0..self.crowd.poll.spin(Duration::ZERO)? {
            let nth = self.crowd.poll.token(event) as usize;
            self.read(nth)?;
        }
        Ok(())
    }
}
