//! Events of one client: what it sends, what it is sent, how it ends.

use proto::redis::Role;
use proto::websocket::close::{self, CloseCode};
use proto::websocket::frame::ControlFrame;

use super::Worker;
use crate::nginx::log::Level;
use crate::nginx::{ClientId, Effect, Received, Sent, process};
use crate::session::{Check, End, Inbox, LINGER_MS, Outbox, Phase, TICK_MS};

use fanout::Category;

/// A client is read at most so much in one event.
const READ_BUDGET: usize = 256 << 10;

/// A client is written at most so much in one event.
const WRITE_BUDGET: usize = 1 << 20;

/// Sessions that one timer event looks at.
const CHECK_BUDGET: usize = 1_000;

impl Worker {
    /// The 101 is out and the connection is ours. `early` came with the handshake.
    pub fn client_open(&mut self, id: ClientId, mut early: Vec<u8>) {
        let now = process::now();
        let tick = self.session_tick(now);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        session.phase = Phase::Open;
        session.heard = tick;
        io.set_notsent_lowat(session.location.notsent());
        let check = session.next_check();
        let wants_detach = !io.is_detached();
        self.counters.accepted += 1;
        self.schedule(id, check, wants_detach);
        if self.registry.feed_of(id).is_some() && !self.registry.unmute(id) {
            self.write_client(id);
        }
        if process::is_exiting() {
            self.begin_drain(now);
            self.part_with(id);
            return;
        }
        if !early.is_empty() {
            self.take_input(id, &mut early);
        }
        self.client_readable(id);
    }

    /// Watches a session: at `check`, in ticks, or soon when its request is to be freed later.
    fn schedule(&mut self, id: ClientId, check: Option<u32>, wants_detach: bool) {
        const DETACH_AGAIN_MS: u64 = 1_000;
        let check = check.map(|tick| self.born + u64::from(tick - 1) * TICK_MS);
        let again = wants_detach.then(|| process::now() + DETACH_AGAIN_MS);
        let due = match (check, again) {
            (Some(check), Some(again)) => check.min(again),
            (Some(due), None) | (None, Some(due)) => due,
            (None, None) => return,
        };
        self.watch(id, due);
    }

    /// Sets the session's one deadline.
    pub(super) fn watch(&mut self, id: ClientId, due: u64) {
        self.wheel.schedule(id.0, due);
        self.retime = true;
    }

    /// The socket has something to read.
    pub fn client_readable(&mut self, id: ClientId) {
        let mut read = 0;
        loop {
            let Some((io, session)) = self.clients.get(id) else {
                return;
            };
            match session.phase {
                Phase::Opening => return,
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

    fn is_publisher_congested(&mut self, id: ClientId) -> bool {
        let Some((_, session)) = self.clients.get(id) else {
            return false;
        };
        let (Some(_), Some(broker)) = (session.publish_channel(), session.location.redis) else {
            return false;
        };
        self.brokers[usize::from(broker)].is_congested()
    }

    fn pause(&mut self, id: ClientId) {
        if let Some((_, session)) = self.clients.get(id) {
            session.paused = true;
            self.paused.push(id);
        }
    }

    /// The publisher links have answered: clients that waited for room are read again.
    pub(super) fn resume_reading(&mut self) {
        if self.paused.is_empty() || self.brokers.iter_mut().any(|broker| broker.is_congested()) {
            return;
        }
        for id in std::mem::take(&mut self.paused) {
            if let Some((io, session)) = self.clients.get(id)
                && session.phase == Phase::Open
            {
                session.paused = false;
                io.read_again();
            }
        }
    }

    /// Takes what a client sent apart, and does it.
    fn take_input(&mut self, id: ClientId, input: &mut [u8]) {
        let tick = self.session_tick(process::now());
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if session.phase != Phase::Open {
            return;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let before = session.held_bytes();
        inbox.fill(session, input);
        if inbox.heard {
            session.is_alive(tick);
        }
        session.began = match (session.connection.is_mid_message(), session.began) {
            (false, _) => 0,
            (true, 0) => tick,
            (true, began) => began,
        };
        if let Some(notes) = &mut session.notes {
            notes.bytes_in += input.len() as u64;
            notes.messages_in += inbox.messages;
        }
        let after = session.held_bytes();
        self.counters.bytes_in += input.len() as u64;
        self.counters.messages_in += inbox.messages;
        self.hold(before, after);
        self.serve(id, &inbox, input);
        self.inbox = inbox;
        if after > before && self.budget.over() {
            self.refuse_upload(id);
        }
    }

    /// The memory account's part of one session has changed.
    fn hold(&mut self, before: usize, after: usize) {
        if after > before {
            self.budget
                .take(Category::PartialMessages, (after - before) as u64);
        } else if before > after {
            self.budget
                .give_back(Category::PartialMessages, (before - after) as u64);
        }
    }

    /// A growing message finds no memory, even after those who lag have been treated.
    fn refuse_upload(&mut self, id: ClientId) {
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
    fn serve(&mut self, id: ClientId, inbox: &Inbox, input: &mut [u8]) {
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

    /// Sends pongs and echoes. While the client does not take its pongs, the newest replaces others.
    fn reply(&mut self, id: ClientId, inbox: &Inbox, input: &mut [u8]) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let echo = session.location.echo;
        if let Some(outbox) = &mut session.outbox
            && let Some(pong) = inbox.only_pong(input)
        {
            return outbox.set_pong(pong);
        }
        if echo {
            self.counters.echoed += inbox.messages;
            if let Some(notes) = &mut session.notes {
                notes.messages_out += inbox.messages;
            }
        }
        let mut spare = std::mem::take(&mut self.spare);
        self.send_own(id, inbox.replies(echo, input, &mut spare));
        // One large message must not be paid for forever.
        spare.shrink_to(super::BUFFER);
        self.spare = spare;
    }

    fn publish_from(&mut self, id: ClientId, inbox: &Inbox, input: &[u8]) {
        let now = process::now();
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let (Some(channel), Some(broker)) = (session.publish_channel(), session.location.redis)
        else {
            return;
        };
        let broker = &mut self.brokers[usize::from(broker)];
        let mut lost = 0;
        for body in inbox.bodies(input) {
            let link = &mut broker.wire(Role::Publisher).link;
            match link.publish(channel, body, super::links::CLIENT_TOKEN, now) {
                Ok(()) => broker.unanswered += 1,
                Err(_) => lost += 1,
            }
        }
        self.counters.published += inbox.messages - lost;
        self.turn = true; // all clients' messages of this round go out together
        self.retime = true;
        if lost > 0 {
            self.counters.publish_failed += lost;
            self.close(id, CloseCode::TRY_AGAIN, "redis is away", Level::Info);
        }
    }

    /// Sends frames of the client's own: at once if nothing is before them.
    fn send_own(&mut self, id: ClientId, frames: &[u8]) {
        if frames.is_empty() {
            return;
        }
        let joined = self.registry.feed_of(id).is_some();
        let at_boundary = !joined || self.registry.at_boundary(id);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        if let Some(notes) = &mut session.notes {
            notes.bytes_out += frames.len() as u64;
        }
        let mut rest = frames;
        if session.outbox.is_none() && at_boundary {
            loop {
                match io.send(rest) {
                    Sent::Bytes(count) if count == rest.len() => return,
                    Sent::Bytes(count) => rest = &rest[count..],
                    Sent::Again => break,
                    Sent::Failed => return self.lose(id),
                }
            }
        }
        let before = session.held_bytes();
        let outbox = session.outbox.get_or_insert_default();
        outbox.push(rest);
        session.paused |= outbox.blocks_reading();
        let after = session.held_bytes();
        self.hold(before, after);
        if joined {
            self.registry.hold(id);
        }
        self.write_client(id);
    }

    /// The socket takes more.
    pub fn client_writable(&mut self, id: ClientId) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if matches!(session.phase, Phase::Open | Phase::Closing) {
            self.write_client(id);
        }
    }

    /// Writes what is due to a client that is not current: the frame begun, its own frames, the
    /// rest of its feed.
    pub(super) fn write_client(&mut self, id: ClientId) {
        let mut written = 0;
        loop {
            let joined = self.registry.feed_of(id).is_some();
            let Some((io, session)) = self.clients.get(id) else {
                return;
            };
            let due = if joined {
                self.registry.unsent(id)
            } else {
                None
            };
            if let Some(due) = due {
                let due = &due[..due.len().min(WRITE_BUDGET)];
                match io.send(due) {
                    Sent::Bytes(count) => {
                        written += count;
                        self.registry.sent(id, count, 0);
                    }
                    Sent::Again => {
                        let committed = super::flush::committed(&io, due.len());
                        self.registry.sent(id, 0, committed);
                        return self.await_writable(id, written);
                    }
                    Sent::Failed => return self.lose(id),
                }
            } else if let Some(outbox) = &mut session.outbox {
                match io.send(outbox.unsent()) {
                    Sent::Bytes(count) => {
                        written += count;
                        outbox.written(count);
                        if outbox.unsent().is_empty() {
                            self.outbox_is_empty(id);
                        }
                    }
                    Sent::Again => return self.await_writable(id, written),
                    Sent::Failed => return self.lose(id),
                }
            } else if !joined || self.registry.release(id) || self.registry.unsent(id).is_none() {
                break;
            }
            if written >= WRITE_BUDGET {
                let Some((io, _)) = self.clients.get(id) else {
                    return;
                };
                io.write_again();
                break;
            }
        }
        self.note_progress(id, written);
    }

    fn await_writable(&mut self, id: ClientId, written: usize) {
        self.note_progress(id, written);
        if let Some((io, _)) = self.clients.get(id)
            && !io.want_write()
        {
            self.lose(id);
        }
    }

    /// Bytes went past a socket buffer that had been full: the client reads.
    fn note_progress(&mut self, id: ClientId, written: usize) {
        let tick = self.session_tick(process::now());
        if written > 0
            && let Some((_, session)) = self.clients.get(id)
        {
            session.heard = tick;
        }
    }

    /// The client's own frames are out: it is read again, or, after its Close, shut.
    fn outbox_is_empty(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        let before = session.held_bytes();
        session.outbox = None;
        let after = session.held_bytes();
        let closing = session.phase == Phase::Closing;
        if session.paused && !self.paused.contains(&id) {
            session.paused = false;
            io.read_again();
        }
        self.hold(before, after);
        if closing {
            self.linger(id);
        }
    }

    /// Closes a session for a reason of ours.
    pub(super) fn close(&mut self, id: ClientId, code: CloseCode, reason: &str, level: Level) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        if session.phase != Phase::Open {
            return;
        }
        io.log(
            level,
            format_args!("websocket closed with {}: {reason}", code.get()),
        );
        self.start_closing(id, &close::frame(code, reason), code.get());
    }

    /// The one road to the end: out of the registry, Close, shutdown, discard, gone.
    fn start_closing(&mut self, id: ClientId, frame: &[u8], code: u16) {
        let now = process::now();
        let mut begun = Vec::new();
        if self.registry.feed_of(id).is_some() {
            self.note_delivered(id);
            self.registry.rest_of_frame(id, &mut begun);
            self.leave_feed(id);
        }
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if session.phase != Phase::Open {
            return;
        }
        let before = session.held_bytes();
        session.phase = Phase::Closing;
        session.close_code = code;
        let outbox = session
            .outbox
            .get_or_insert_with(|| Box::new(Outbox::default()));
        outbox.forget_pong();
        if !begun.is_empty() {
            outbox.put_first(&begun);
        }
        outbox.push(frame);
        let after = session.held_bytes();
        self.hold(before, after);
        self.watch(id, now + LINGER_MS);
        self.write_client(id);
    }

    /// Keeps what the feed has sent, for the log, before the client leaves it.
    fn note_delivered(&mut self, id: ClientId) {
        let Some((messages, bytes)) = self.registry.delivered(id) else {
            return;
        };
        if let Some((_, session)) = self.clients.get(id)
            && let Some(notes) = &mut session.notes
        {
            notes.messages_out += messages;
            notes.bytes_out += bytes;
        }
    }

    /// The Close is out.
    fn linger(&mut self, id: ClientId) {
        let due = process::now() + LINGER_MS;
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        session.phase = Phase::Lingering;
        io.shutdown();
        // The buffer may be in use now: what is there already is dropped in the next round.
        io.read_again();
        self.watch(id, due);
    }

    /// Drops what a closing client still sends.
    fn discard(&mut self, id: ClientId) {
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        match io.discard(&mut self.buffer, READ_BUDGET) {
            Received::Again => {
                if !io.want_read() {
                    self.effects.push_back(Effect::Close(id));
                }
            }
            Received::Bytes(_) => io.read_again(),
            Received::Eof if session.phase == Phase::Closing => {}
            Received::Eof | Received::Failed => self.effects.push_back(Effect::Close(id)),
        }
    }

    /// The connection is broken, or the client has gone without a Close.
    pub(super) fn lose(&mut self, id: ClientId) {
        self.note_delivered_if_joined(id);
        self.leave_feed(id);
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if session.close_code == 0 {
            session.close_code = 1006;
        }
        // Nothing more is read, written or told, until the effect ends it.
        session.phase = Phase::Opening;
        self.effects.push_back(Effect::Close(id));
    }

    fn note_delivered_if_joined(&mut self, id: ClientId) {
        if self.registry.feed_of(id).is_some() {
            self.note_delivered(id);
        }
    }

    fn leave_feed(&mut self, id: ClientId) {
        let mut emptied = std::mem::take(&mut self.emptied);
        self.registry.leave(id, &mut emptied);
        for channel in emptied.drain(..) {
            self.unsubscribe_unless_wanted(channel);
        }
        self.emptied = emptied;
    }

    /// The client's seat is free from here on.
    pub fn client_gone(&mut self, id: ClientId) {
        self.leave_feed(id);
        self.wheel.cancel(id.0);
        let Some(session) = self.clients.remove(id) else {
            return;
        };
        self.hold(session.held_bytes(), 0);
        if session.paused {
            self.paused.retain(|&other| other != id);
        }
        self.counters.closed += 1;
        self.retime = true;
    }

    /// A panic in its event: that client is closed, the others go on.
    pub fn client_panicked(&mut self, id: ClientId) {
        self.counters.panics += 1;
        if self.buffer.is_empty() {
            self.buffer = vec![0; super::BUFFER];
        }
        self.close(id, CloseCode::INTERNAL, "internal error", Level::Error);
    }

    /// nginx's graceful quit (once), or `worker_shutdown_timeout` (`forced`).
    pub fn client_told_to_close(&mut self, id: ClientId, forced: bool) {
        if forced {
            self.lose(id);
        } else {
            self.begin_drain(process::now());
        }
    }

    /// The wheel: liveness, closes that are due, closing that takes too long.
    pub(super) fn look_at_due_sessions(&mut self, now: u64) {
        let mut due = std::mem::take(&mut self.due);
        if self.wheel.expire(now, CHECK_BUDGET, &mut due) {
            self.turn = true;
        }
        for id in due.drain(..) {
            self.look_at(ClientId(id), now);
        }
        self.due = due;
    }

    fn look_at(&mut self, id: ClientId, now: u64) {
        let tick = self.session_tick(now);
        let Some((io, session)) = self.clients.get(id) else {
            return;
        };
        match session.phase {
            Phase::Opening => return self.watch(id, now + LINGER_MS),
            Phase::Closing | Phase::Lingering => return self.effects.push_back(Effect::Close(id)),
            Phase::Open => {}
        }
        if session.leaving {
            return self.part_with(id);
        }
        let wants_detach =
            !io.is_detached() && session.location.detach() != crate::nginx::client::Detach::Off;
        match session.check(tick) {
            Check::Alive => {}
            Check::Ping => {
                session.pinged = true;
                if session.outbox.is_none() {
                    self.send_own(id, &ControlFrame::ping(b""));
                }
            }
            Check::Silent => {
                self.counters.timed_out += 1;
                return self.close(id, CloseCode::GOING_AWAY, "client is silent", Level::Info);
            }
            Check::Unfinished => {
                self.counters.timed_out += 1;
                let reason = "message is not finished in time";
                return self.close(id, CloseCode::POLICY, reason, Level::Info);
            }
        }
        if wants_detach {
            self.effects.push_back(Effect::Detach(id));
        }
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let check = session.next_check();
        self.schedule(id, check, wants_detach);
    }
}
