//! What a client sends.

use proto::redis::Role;
use proto::websocket::close::CloseCode;

use crate::nginx::log::Level;
use crate::nginx::{ClientId, Received, process};
use crate::session::{End, Inbox, Phase, life};
use crate::worker::Worker;

/// A client is read at most so much in one event.
const READ_BUDGET: usize = 256 << 10;

impl Worker {
    /// The socket has something to read.
    pub fn client_readable(&mut self, id: ClientId) {
        let mut read = 0;
        loop {
            let Some((io, session)) = self.clients.get(id) else {
                return;
            };
            match session.phase {
                Phase::Opening | Phase::Lost => return,
                Phase::Lingering => return self.discard(id),
                Phase::Closing if io.plain_fd().is_some() => return self.discard(id),
                Phase::Closing => return,
                Phase::Open => {}
            }
            if session.paused {
                return;
            }
            if !io.is_readable() {
                if !io.want_read() {
                    self.lose(id);
                }
                return;
            }
            if read >= READ_BUDGET {
                return io.read_again();
            }
            if self.is_publisher_congested(id) {
                return self.pause(id);
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let Some((io, _)) = self.clients.get(id) else {
                return;
            };
            let received = io.recv(&mut buffer);
            if let Received::Bytes(count) = received {
                read += count;
                self.take_input(id, &mut buffer[..count]);
            }
            self.buffer = buffer;
            match received {
                Received::Bytes(_) | Received::Again => {}
                Received::Eof | Received::Failed => return self.lose(id),
            }
        }
    }

    pub(super) fn is_publisher_congested(&mut self, id: ClientId) -> bool {
        let Some((_, session)) = self.clients.get(id) else {
            return false;
        };
        let (Some(_), Some(broker)) = (session.publish_channel(), session.location.redis) else {
            return false;
        };
        self.brokers[usize::from(broker)].is_congested()
    }

    pub(super) fn pause(&mut self, id: ClientId) {
        if let Some((_, session)) = self.clients.get(id) {
            session.paused = true;
            session.awaits_publisher = true;
            self.paused.push(id);
        }
        // Who leaves stays listed until the links have room.
        if self.paused.len() > 64 + 2 * self.clients.len() {
            let clients = &mut self.clients;
            let awaits = |id: &ClientId| clients.get(*id).is_some_and(|(_, s)| s.awaits_publisher);
            self.paused.retain(awaits);
        }
    }

    /// The publisher links have answered: clients that waited for room are read again.
    pub(in crate::worker) fn resume_reading(&mut self) {
        let tick = self.session_tick(process::now());
        for id in std::mem::take(&mut self.paused) {
            if !self
                .clients
                .get(id)
                .is_some_and(|(_, s)| s.awaits_publisher)
            {
                // It has gone; its number may be another's.
                continue;
            }
            if self.is_publisher_congested(id) {
                self.paused.push(id);
            } else if let Some((io, session)) = self.clients.get(id) {
                session.awaits_publisher = false;
                session.paused = session.must_take_first();
                session.pulse.note_alive(tick);
                session.forgive_message(tick);
                io.read_again();
            }
        }
    }

    /// Takes what a client sent apart, and does it.
    pub(super) fn take_input(&mut self, id: ClientId, input: &mut [u8]) {
        let tick = self.session_tick(process::now());
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if session.phase != Phase::Open {
            return;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let before = session.held_bytes();
        let context = session.context_bytes();
        let is_inflated = session.deflate_bits > 0 && session.location.takes_messages();
        let inflater = is_inflated.then(|| self.wires.inflater());
        inbox.fill(session, input, inflater);
        session.note_input(inbox.messages, inbox.heard, tick);
        if let Some(notes) = &mut session.notes {
            notes.bytes_in += input.len() as u64;
            notes.messages_in += inbox.messages;
        }
        let after = session.held_bytes();
        let context_after = session.context_bytes();
        self.counters.bytes_in += input.len() as u64;
        self.counters.messages_in += inbox.messages;
        self.hold(before, after);
        self.hold_context(context, context_after);
        self.serve(id, &inbox, input);
        self.inbox = inbox;
        let served = self
            .clients
            .get(id)
            .map_or(0, |(_, session)| session.held_bytes());
        if (served > before || context_after > context) && self.budget.over() {
            self.refuse_more(id);
        }
        if context_after > context && self.contexts_exceed() {
            self.refuse_context(id);
        }
    }

    /// What is kept of this client's compressed messages finds no memory. It comes back, and finds
    /// permessage-deflate declined.
    fn refuse_context(&mut self, id: ClientId) {
        self.close(
            id,
            CloseCode::TRY_AGAIN,
            "out of websocket_memory for compression",
            Level::Warn,
        );
    }

    /// A growing message, or echoes not taken, find no memory even after those who lag have been
    /// treated.
    pub(super) fn refuse_more(&mut self, id: ClientId) {
        self.enforce_memory();
        if self.budget.over() {
            self.close(
                id,
                CloseCode::TRY_AGAIN,
                "out of websocket_memory",
                Level::Warn,
            );
        }
    }

    /// Messages go where the location says; then the pong; then the end.
    pub(super) fn serve(&mut self, id: ClientId, inbox: &Inbox, input: &mut [u8]) {
        #[cfg(feature = "test-panic")]
        crate::session::panic_if_asked(inbox, input);
        if inbox.messages > 0 {
            self.publish_from(id, inbox, input);
        }
        self.reply(id, inbox, input);
        match &inbox.end {
            None => {}
            Some(End::Close(received)) => {
                let code = received.code.map_or(1005, CloseCode::get);
                self.start_closing(id, &received.reply(), code);
            }
            Some(End::Misbehaved(misbehaved)) => {
                self.counters.protocol_errors += 1;
                self.close(
                    id,
                    misbehaved.close_code(),
                    &misbehaved.to_string(),
                    Level::Info,
                );
            }
        }
    }

    pub(super) fn publish_from(&mut self, id: ClientId, inbox: &Inbox, input: &[u8]) {
        let now = process::now();
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let token = life::token(id, session.life());
        let (Some(channel), Some(broker)) = (session.publish_channel(), session.location.redis)
        else {
            return;
        };
        let broker = &mut self.brokers[usize::from(broker)];
        let mut lost = 0;
        for body in inbox.bodies(input) {
            let link = &mut broker.wire(Role::Publisher).link;
            match link.publish(channel, body, token, now) {
                Ok(()) => broker.unanswered += 1,
                Err(_) => lost += 1,
            }
        }
        self.counters.published += inbox.messages - lost;
        self.turn = true; // all clients' messages of this round go out together
        if lost > 0 {
            self.counters.publish_failed += lost;
            self.close(id, CloseCode::TRY_AGAIN, "redis is away", Level::Info);
        }
    }
}
