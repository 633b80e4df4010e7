//! Many clients that publish as fast as they can, and a subscriber that counts what arrives.
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{STALLED, open, payload, sequence};
use crate::net::{self, Poll};
use crate::peers::{POST, PUBLISH};
use crate::subscription::Subscription;
use crate::{frame, handshake, resp};

/// Bytes of a message.
const SIZE: usize = 128;
/// The most messages that all clients together may be ahead of the subscriber. Redis disconnects a
/// subscriber with more than 32 MB of output, or more than 8 MB for a minute.
const MOST_AHEAD: u64 = 32_768;
/// Messages that a client writes at a time.
const BATCH: u64 = 64;

/// How messages get to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Frames of WebSocket clients, pipelined.
    Websocket,
    /// HTTP posts. Each client sends the next one when the last has been answered.
    Post,
    /// `PUBLISH` to Redis itself, pipelined.
    Redis,
}

/// The publishers and the subscriber.
pub struct Publishers {
    road: Road,
    channel: String,
    poll: Poll,
    clients: Vec<Client>,
    subscription: Subscription,
    buffer: Vec<u8>,
}

struct Client {
    socket: OwnedFd,
    /// Written but not yet sent.
    out: Vec<u8>,
    written: u64,
    received: u64,
    answered: u64,
}

const SUBSCRIBER: u64 = u64::MAX;

impl Publishers {
    /// Connects `count` publishers to `server` and the subscriber of `channel` to `redis`.
    ///
    /// # Errors
    /// A connection was refused.
    pub fn open(
        road: Road,
        server: SocketAddrV4,
        redis: SocketAddrV4,
        channel: &str,
        count: usize,
    ) -> Result<Self> {
        let poll = Poll::new(256)?;
        let subscription = Subscription::new(redis, channel)?;
        poll.watch(subscription.socket(), SUBSCRIBER)?;
        let mut clients = Vec::with_capacity(count);
        for nth in 0..count {
            let socket = match road {
                Road::Websocket => open(server, &handshake::request(PUBLISH, ""), nth)?.0,
                Road::Post | Road::Redis => net::connect(server, nth)?,
            };
            poll.watch(&socket, nth as u64)?;
            clients.push(Client {
                socket,
                out: Vec::new(),
                written: 0,
                received: 0,
                answered: 0,
            });
        }
        Ok(Self {
            road,
            channel: channel.to_owned(),
            poll,
            clients,
            subscription,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Publishes for about `length`, until the subscriber has everything. Returns how many messages
    /// it got.
    ///
    /// # Errors
    /// A message was lost, duplicated, out of its client's order or altered; a publisher was
    /// refused or disconnected; no more messages arrived.
    pub fn turn(&mut self, length: Duration) -> Result<u64> {
        let begin = Instant::now();
        let (mut total, mut last_word) = (0, begin);
        loop {
            if begin.elapsed() < length {
                self.write();
            }
            self.flush()?;
            let came = self.receive()?;
            total += came;
            if came > 0 {
                last_word = Instant::now();
            }
            if begin.elapsed() >= length && self.clients.iter().all(Client::is_done) {
                return Ok(total);
            }
            ensure!(
                last_word.elapsed() < STALLED,
                "stalled: the subscriber lacks messages"
            );
        }
    }

    /// Lets those clients write that are not too far ahead.
    fn write(&mut self) {
        let ahead = match self.road {
            Road::Post => 1,
            Road::Websocket | Road::Redis => MOST_AHEAD / self.clients.len() as u64,
        };
        let batch = BATCH.min(ahead);
        for (nth, client) in self.clients.iter_mut().enumerate() {
            if client.may_write(self.road, ahead, batch) {
                for _ in 0..batch {
                    let payload = payload(number(nth, client.written), SIZE);
                    push(&mut client.out, self.road, &self.channel, &payload);
                    client.written += 1;
                }
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        for (nth, client) in self.clients.iter_mut().enumerate() {
            client
                .flush()
                .with_context(|| format!("publisher {nth} was cut off"))?;
        }
        Ok(())
    }

    /// Reads the available input. Returns how many messages the subscriber got.
    fn receive(&mut self) -> Result<u64> {
        let mut received = 0;
        for event in 0..self.poll.wait(Some(Duration::ZERO))? {
            match self.poll.token(event) {
                SUBSCRIBER => received += self.hear()?,
                nth => self.answer(nth as usize)?,
            }
        }
        if received == 0 {
            // Redis runs on the same core.
            rustix::thread::sched_yield();
        }
        Ok(received)
    }

    /// Checks what the subscriber received.
    fn hear(&mut self) -> Result<u64> {
        let mut heard = 0;
        self.subscription
            .read(|socket, buffer| net::receive(socket, buffer))?;
        while let Some(got) = self.subscription.next() {
            let number = sequence(got).context("a message that nobody sent")?;
            let (nth, place) = origin(number);
            let client = self.clients.get_mut(nth).context("of no client")?;
            ensure!(
                place == client.received,
                "message {place} of client {nth} came instead of {}: lost or out of order",
                client.received
            );
            ensure!(
                got == payload(number, SIZE),
                "message {place} of client {nth} came with other bytes"
            );
            client.received += 1;
            heard += 1;
        }
        self.subscription.forget();
        Ok(heard)
    }

    /// Reads the answers to a publisher.
    fn answer(&mut self, nth: usize) -> Result<()> {
        let client = &mut self.clients[nth];
        let Some(read) = net::receive(&client.socket, &mut self.buffer)? else {
            return Ok(());
        };
        let answer = &self.buffer[..read];
        ensure!(read > 0, "publisher {nth} was cut off");
        match self.road {
            Road::Redis => ensure!(answer[0] != b'-', "Redis refused a publish"),
            Road::Post => {
                ensure!(answer.starts_with(b"HTTP/1.1 200"), "a post was refused");
                client.answered += 1;
            }
            // A Ping is not due in so short a time, so this is a Close.
            Road::Websocket => anyhow::bail!("publisher {nth} was sent a frame: {answer:02x?}"),
        }
        Ok(())
    }
}

impl Client {
    fn may_write(&self, road: Road, ahead: u64, batch: u64) -> bool {
        self.out.is_empty()
            && self.written - self.received + batch <= ahead
            && (road != Road::Post || self.answered == self.written)
    }

    fn is_done(&self) -> bool {
        self.out.is_empty() && self.received == self.written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        match net::send(&self.socket, &self.out) {
            Ok(sent) => {
                self.out.drain(..sent);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The number that message `place` of client `nth` carries.
fn number(nth: usize, place: u64) -> u64 {
    (nth as u64) << 40 | place
}

/// The client and the place that [`number`] combined.
fn origin(number: u64) -> (usize, u64) {
    ((number >> 40) as usize, number & ((1 << 40) - 1))
}

fn push(out: &mut Vec<u8>, road: Road, channel: &str, payload: &[u8]) {
    match road {
        Road::Websocket => frame::push_client(out, 1, payload, [0x5a, 0xc3, 0x17, 0x88]),
        Road::Redis => resp::push_command(out, &[b"PUBLISH", channel.as_bytes(), payload]),
        Road::Post => {
            let len = payload.len();
            out.extend_from_slice(
                format!("POST {POST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n")
                    .as_bytes(),
            );
            out.extend_from_slice(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_client_and_place() {
        for (nth, place) in [(0, 0), (63, 1), (5, (1 << 40) - 1)] {
            let payload = payload(number(nth, place), SIZE);
            assert_eq!(origin(sequence(&payload).unwrap()), (nth, place));
        }
    }
}
