//! The hot path's end: one write per client and wake-up.

use fanout::{Batch, ClientId, FeedId, Sent, Short};
use proto::websocket::close::CloseCode;

use super::Worker;
use crate::nginx::client::send_plain;
use crate::nginx::log::{self, Level};
use crate::nginx::ring::Ring;
use crate::nginx::{self, Clients, Io, ssl};
use crate::session::{Phase, Session};

/// Writes in one event, one or two milliseconds of them; the rest continues after a look at the
/// sockets. A handshake waits for two such events. Larger ones cost a delivery no less.
const SEND_BUDGET: usize = 256;

/// The same for io_uring, where fewer at once do cost more beside other work on the machine.
const RING_BUDGET: usize = 512;

/// A write of so many bytes more counts as one write more: it takes the kernel about as long.
const SEND_BYTES: usize = 16 << 10;

/// What of `offered` bytes OpenSSL has taken hold of when it said "again": they must be offered
/// again unchanged. A plain socket holds on to nothing.
pub(super) fn committed(io: &Io, offered: usize) -> usize {
    if io.plain_fd().is_some() {
        0
    } else {
        offered.min(ssl::RECORD)
    }
}

/// From so many sockets on, io_uring's one system call is cheaper than one each.
const RING_FROM: usize = 16;

/// The ring for a worker's fan-outs, and a line in the log on how it sends.
pub(super) fn open_ring(wanted: bool) -> Option<Ring> {
    let (ring, how) = match wanted.then(Ring::open) {
        None => (None, "one by one".to_owned()),
        Some(Ok(ring)) => (Some(ring), "by io_uring".to_owned()),
        Some(Err(cause)) => (None, format!("one by one, there is no io_uring: {cause}")),
    };
    log::cycle(Level::Notice, format_args!("websocket sends {how}"));
    ring
}

impl Worker {
    /// Sends what this wake-up has brought to each client that keeps up.
    pub(super) fn flush(&mut self) {
        self.tell_time();
        let mut budget = match &self.ring {
            Some(_) => RING_BUDGET,
            None => SEND_BUDGET,
        };
        while let Some(feed) = self.registry.next_dirty() {
            if budget == 0 {
                self.turn = true;
                break;
            }
            self.bound_fresh();
            budget = self.flush_feed(feed, budget).min(budget - 1);
        }
        self.after_flush();
        if self.registry.log_bytes() > 0 {
            self.enforce_memory();
        }
    }

    /// Offers a feed's clients what they are due, within the budget. What is left of it?
    fn flush_feed(&mut self, feed: FeedId, mut budget: usize) -> usize {
        let flushed = &mut self.flushed;
        while let Some(batch) = self.registry.next_batch(feed, budget, flushed) {
            let cost = 1 + batch.bytes.len() / SEND_BYTES;
            let affordable = batch.first((budget / cost).max(1));
            self.shorts.clear();
            let tried = match &mut self.ring {
                Some(ring) if affordable.sockets.len() >= RING_FROM => {
                    offer_at_once(ring, &affordable, &mut self.shorts).unwrap_or_else(|tried| {
                        self.ring = None;
                        tried
                    })
                }
                _ => offer_each(&affordable, &mut self.shorts),
            };
            offer_over_tls(
                &mut self.clients,
                &affordable.first(tried),
                &mut self.shorts,
            );
            budget = budget.saturating_sub(tried * cost);
            self.registry
                .completed(feed, tried, &mut self.shorts, flushed);
        }
        budget
    }

    /// Those who fell short wait for their sockets; those who are gone, or too slow, leave.
    pub(super) fn after_flush(&mut self) {
        let mut flushed = std::mem::take(&mut self.flushed);
        for client in flushed.short.drain(..) {
            if let Some((io, _)) = self.clients.get(client)
                && !io.want_write()
            {
                self.lose(client);
            }
        }
        for client in flushed.resumed.drain(..) {
            self.write_client(client);
        }
        for client in flushed.gone.drain(..) {
            self.lose(client);
        }
        for client in flushed.too_slow.drain(..) {
            self.counters.slow_closed += 1;
            self.close_slow(client);
        }
        for skip in flushed.skipped.drain(..) {
            self.counters.skipped += skip.messages;
        }
        flushed.clear();
        self.flushed = flushed;
    }

    fn close_slow(&mut self, client: ClientId) {
        let opening = |(_, session): (_, &mut Session)| session.phase == Phase::Opening;
        if self.clients.get(client).is_some_and(opening) {
            // Its 101 is not even out.
            return self.lose(client);
        }
        let reason = "client is too slow for \"websocket_send_queue\"";
        self.close(client, CloseCode::POLICY, reason, Level::Info);
        self.hurry(client);
    }
}

/// Writes to each plain socket of the batch: the hot path where there is no io_uring.
fn offer_each(batch: &Batch<'_>, shorts: &mut Vec<Short>) -> usize {
    for (index, &socket) in batch.sockets.iter().enumerate() {
        if socket >= 0 {
            match send_plain(socket, batch.bytes) {
                nginx::Sent::Bytes(count) if count == batch.bytes.len() => {}
                sent => shorts.push(short(index, sent)),
            }
        }
    }
    batch.sockets.len()
}

/// Writes to all plain sockets of the batch by one system call. An error is what it took before
/// the ring failed.
fn offer_at_once(
    ring: &mut Ring,
    batch: &Batch<'_>,
    shorts: &mut Vec<Short>,
) -> Result<usize, usize> {
    let batch = batch.first(ring.capacity());
    let sent = ring.send_each(batch.sockets, batch.bytes, |index, sent| {
        shorts.push(short(index, sent));
    });
    match sent {
        Ok(()) => Ok(batch.sockets.len()),
        Err((offered, cause)) => {
            log::cycle(
                Level::Error,
                format_args!("websocket sends one by one from here on, io_uring failed: {cause}"),
            );
            Err(offered)
        }
    }
}

fn short(index: usize, sent: nginx::Sent) -> Short {
    let sent = match sent {
        nginx::Sent::Bytes(count) => Sent::Part(count),
        nginx::Sent::Again => Sent::Part(0),
        nginx::Sent::Failed => Sent::Gone,
    };
    Short {
        index: index as u32,
        sent,
    }
}

fn offer_over_tls(clients: &mut Clients<Session>, batch: &Batch<'_>, shorts: &mut Vec<Short>) {
    let members = batch.sockets.iter().zip(batch.clients);
    for (index, (_, &client)) in members.enumerate().filter(|(_, (fd, _))| **fd < 0) {
        let sent = secure(clients, ClientId(client), batch.bytes);
        if sent != Sent::All {
            shorts.push(Short {
                index: index as u32,
                sent,
            });
        }
    }
}

/// TLS goes record by record.
fn secure(clients: &mut Clients<Session>, client: ClientId, bytes: &[u8]) -> Sent {
    let Some((io, _)) = clients.get(client) else {
        return Sent::Gone;
    };
    let mut written = 0;
    while written < bytes.len() {
        match io.send(&bytes[written..]) {
            nginx::Sent::Bytes(count) => written += count,
            nginx::Sent::Again => {
                let offered = committed(&io, bytes.len() - written);
                return Sent::Committed { written, offered };
            }
            nginx::Sent::Failed => return Sent::Gone,
        }
    }
    Sent::All
}
