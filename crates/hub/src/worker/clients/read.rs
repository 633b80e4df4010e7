//! What a client sends.

use fanout::ClientId;

use crate::broker::{Brokers, NotPublished};
use crate::outside::{Clients, Io, Outside, Received};
use crate::session::{Cause, End, Inbox, Kept, Phase, Session, Unpublished, Weight, life, work};
use crate::worker::account::with_client;
use crate::worker::hub::{BUFFER, Hub};

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// The socket has something to read.
    pub fn client_readable(&mut self, id: ClientId) {
        if self.turns.is_free() {
            self.read_client(id);
        } else {
            self.await_turn(id);
        }
    }

    /// Reads a client for at most one turn, unless others wait for the same Redis.
    pub(super) fn read_client(&mut self, id: ClientId) {
        if self.must_queue(id) {
            self.pause(id);
        } else {
            self.read_turn(id);
        }
    }

    /// Reads a client for at most one turn.
    pub(super) fn read_turn(&mut self, id: ClientId) {
        let mut left = work::TURN;
        while left > 0 {
            let Some(work) = self.read_some(id) else {
                return;
            };
            left = left.saturating_sub(work);
            self.turns.spend(work);
        }
        if let Some((io, session)) = self.clients.get(id) {
            session.freeze(&io);
        }
        self.await_turn(id);
    }

    /// Continues with input kept from the last read, or reads once. Returns the work done; `None`
    /// if there is nothing to do now.
    fn read_some(&mut self, id: ClientId) -> Option<usize> {
        let (io, session) = self.clients.get(id)?;
        match session.phase() {
            Phase::Opening | Phase::Lost => return None,
            Phase::Closing if io.plain_fd().is_none() => return None,
            Phase::Closing | Phase::Lingering => {
                self.discard(id);
                return None;
            }
            Phase::Open => {}
        }
        if session.is_paused() {
            return None;
        }
        if !session.has_kept() && !io.is_readable() {
            if !io.want_read() {
                self.lose(id);
            }
            return None;
        }
        if self.is_publisher_congested(id) {
            self.pause(id);
            return None;
        }
        match self.take_kept(id) {
            Some(kept) => Some(self.go_on(id, kept)),
            None => self.receive(id),
        }
    }

    fn receive(&mut self, id: ClientId) -> Option<usize> {
        let (io, session) = self.clients.get(id)?;
        let size = session.read_size(self.buffer.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = io.recv(&mut buffer[..size]);
        let mut work = work::READ;
        if let Received::Bytes(count) = received {
            if count == BUFFER
                && let Some((io, session)) = self.clients.get(id)
            {
                session.freeze(&io);
            }
            self.note_received(id, count);
            let (input, mut at) = (&mut buffer[..count], 0);
            work += self.take_input(id, input, &mut at);
            if at < count {
                self.keep(id, Kept::new(buffer[at..count].to_vec()));
            }
        }
        self.buffer = buffer;
        match received {
            Received::Bytes(_) | Received::Again => Some(work),
            Received::Eof | Received::Failed => {
                self.lose(id);
                None
            }
        }
    }

    fn go_on(&mut self, id: ClientId, mut kept: Box<Kept>) -> usize {
        let work = self.take_input(id, &mut kept.bytes, &mut kept.at);
        if !kept.is_done() {
            self.keep(id, kept);
        }
        work
    }

    /// Keeps input that could not be parsed yet. Nothing more is read before it has been.
    pub(super) fn keep(&mut self, id: ClientId, kept: Box<Kept>) {
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        if !session.is_open() {
            return;
        }
        with_client(&mut self.clients, &mut self.budget, id, |_, session| {
            session.keep(kept);
        });
        if self.budget.over() {
            self.refuse_more(id);
        }
    }

    fn take_kept(&mut self, id: ClientId) -> Option<Box<Kept>> {
        if !self.clients.get(id)?.1.has_kept() {
            return None;
        }
        with_client(&mut self.clients, &mut self.budget, id, |_, session| {
            session.take_kept()
        })?
    }

    pub(super) fn note_received(&mut self, id: ClientId, bytes: usize) {
        self.counters.bytes_in += bytes as u64;
        if let Some((_, session)) = self.clients.get(id) {
            session.note_in(0, bytes as u64);
        }
    }

    /// Parses and serves a client's input, portion by portion, as far as its turn, the space
    /// downstream and the end of its input allow. Returns the work done.
    fn take_input(&mut self, id: ClientId, input: &mut [u8], at: &mut usize) -> usize {
        let mut work = 0;
        loop {
            let begun = *at;
            work += self.take_portion(id, input, at) + (*at - begun);
            if *at == input.len() || work >= work::TURN || !self.may_go_on(id) {
                return work;
            }
        }
    }

    fn may_go_on(&mut self, id: ClientId) -> bool {
        let is_open = |session: &Session| session.is_open() && !session.is_paused();
        let has_room = self
            .clients
            .get(id)
            .is_some_and(|(_, session)| is_open(session));
        has_room && !self.is_publisher_congested(id)
    }

    fn take_portion(&mut self, id: ClientId, input: &mut [u8], at: &mut usize) -> usize {
        let tick = self.session_tick(self.out.now());
        let Some((_, session)) = self.clients.get(id) else {
            return 0;
        };
        if !session.is_open() {
            return 0;
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let before = session.weight();
        let inflater = session.is_inflated().then(|| self.encoders.inflater());
        let work = with_client(&mut self.clients, &mut self.budget, id, |_, session| {
            inbox.fill(session, input, at, inflater);
            session.note_input(inbox.messages, inbox.heard, tick);
            session.note_in(inbox.messages, 0);
            inbox.work(session.compresses_echoes_from())
        });
        let context_after = self.weight_of(id).context;
        self.counters.messages_in += inbox.messages;
        self.serve(id, &inbox, input);
        inbox.empty();
        self.inbox = inbox;
        let has_grown = context_after > before.context;
        if (self.weight_of(id).messages > before.messages || has_grown) && self.budget.over() {
            self.refuse_more(id);
        }
        if has_grown && self.contexts_exceed() {
            self.refuse_context(id);
        }
        work.unwrap_or(0)
    }

    fn weight_of(&mut self, id: ClientId) -> Weight {
        let client = self.clients.get(id);
        client.map_or_else(Weight::default, |(_, session)| session.weight())
    }

    /// There is no memory for the history of this client's compressed messages. It will reconnect,
    /// and then permessage-deflate is declined.
    fn refuse_context(&mut self, id: ClientId) {
        self.report_contexts();
        self.close(id, Cause::CompressionMemory);
    }

    /// There is no memory for a growing message, or for echoes not taken, even after slow clients
    /// have been treated by their policies.
    pub(super) fn refuse_more(&mut self, id: ClientId) {
        self.enforce_memory();
        if self.budget.over() {
            self.close(id, Cause::Memory);
        }
    }

    /// Handles the messages as the location says, then the pong, then the end.
    pub(super) fn serve(&mut self, id: ClientId, inbox: &Inbox, input: &mut [u8]) {
        #[cfg(feature = "test-panic")]
        crate::session::panic_if_asked(inbox, input);
        if inbox.messages > 0 {
            self.publish_from(id, inbox, input);
        }
        self.reply(id, inbox, input);
        match &inbox.end {
            None => {}
            Some(End::Close(received)) => self.close(id, Cause::Client(*received)),
            Some(End::Misbehaved(misbehaved)) => self.close(id, Cause::Misbehaved(*misbehaved)),
        }
    }

    pub(super) fn publish_from(&mut self, id: ClientId, inbox: &Inbox, input: &[u8]) {
        let now = self.out.now();
        let Some((_, session)) = self.clients.get(id) else {
            return;
        };
        let token = life::token(id, session.life());
        let (Some(channel), Some(broker)) = (session.publish_channel(), session.location.redis)
        else {
            return;
        };
        let (mut lost, mut why) = (0, None);
        for body in inbox.bodies(input) {
            let taken = self.brokers.publish(broker, channel, body, token, now);
            if let Err(cause) = taken {
                (lost, why) = (lost + 1, Some(cause));
            }
        }
        self.counters.published += inbox.messages - lost;
        self.turn = true; // all clients' messages of this round go out together
        if let Some(cause) = why {
            self.counters.publish_failed += lost;
            let why = match cause {
                NotPublished::Away => Unpublished::Away,
                NotPublished::QueueFull => Unpublished::QueueFull,
            };
            self.close(id, Cause::NotPublished(why));
        }
    }
}
