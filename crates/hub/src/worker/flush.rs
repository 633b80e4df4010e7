//! The end of the hot path: one write per client and wake-up.

use fanout::{Batch, ClientId, FeedId, Short, WriteOutcome};

use super::hub::Hub;
use crate::broker::Brokers;
use crate::outside::{self, Clients, Io, Outside, RECORD};
use crate::session::{Cause, Phase, Session};

/// Writes in one event, which take one or two milliseconds. The rest follows after the sockets have
/// been polled. A handshake waits for two such events. A larger budget does not make a delivery
/// cheaper.
const SEND_BUDGET: usize = 256;

/// The same for batched sends (io_uring). Smaller batches do cost more there, beside other work on
/// the machine.
const TOGETHER_BUDGET: usize = 512;

/// A write counts as one more for each of these bytes, because it takes the kernel about as long.
const SEND_BYTES: usize = 16 << 10;

/// How many of the `offered` bytes OpenSSL committed to when it said "again": these must be offered
/// again unchanged. A plain socket commits to nothing.
pub(super) fn committed(io: &impl Io, offered: usize) -> usize {
    if io.plain_fd().is_some() {
        0
    } else {
        offered.min(RECORD)
    }
}

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Sends what this wake-up brought to each client that keeps up.
    pub(super) fn flush(&mut self) {
        self.tell_time();
        let mut budget = match self.out.sends_together() {
            true => TOGETHER_BUDGET,
            false => SEND_BUDGET,
        };
        while let Some(feed) = self.registry.next_dirty() {
            if budget == 0 {
                self.turn = true;
                break;
            }
            self.apply_notsent_to_fresh();
            budget = self.flush_feed(feed, budget).min(budget - 1);
        }
        self.after_flush();
        if self.registry.log_bytes() > 0 {
            self.enforce_memory();
        }
    }

    /// Offers a feed's clients what they are due, within the budget. Returns the budget that is
    /// left.
    fn flush_feed(&mut self, feed: FeedId, mut budget: usize) -> usize {
        let flushed = &mut self.flushed;
        while let Some(batch) = self.registry.next_batch(feed, budget, flushed) {
            let cost = 1 + batch.bytes.len() / SEND_BYTES;
            let affordable = batch.first((budget / cost).max(1));
            self.shorts.clear();
            let shorts = &mut self.shorts;
            let tried = self
                .out
                .send_each(affordable.sockets, affordable.bytes, |index, sent| {
                    shorts.push(short(index, sent));
                });
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

    /// Clients that fell short wait for their sockets; those that are gone or too slow leave.
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
            self.close_slow(client);
        }
        for skip in flushed.skipped.drain(..) {
            self.counters.skipped += skip.messages;
        }
        flushed.clear();
        self.flushed = flushed;
    }

    fn close_slow(&mut self, client: ClientId) {
        let opening = |(_, session): (_, &mut Session)| session.phase() == Phase::Opening;
        if self.clients.get(client).is_some_and(opening) {
            // The 101 has not even been sent.
            self.count_cause(Cause::TooSlow);
            return self.lose(client);
        }
        self.close(client, Cause::TooSlow);
        self.hurry(client);
    }
}

fn short(index: usize, sent: outside::Sent) -> Short {
    let sent = match sent {
        outside::Sent::Bytes(count) => WriteOutcome::Part(count),
        outside::Sent::Again => WriteOutcome::Part(0),
        outside::Sent::Failed => WriteOutcome::Gone,
    };
    Short {
        index: index as u32,
        sent,
    }
}

fn offer_over_tls(
    clients: &mut impl Clients<Session, Io: Io>,
    batch: &Batch<'_>,
    shorts: &mut Vec<Short>,
) {
    let members = batch.sockets.iter().zip(batch.clients);
    for (index, (_, &client)) in members.enumerate().filter(|(_, (fd, _))| **fd < 0) {
        let sent = secure(clients, ClientId(client), batch.bytes);
        if sent != WriteOutcome::All {
            shorts.push(Short {
                index: index as u32,
                sent,
            });
        }
    }
}

/// TLS is written record by record.
fn secure(
    clients: &mut impl Clients<Session, Io: Io>,
    client: ClientId,
    bytes: &[u8],
) -> WriteOutcome {
    let Some((io, _)) = clients.get(client) else {
        return WriteOutcome::Gone;
    };
    let mut written = 0;
    while written < bytes.len() {
        match io.send(&bytes[written..]) {
            outside::Sent::Bytes(count) => written += count,
            outside::Sent::Again => {
                let offered = committed(&io, bytes.len() - written);
                return WriteOutcome::Committed { written, offered };
            }
            outside::Sent::Failed => return WriteOutcome::Gone,
        }
    }
    WriteOutcome::All
}
