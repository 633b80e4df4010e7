//! One channel, many subscribers: publishes at a pace and checks what each subscriber gets.
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;

use super::crowd::{self, Crowd, Member};
use super::{Load, Publisher, STALLED, Turn, Via, latencies, payload, sequence};
use crate::frame::{self, Frame};
use crate::net;

/// When the next message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As soon as fewer than so many are not yet received by all.
    InFlight(u32),
    /// So many each second.
    PerSecond(u32),
}

/// Messages that may be under way at once, whatever the pace.
const MOST: u64 = 512;

/// A crowd of subscribers and its publisher.
pub struct Fanout {
    crowd: Crowd,
    publisher: Publisher,
    pace: Pace,
    size: usize,
    messages: Messages,
    buffer: Vec<u8>,
}

/// The messages under way: from `oldest`, not yet received by all, to before `newest`.
struct Messages {
    ring: Vec<Message>,
    oldest: u64,
    newest: u64,
    /// How long each took to reach everybody.
    last: Histogram<u64>,
}

struct Message {
    /// As a server frames it.
    frame: Vec<u8>,
    published: Instant,
    /// By how many it has been received.
    received: usize,
}

/// What a read of a member brought.
struct Tally<'a> {
    deliveries: u64,
    latency: &'a mut Histogram<u64>,
}

const PUBLISHER: u64 = u64::MAX;

impl Fanout {
    /// Connects `count` subscribers and waits until each has got a message.
    ///
    /// # Errors
    /// The server refused one, or a message does not come.
    pub fn open(
        address: SocketAddrV4,
        path: &str,
        via: &Via,
        count: usize,
        size: usize,
        pace: Pace,
    ) -> Result<Self> {
        let crowd = Crowd::open(address, path, count)?;
        let publisher = Publisher::connect(via)?;
        crowd.poll.watch(publisher.socket(), PUBLISHER)?;
        let message = || Message {
            frame: Vec::new(),
            published: Instant::now(),
            received: 0,
        };
        let ring = std::iter::repeat_with(message)
            .take(MOST as usize)
            .collect();
        let messages = Messages {
            ring,
            oldest: 0,
            newest: 0,
            last: latencies(),
        };
        let buffer = vec![0; 256 * 1024];
        let mut opened = Self {
            crowd,
            publisher,
            pace,
            size,
            messages,
            buffer,
        };
        opened.join()?;
        opened.settle_in()?;
        Ok(opened)
    }

    /// A new connection acknowledges its first 16 segments at once, each in the sender's time. What
    /// is measured comes after.
    fn settle_in(&mut self) -> Result<()> {
        let mut ignored = latencies();
        for _ in 0..16 {
            self.publish()?;
            self.publisher.flush()?;
            while self.messages.oldest < self.messages.newest {
                let came = self.receive(STALLED, &mut ignored)?;
                ensure!(came.is_some(), "stalled before the first turn");
            }
        }
        Ok(())
    }

    /// Publishes one message after the other until one has reached everybody: some servers answer
    /// 101 before they have subscribed.
    fn join(&mut self) -> Result<()> {
        let begin = Instant::now();
        let mut ignored = latencies();
        while begin.elapsed() < 2 * STALLED {
            self.publish()?;
            self.publisher.flush()?;
            let published = Instant::now();
            while published.elapsed() < Duration::from_millis(300) {
                self.receive(Duration::from_millis(20), &mut ignored)?;
                if self
                    .crowd
                    .members
                    .iter()
                    .all(|member| member.next == Some(self.messages.newest))
                {
                    self.messages.oldest = self.messages.newest;
                    return Ok(());
                }
            }
            // Who has not got it now will begin with a later one.
            self.messages.oldest = self.messages.newest;
        }
        let joined = self
            .crowd
            .members
            .iter()
            .filter(|member| member.next.is_some())
            .count();
        bail!(
            "only {joined} of {} subscribers get messages",
            self.crowd.members.len()
        )
    }

    fn publish(&mut self) -> Result<()> {
        let number = self.messages.newest;
        let payload = payload(number, self.size);
        self.publisher.push(&payload);
        let message = &mut self.messages.ring[(number % MOST) as usize];
        message.frame.clear();
        frame::push_server(&mut message.frame, &payload);
        message.published = Instant::now();
        message.received = 0;
        self.messages.newest += 1;
        Ok(())
    }

    /// Waits for input and takes it; returns how many deliveries it had, `None` if nothing came.
    fn receive(&mut self, timeout: Duration, latency: &mut Histogram<u64>) -> Result<Option<u64>> {
        let events = self.crowd.poll.spin(timeout)?;
        let mut tally = Tally {
            deliveries: 0,
            latency,
        };
        for event in 0..events {
            match self.crowd.poll.token(event) {
                PUBLISHER => self.publisher.receive(&mut self.buffer)?,
                nth => {
                    let member = &mut self.crowd.members[nth as usize];
                    self.messages
                        .read(member, &mut self.buffer, &mut tally)
                        .with_context(|| format!("subscriber {nth}"))?;
                }
            }
        }
        let deliveries = tally.deliveries;
        self.messages.forget(self.crowd.members.len());
        Ok((events > 0).then_some(deliveries))
    }
}

impl Load for Fanout {
    fn turn(&mut self, length: Duration) -> Result<Turn> {
        let mut latency = latencies();
        self.messages.last.reset();
        let begin = Instant::now();
        let mut due = begin;
        let mut work = 0;
        let mut last_word = begin;
        loop {
            let now = Instant::now();
            let ending = now - begin >= length;
            if ending && self.messages.oldest == self.messages.newest {
                return Ok(Turn {
                    work,
                    latency,
                    last: self.messages.last.clone(),
                });
            }
            let mut timeout = STALLED;
            match self.pace {
                Pace::InFlight(most) if !ending => {
                    while self.messages.newest - self.messages.oldest < u64::from(most) {
                        self.publish()?;
                    }
                }
                Pace::PerSecond(rate) if !ending => {
                    if due <= now && self.messages.newest - self.messages.oldest < MOST {
                        self.publish()?;
                        due += Duration::from_secs(1) / rate;
                    }
                    timeout = due.saturating_duration_since(now);
                }
                _ => {}
            }
            self.publisher.flush()?;
            match self.receive(timeout, &mut latency)? {
                Some(deliveries) => {
                    work += deliveries;
                    last_word = Instant::now();
                }
                None => ensure!(
                    last_word.elapsed() < STALLED,
                    "stalled: {} messages did not reach everybody",
                    self.messages.newest - self.messages.oldest
                ),
            }
        }
    }

    fn tend(&mut self) -> Result<()> {
        let mut ignored = latencies();
        while self.receive(Duration::ZERO, &mut ignored)?.is_some() {}
        Ok(())
    }
}

impl Messages {
    fn read(&mut self, member: &mut Member, buffer: &mut [u8], tally: &mut Tally) -> Result<()> {
        let Some(read) = net::receive(&member.socket, buffer)? else {
            return Ok(());
        };
        ensure!(read > 0, "the server closed without a Close frame");
        let now = Instant::now();
        if member.partial.is_empty() {
            let used = self.take(member, &buffer[..read], now, tally)?;
            member.partial.extend_from_slice(&buffer[used..read]);
        } else {
            let mut bytes = std::mem::take(&mut member.partial);
            bytes.extend_from_slice(&buffer[..read]);
            let used = self.take(member, &bytes, now, tally)?;
            bytes.drain(..used);
            member.partial = bytes;
        }
        Ok(())
    }

    /// Takes the whole frames of `bytes`; returns how many bytes they were.
    fn take(
        &mut self,
        member: &mut Member,
        bytes: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) -> Result<usize> {
        let mut at = 0;
        while let Some(len) = self.take_one(member, &bytes[at..], now, tally)? {
            at += len;
        }
        Ok(at)
    }

    fn take_one(
        &mut self,
        member: &mut Member,
        bytes: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) -> Result<Option<usize>> {
        if let Some(next) = member.next.filter(|&next| next < self.newest) {
            let message = &mut self.ring[(next % MOST) as usize];
            if bytes.starts_with(&message.frame) {
                message.received += 1;
                member.next = Some(next + 1);
                tally.deliveries += 1;
                tally
                    .latency
                    .saturating_record((now - message.published).as_nanos() as u64);
                return Ok(Some(message.frame.len()));
            }
        }
        self.take_odd(member, bytes)
    }

    /// A frame that is not the text frame with the message expected next: it has not come as a
    /// whole, is a control frame, or is the member's first.
    fn take_odd(&mut self, member: &mut Member, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(frame) = Frame::parse(bytes) else {
            return Ok(None);
        };
        if frame.first & 0x0f > 2 {
            crowd::control(&member.socket, bytes, &frame)?;
            return Ok(Some(frame.end()));
        }
        let got = sequence(&bytes[frame.at..frame.end()]);
        let Some(got) = got.filter(|&got| got < self.newest) else {
            bail!("a message that was never published");
        };
        if let Some(next) = member.next {
            ensure!(
                got == next,
                "message {got} came instead of {next}: lost or out of order"
            );
        }
        let message = &mut self.ring[(got % MOST) as usize];
        ensure!(
            bytes.starts_with(&message.frame),
            "message {got} came with other bytes"
        );
        message.received += 1;
        member.next = Some(got + 1);
        Ok(Some(frame.end()))
    }

    /// Drops what all `subscribers` have received.
    fn forget(&mut self, subscribers: usize) {
        while self.oldest < self.newest
            && self.ring[(self.oldest % MOST) as usize].received == subscribers
        {
            let published = self.ring[(self.oldest % MOST) as usize].published;
            self.last
                .saturating_record(published.elapsed().as_nanos() as u64);
            self.oldest += 1;
        }
    }
}
