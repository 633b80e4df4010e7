//! One channel with many subscribers: publishes at a given pace and checks what each subscriber
//! gets.
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
    /// As soon as fewer than this many messages are still to be received by some subscriber.
    InFlight(u32),
    /// This many messages per second.
    PerSecond(u32),
}

/// The most messages in flight, whatever the pace.
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

/// The messages in flight: from `oldest`, which some subscriber has not received, to just before
/// `newest`.
struct Messages {
    ring: Vec<Message>,
    oldest: u64,
    newest: u64,
    /// How long each message took to reach all subscribers.
    last: Histogram<u64>,
}

struct Message {
    /// The frame as a server sends it.
    frame: Vec<u8>,
    published: Instant,
    /// How many subscribers have received it.
    received: usize,
}

/// The result of one read from a member.
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

    /// Sets the size of further messages. Clients should join with small ones.
    pub fn resize(&mut self, size: usize) {
        self.size = size;
    }

    /// A new connection sends an immediate ACK for each of its first 16 segments, on the sender's
    /// CPU time. This sends them before the measurement.
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

    /// Publishes messages one by one until one has reached all subscribers: some servers answer 101
    /// before they have subscribed.
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
            // A subscriber that has not received this message starts with a later one.
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

    /// Waits for input and handles it. Returns how many deliveries it had, `None` if nothing
    /// arrived.
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

impl Message {
    /// `member` has received all of it, as number `next`.
    fn deliver(&mut self, member: &mut Member, next: u64, now: Instant, tally: &mut Tally) {
        self.received += 1;
        member.next = Some(next + 1);
        member.matched = 0;
        tally.deliveries += 1;
        tally
            .latency
            .saturating_record((now - self.published).as_nanos() as u64);
    }
}

impl Messages {
    fn read(&mut self, member: &mut Member, buffer: &mut [u8], tally: &mut Tally) -> Result<()> {
        let Some(read) = net::receive(&member.socket, buffer)? else {
            return Ok(());
        };
        ensure!(read > 0, "the server closed without a Close frame");
        let now = Instant::now();
        let used = self.resume(member, &buffer[..read], now, tally)?;
        let mut rest = &buffer[used..read];
        let mut bytes = std::mem::take(&mut member.partial);
        if !bytes.is_empty() {
            bytes.extend_from_slice(rest);
            rest = &bytes;
        }
        let used = self.take(member, rest, now, tally)?;
        self.keep(member, &rest[used..]);
        Ok(())
    }

    /// Compares with the rest of a partly received message. Returns how many of `bytes` belong to
    /// it.
    fn resume(
        &mut self,
        member: &mut Member,
        bytes: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) -> Result<usize> {
        let Some(next) = member.next.filter(|_| member.matched > 0) else {
            return Ok(0);
        };
        let message = &mut self.ring[(next % MOST) as usize];
        let left = &message.frame[member.matched..];
        let len = left.len().min(bytes.len());
        ensure!(
            bytes[..len] == left[..len],
            "message {next} came with other bytes"
        );
        member.matched += len;
        if member.matched == message.frame.len() {
            message.deliver(member, next, now, tally);
        }
        Ok(len)
    }

    /// Keeps an incomplete frame. If it is the expected message, only its length is kept, since a
    /// thousand clients may be in the middle of a megabyte.
    fn keep(&self, member: &mut Member, tail: &[u8]) {
        if tail.is_empty() {
            return;
        }
        let due = member.next.filter(|&next| next < self.newest);
        let due = due.map(|next| &self.ring[(next % MOST) as usize].frame);
        if due.is_some_and(|frame| frame.starts_with(tail)) {
            member.matched = tail.len();
        } else {
            member.partial = tail.to_vec();
        }
    }

    /// Handles the whole frames in `bytes`. Returns their length in bytes.
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
                message.deliver(member, next, now, tally);
                return Ok(Some(message.frame.len()));
            }
        }
        self.take_odd(member, bytes)
    }

    /// Handles a frame other than the whole text frame with the expected message: it is incomplete,
    /// a control frame, or the member's first.
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

    /// Drops the messages that all `subscribers` have received.
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What a member that waits for message 0 makes of these pieces.
    fn read(pieces: [&[u8]; 2], frames: &[Vec<u8>]) -> Result<(u64, Member)> {
        let message = |frame: &Vec<u8>| Message {
            frame: frame.clone(),
            published: Instant::now(),
            received: 0,
        };
        let mut messages = Messages {
            ring: frames.iter().map(message).collect(),
            oldest: 0,
            newest: frames.len() as u64,
            last: latencies(),
        };
        let (own, peer) = UnixStream::pair()?;
        let mut member = Member {
            socket: own.into(),
            next: Some(0),
            matched: 0,
            partial: Vec::new(),
        };
        let mut latency = latencies();
        let mut tally = Tally {
            deliveries: 0,
            latency: &mut latency,
        };
        for piece in pieces {
            net::send_all(&peer, piece)?;
            messages.read(&mut member, &mut [0; 4096], &mut tally)?;
        }
        Ok((tally.deliveries, member))
    }

    #[test]
    fn messages_count_once_wherever_they_are_cut_and_a_wrong_byte_is_found() {
        let frames: Vec<_> = (0..2)
            .map(|number| {
                let mut frame = Vec::new();
                frame::push_server(&mut frame, &payload(number, 200));
                frame
            })
            .collect();
        // A Ping comes between them.
        let bytes = [&frames[0][..], b"\x89\x03abc", &frames[1]].concat();
        for cut in 1..bytes.len() {
            let (deliveries, member) = read([&bytes[..cut], &bytes[cut..]], &frames).unwrap();
            assert_eq!(
                (deliveries, member.next, member.matched),
                (2, Some(2), 0),
                "cut at {cut}"
            );
            assert!(member.partial.is_empty(), "cut at {cut}");
            let mut spoilt = bytes.clone();
            *spoilt.last_mut().unwrap() ^= 1;
            assert!(
                read([&spoilt[..cut], &spoilt[cut..]], &frames).is_err(),
                "cut at {cut}"
            );
        }
    }
}
