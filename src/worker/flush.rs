//! The hot path's end: one write per client and wake-up.

use fanout::{ClientId, Sent};
use proto::websocket::close::CloseCode;

use super::Worker;
use crate::nginx::client::send_plain;
use crate::nginx::log::Level;
use crate::nginx::{self, Clients, Io, ssl};
use crate::session::{Phase, Session};

/// Writes in one event; the rest continues after a look at the sockets.
const SEND_BUDGET: usize = 1_000;

/// What of `offered` bytes OpenSSL has taken hold of when it said "again": they must be offered
/// again unchanged. A plain socket holds on to nothing.
pub(super) fn committed(io: &Io, offered: usize) -> usize {
    if io.plain_fd().is_some() {
        0
    } else {
        offered.min(ssl::RECORD)
    }
}

impl Worker {
    /// Sends what this wake-up has brought to each client that keeps up.
    pub(super) fn flush(&mut self) {
        let mut budget = SEND_BUDGET;
        while let Some(feed) = self.registry.next_dirty() {
            if budget == 0 {
                self.turn = true;
                break;
            }
            let clients = &mut self.clients;
            let send = |socket: i32, client: ClientId, bytes: &[u8]| {
                if socket >= 0 {
                    plain(socket, bytes)
                } else {
                    secure(clients, client, bytes)
                }
            };
            self.flushed.tried = 0;
            self.registry.flush(feed, budget, send, &mut self.flushed);
            budget = budget.saturating_sub(self.flushed.tried.max(1));
        }
        self.after_flush();
        if self.registry.log_bytes() > 0 {
            self.enforce_memory();
        }
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
    }
}

#[inline]
fn plain(socket: i32, bytes: &[u8]) -> Sent {
    match send_plain(socket, bytes) {
        nginx::Sent::Bytes(count) if count == bytes.len() => Sent::All,
        nginx::Sent::Bytes(count) => Sent::Part(count),
        nginx::Sent::Again => Sent::Part(0),
        nginx::Sent::Failed => Sent::Gone,
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
