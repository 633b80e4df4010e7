//! How each action changes a world.

use hub::settings::Service;

use crate::action::Action;
use crate::client::Client;
use crate::frames;
use crate::net::{Socket, Source, Stage, net};
use crate::outside::trace;
use crate::random::Random;
use crate::redis;
use crate::settings::{CHANNELS, SERVERS};
use crate::world::World;

impl World {
    /// Performs an action, then checks what must hold.
    pub fn step(&mut self, action: Action) {
        trace(|| format!("{action:?}"));
        self.act(action);
        self.check();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Event { pick } => {
                self.event(pick);
            }
            Action::Events { most } => self.events(most),
            Action::Flow => self.flow(),
            Action::Settle => {
                self.settle_down(200);
            }
            Action::Wait { ms } => self.wait(u64::from(ms)),
            Action::HoldUp { ms } => net(|net| {
                net.clock += u64::from(ms);
                net.was_held_up = true;
            }),
            Action::Quit => self.quit(),
            Action::Publish { .. }
            | Action::Serve { .. }
            | Action::Cut { .. }
            | Action::Kill { .. }
            | Action::Behave { .. } => self.act_server(action),
            _ => self.act_client(action),
        }
        self.note_gaps();
    }

    fn events(&mut self, most: u32) {
        for pick in 0..most {
            if self.wrong.is_some() || !self.event(pick) {
                break;
            }
            self.check();
        }
    }

    #[rustfmt::skip] // one line each
    fn act_client(&mut self, action: Action) {
        match action {
            Action::Connect { client, ask, room, kind } => self.connect(client, ask, room, kind),
            Action::Say { client, what, size } => self.say(client, what, size as usize),
            Action::Burst { client, what, count } => {
                (0..count).for_each(|_| self.say(client, 63 | what, 10));
            }
            Action::Upload { client, most } => self.with(client, |client| {
                client.send(most as usize);
                Ok(())
            }),
            Action::Take { client, most } => self.with(client, |client| client.take(most as usize)),
            Action::Eager { client, is_eager } => self.with(client, |client| {
                client.is_eager = is_eager;
                Ok(())
            }),
            Action::Fin { client } => self.leave(client, false),
            Action::Reset { client } => self.leave(client, true),
            _ => {}
        }
    }

    #[rustfmt::skip] // one line each
    fn act_server(&mut self, action: Action) {
        match action {
            Action::Publish { server, channel, size, count } => {
                (0..count).for_each(|_| self.publish(server as usize, channel, size as usize));
            }
            Action::Serve { server } => self.serve(server as usize),
            Action::Cut { server, which, kept } => {
                redis::cut(server as usize, which as usize, kept as usize);
            }
            Action::Kill { server } => {
                let count = redis::connection_count(server as usize);
                (0..count).for_each(|_| redis::cut(server as usize, 0, 0));
            }
            Action::Behave { server, how } => self.behave(server as usize, how),
            _ => {}
        }
    }

    fn with(&mut self, number: u32, work: impl FnOnce(&mut Client) -> Result<(), String>) {
        let done = self.client(number).map_or(Ok(()), work);
        self.note(done);
    }

    pub fn note(&mut self, outcome: Result<(), String>) {
        self.wrong = self.wrong.take().or(outcome.err());
    }

    fn client(&mut self, number: u32) -> Option<&mut Client> {
        // Most actions are for the newest clients.
        let mut all = self.clients.iter_mut().rev();
        all.find(|client| client.number == u64::from(number) && client.is_there())
    }

    /// Numbers of clients that can still act.
    pub fn there(&self, into: &mut Vec<u32>) {
        into.clear();
        let there = self.clients.iter().filter(|client| client.is_there());
        into.extend(there.map(|client| client.number as u32));
    }

    pub fn serve(&mut self, server: usize) {
        redis::serve(server);
    }

    pub fn flow(&mut self) {
        (0..SERVERS).for_each(|server| self.serve(server));
        let mut done = Ok(());
        for client in self.clients.iter_mut().filter(|client| client.is_there()) {
            if client.is_eager {
                done = done.and(client.take(usize::MAX));
                client.send(usize::MAX);
                client.go_if_closed();
            }
        }
        self.note(done);
    }

    /// The clock stops at the worker's timer until that has fired. While a round has work, it
    /// advances by some milliseconds at most: a worker that is not held up needs no more.
    fn wait(&mut self, ms: u64) {
        const ROUND_MS: u64 = 5;
        let most = self.timer_in().unwrap_or(u64::MAX);
        net(|net| {
            let most = match net.has_work() {
                true => most.min((net.now + ROUND_MS).saturating_sub(net.clock)),
                false => most,
            };
            net.clock += ms.min(most);
        });
    }

    fn connect(&mut self, number: u32, ask: u32, room: u32, kind: u32) {
        let at = net(|net| {
            let ask = self.profile.ask(ask);
            let at = net.sockets.len();
            let mut socket = Socket::new(ask, kind.is_multiple_of(3), room as usize, net.clock);
            if ask.is_post {
                socket.body = text(&format!("Q{number}:"), kind as usize % 2_000);
            }
            net.sockets.push(socket);
            at
        });
        let ask = self.profile.ask(ask);
        let mut client = Client::new(number.into(), at, ask);
        client.is_eager = !(kind / 3).is_multiple_of(3);
        if !ask.is_post && (kind / 9).is_multiple_of(5) {
            // The client does not wait for the answer.
            client.say_message(1, kind as usize % 300);
            client.send_early();
        }
        self.clients.push(client);
        if net(|net| net.told.is_empty() && net.posted.is_empty()) {
            self.begin_round();
        }
        self.ask(at);
    }

    /// A client says one of the things that clients say, seldom a broken one.
    fn say(&mut self, number: u32, what: u32, size: usize) {
        let Some(client) = self.client(number) else {
            return;
        };
        if client.is_late() || client.ask.is_post {
            return;
        }
        let (kind, mask) = (what % 64, what / 64);
        let mut frame = Vec::new();
        match kind {
            0..=1 => {
                client.close_sent = true;
                let body: &[u8] = if kind == 0 { &[0x03, 0xe8] } else { b"" };
                frames::append(&mut frame, 0x88, mask, body);
                client.say(&frame, false);
            }
            2 => {
                client.has_misbehaved = true;
                let first = [0x83, 0xb1, 0x80, 0x89][mask as usize % 4];
                let fragment = first == 0x89;
                frames::append(&mut frame, if fragment { 0x09 } else { first }, mask, b"no");
                client.say(&frame, false);
            }
            3 => {
                client.has_misbehaved = true;
                let header = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
                client.say(&header, false);
            }
            4..=12 => {
                frames::append(&mut frame, 0x89, mask, &text("ping", size % 100));
                client.say(&frame, false);
            }
            13..=15 => {
                frames::append(&mut frame, 0x8a, mask, b"");
                client.say(&frame, false);
            }
            _ => client.say_message(mask, size),
        }
    }

    fn leave(&mut self, number: u32, is_reset: bool) {
        let Some(client) = self.client(number) else {
            return;
        };
        if is_reset {
            client.state = crate::client::State::Over;
        }
        let at = client.at;
        net(|net| {
            let socket = &mut net.sockets[at];
            if socket.closed.is_none() {
                socket.is_fin = true;
                socket.is_reset |= is_reset;
                net.wake(Source::Client(at));
            }
        });
    }

    pub fn publish(&mut self, server: usize, channel: u32, size: usize) {
        self.published += 1;
        let channel = CHANNELS[channel as usize % CHANNELS.len()];
        let payload = text(&format!("M{}:", self.published), size);
        redis::publish(server, channel.as_bytes(), &payload);
    }

    /// A server begins to refuse, to be silent, to stall, to be slow or to forbid; or it recovers.
    fn behave(&mut self, number: usize, how: u32) {
        let name = CHANNELS[(how / 16) as usize % CHANNELS.len()].as_bytes();
        if how.is_multiple_of(16) {
            return redis::forbid(number, name);
        }
        net(|net| {
            let server = &mut net.servers[number];
            match how % 16 {
                1 => server.is_refusing = true,
                2 => server.is_silent = true,
                3..=4 => server.is_stalled = true,
                5..=6 => server.piece = 1 + how as usize / 16 % 60,
                7 => server.piece = 1 + how as usize / 16 % 9_000,
                _ => server.heal(),
            }
            server.was_troubled = true;
        });
    }

    /// nginx closes idle connections when it is told to quit.
    pub fn quit(&mut self) {
        let was_exiting = net(|net| {
            net.exiting_since = net.now;
            std::mem::replace(&mut net.is_exiting, true)
        });
        if was_exiting {
            return self.force();
        }
        for (_, stage) in stages() {
            if let Stage::Open(id) = stage {
                self.enter(|hub| hub.client_told_to_close(id, false));
            }
        }
    }

    /// `worker_shutdown_timeout` has passed: nginx tells each connection.
    fn force(&mut self) {
        net(|net| net.is_forced = true);
        for (at, stage) in stages() {
            match stage {
                Stage::Open(id) => self.enter(|hub| hub.client_told_to_close(id, true)),
                Stage::Parked(number) => {
                    self.end_connection(at);
                    self.enter(|hub| hub.parked_gone(number));
                }
                Stage::Opening(id) => {
                    self.end_connection(at);
                    self.enter(|hub| hub.client_gone(id));
                }
                Stage::Asking | Stage::Over => {}
            }
        }
        let links = net(|net| net.peers.len());
        for at in 0..links {
            if let Some(id) = net(|net| (!net.peers[at].is_closed).then_some(net.peers[at].id)) {
                self.enter(|hub| hub.peer_told_to_close(id));
            }
        }
    }

    /// Notes which clients must be told that their link was lost.
    pub fn note_gaps(&mut self) {
        let (clock, lost) = net(|net| {
            let lost: Vec<bool> = net
                .servers
                .iter_mut()
                .map(|server| std::mem::take(&mut server.is_lost))
                .collect();
            (net.clock, lost)
        });
        if lost.iter().any(|is_lost| *is_lost) {
            let all = self.clients.iter_mut();
            for client in all.filter(|client| lost[client.ask.server()] && client.listens()) {
                if client.accepted_at.is_some() {
                    client.gap_since.get_or_insert(clock);
                }
            }
        }
    }
}

/// The stages of all connections.
fn stages() -> Vec<(usize, Stage)> {
    net(|net| {
        net.sockets
            .iter()
            .map(|socket| socket.stage)
            .enumerate()
            .collect()
    })
}

/// Text of about `size` bytes that begins with `head`: what it says differs with each head.
pub fn text(head: &str, size: usize) -> Vec<u8> {
    let mut text = head.as_bytes().to_vec();
    let words = [
        b"lorem ".as_slice(),
        b"ipsum ",
        b"dolor ",
        b"sit ",
        b"amet ",
    ];
    let mut random = Random::new(head.len() as u64 + size as u64);
    while text.len() < size {
        text.extend_from_slice(words[random.below(words.len())]);
    }
    text.truncate(size.max(head.len()));
    text
}

impl Client {
    /// It has nothing more to say.
    fn is_late(&self) -> bool {
        self.close_sent || self.close_code.is_some() || self.has_misbehaved
    }

    /// Says a message, whole or in fragments, compressed or not, as its location allows.
    fn say_message(&mut self, mask: u32, size: usize) {
        let location = self.location();
        if location.service != Some(Service::WebSocket) || self.is_mid_message {
            return;
        }
        if size as u64 > location.limits().max_message {
            self.has_misbehaved = true;
        }
        let head = match location.publish {
            Some(_) => format!("P{}:{}:", self.number, self.messages + 1),
            None => format!("E{}:{}:", self.number, self.messages + 1),
        };
        let payload = text(&head, size);
        let is_compressed = self.is_deflated && mask.is_multiple_of(2);
        let body = if is_compressed {
            frames::stored(&payload)
        } else {
            payload.clone()
        };
        let bits = if is_compressed { 0x40 } else { 0 };
        let mut frame = Vec::new();
        if mask.is_multiple_of(5) {
            let (first, second) = body.split_at(body.len() / 2);
            frames::append(&mut frame, 0x01 | bits, mask, first);
            if mask.is_multiple_of(3) {
                frames::append(&mut frame, 0x89, mask, b"between");
            }
            frames::append(&mut frame, 0x80, mask, second);
        } else {
            frames::append(&mut frame, 0x81 | bits, mask, &body);
        }
        if !self.has_misbehaved {
            self.expect_echo(payload);
        }
        self.say(&frame, true);
    }

    /// Sends its FIN once it has seen the server's FIN and its own Close is out.
    fn go_if_closed(&mut self) {
        net(|net| {
            let socket = &mut net.sockets[self.at];
            let is_done = socket.is_shut && socket.down.is_empty() && self.upload.is_empty();
            if is_done && !socket.is_fin && socket.closed.is_none() {
                socket.is_fin = true;
                net.wake(Source::Client(self.at));
            }
        });
    }
}
