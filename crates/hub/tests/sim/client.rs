//! A virtual client, and the naive model of what it must hear.
//!
//! It knows the whole log of its server, [`Server::log`]. From its 101 on it must hear each entry
//! that matches its names, once, in order. It may miss an entry only where the promises say so: by
//! the policy for slow clients, or by a gap that it is told of.

use std::collections::VecDeque;
use std::rc::Rc;

use fanout::{NameKind, SlowPolicy};
use hub::settings::{Gap, Location};
use proto::payload::Envelope;

use crate::frames::{self, Frame};
use crate::net::{Net, Source, net};
use crate::pipe::Pipe;
use crate::redis::{Publication, Server, matches};
use crate::settings::Ask;

/// The 101, reduced to what these clients need.
pub const HEAD: &[u8] = b"HTTP/1.1 101\r\n\r\n";

/// The state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for the answer.
    Asking,
    /// It has seen its 101.
    Open,
    /// It got another answer, or none.
    Refused(u16),
    /// It has seen the end of the connection.
    Over,
}

pub struct Client {
    pub number: u64,
    /// Its connection.
    pub at: usize,
    pub ask: &'static Ask,
    pub state: State,
    /// It reads and sends by itself.
    pub is_eager: bool,
    pub is_deflated: bool,
    /// When its 101 was decided.
    pub accepted_at: Option<u64>,
    /// When the link was lost while it was subscribed.
    pub gap_since: Option<u64>,
    names: Rc<[(NameKind, Vec<u8>)]>,
    /// Per name, the newest entry that it has heard.
    newest: Vec<Option<usize>>,
    /// How often its socket was full.
    shorts: u64,
    /// From this entry on its policy may skip nothing: the client reads all the time.
    pub reads_from: usize,
    /// The first entry of the log that it must hear.
    pub begins_at: usize,
    /// An entry, and how often it has heard that one. It has heard nothing of later ones.
    next: (usize, usize),
    heard: Vec<u8>,
    /// What it still has to send.
    pub upload: Pipe,
    echoes: VecDeque<Vec<u8>>,
    /// Messages put into its upload.
    pub messages: u64,
    /// Where messages end in all that it sends, and how many have ended there.
    ends: VecDeque<(u64, u64)>,
    uploaded: u64,
    /// Messages that have gone to its socket completely.
    pub sent: u64,
    pub has_misbehaved: bool,
    /// A message is begun but not finished.
    pub is_mid_message: bool,
    pub close_sent: bool,
    pub close_code: Option<u16>,
    /// Messages skipped by its policy.
    pub skipped: u64,
    pub pings: u64,
}

impl Client {
    pub fn new(number: u64, at: usize, ask: &'static Ask) -> Client {
        Client {
            number,
            at,
            ask,
            state: State::Asking,
            is_eager: true,
            is_deflated: false,
            accepted_at: None,
            gap_since: None,
            newest: vec![None; ask.names().len()],
            names: ask.names().into(),
            shorts: 0,
            reads_from: usize::MAX,
            begins_at: 0,
            next: (0, 0),
            heard: Vec::new(),
            upload: Pipe::default(),
            echoes: VecDeque::new(),
            messages: 0,
            ends: VecDeque::new(),
            uploaded: 0,
            sent: 0,
            has_misbehaved: false,
            is_mid_message: false,
            close_sent: false,
            close_code: None,
            skipped: 0,
            pings: 0,
        }
    }

    pub fn location(&self) -> &'static Location {
        self.ask.location
    }

    /// Whether it is still connected, with or without its 101.
    pub fn is_there(&self) -> bool {
        matches!(self.state, State::Asking | State::Open)
    }

    pub fn listens(&self) -> bool {
        !self.names.is_empty()
    }

    /// The 101 was decided. From here on the client must hear everything that is published.
    pub fn accept(&mut self, net: &Net, is_deflated: bool) {
        self.accepted_at = Some(net.clock);
        self.is_deflated = is_deflated;
        self.begins_at = net.servers[self.ask.server()].log.len();
    }

    /// Appends frames to its upload.
    pub fn say(&mut self, frames: &[u8], ends_message: bool) {
        self.upload.push(frames);
        if ends_message {
            self.messages += 1;
            let end = self.uploaded + self.upload.len() as u64;
            self.ends.push_back((end, self.messages));
        }
    }

    /// Notes that an echo is due for what it says.
    pub fn expect_echo(&mut self, payload: Vec<u8>) {
        if self.location().echo {
            self.echoes.push_back(payload);
        }
    }

    /// Sends its upload with its handshake.
    pub fn send_early(&mut self) {
        let mut early = Pipe::default();
        self.uploaded += self.upload.pour(&mut early, usize::MAX) as u64;
        net(|net| net.sockets[self.at].early = early.bytes().to_vec());
        self.note_sent();
    }

    fn note_sent(&mut self) {
        while let Some(&(_, number)) = self.ends.front().filter(|(end, _)| *end <= self.uploaded) {
            self.sent = number;
            self.ends.pop_front();
        }
    }

    /// Sends part of its upload.
    pub fn send(&mut self, most: usize) {
        const KERNEL: usize = 256 << 10;
        net(|net| {
            let socket = &mut net.sockets[self.at];
            if socket.is_fin || socket.is_reset || socket.closed.is_some() {
                return self.upload.clear();
            }
            let room = KERNEL.saturating_sub(socket.up.len());
            let count = self.upload.pour(&mut socket.up, most.min(room));
            if count > 0 {
                self.uploaded += count as u64;
                socket.sent_at = net.clock;
                net.wake(Source::Client(self.at));
            }
        });
        self.note_sent();
    }

    /// Reads part of what was sent to it.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn take(&mut self, most: usize) -> Result<(), String> {
        let (is_over, is_shut, is_lost) = net(|net| {
            let socket = &mut net.sockets[self.at];
            if socket.take(most, &mut self.heard) {
                net.wake(Source::Client(self.at));
            }
            let socket = &net.sockets[self.at];
            self.shorts = socket.shorts;
            let is_over = socket.closed.is_some() && socket.down.is_empty();
            let is_shut = socket.is_shut && socket.down.is_empty();
            (
                is_over,
                is_shut,
                socket.closed.is_some_and(|(_, unread)| unread),
            )
        });
        self.read()?;
        if is_shut && self.close_code.is_some() && !self.close_sent {
            self.close_sent = true;
        }
        if is_over && self.is_there() {
            let before = std::mem::replace(&mut self.state, State::Over);
            // A client that is too slow for its 101 gets no Close.
            if before == State::Open && !self.heard.is_empty() && !is_lost {
                return self.is_cut_off();
            }
        }
        Ok(())
    }

    /// Checks that the connection may have ended within a frame.
    fn is_cut_off(&self) -> Result<(), String> {
        let may_be = net(|net| {
            let socket = &net.sockets[self.at];
            socket.is_abandoned || socket.is_reset || socket.is_fin || net.is_forced
        });
        match may_be {
            true => Ok(()),
            false => Err(self.broken("is cut off within a frame")),
        }
    }

    pub fn broken(&self, how: impl std::fmt::Display) -> String {
        format!("client {} {how}", self.number)
    }

    fn read(&mut self) -> Result<(), String> {
        let heard = std::mem::take(&mut self.heard);
        let mut at = 0;
        if self.state == State::Asking && heard.len() >= HEAD.len() {
            if !heard.starts_with(HEAD) {
                return Err(self.broken("is sent frames before its 101"));
            }
            at = HEAD.len();
            self.state = State::Open;
        }
        while self.state == State::Open && at < heard.len() {
            let read = frames::first(&heard[at..]).map_err(|error| self.broken(error))?;
            let Some((frame, length)) = read else { break };
            at += length;
            self.hear(frame)?;
        }
        self.heard = heard[at..].to_vec();
        Ok(())
    }

    fn hear(&mut self, frame: Frame) -> Result<(), String> {
        if self.close_code.is_some() {
            return Err(self.broken(format!("hears {frame:?} after its Close")));
        }
        if frame.is_compressed && !self.is_deflated {
            return Err(self.broken("gets a compressed frame unasked"));
        }
        match frame.opcode {
            1 | 2 => self.hear_message(&frame.payload),
            8 => self.hear_close(&frame.payload),
            9 => {
                self.pings += 1;
                if self.is_eager && !self.is_mid_message && !self.close_sent {
                    let mut pong = Vec::new();
                    frames::append(&mut pong, 0x8a, self.number as u32, &frame.payload);
                    self.say(&pong, false);
                }
                Ok(())
            }
            10 => Ok(()),
            opcode => Err(self.broken(format!("gets a frame of opcode {opcode}"))),
        }
    }

    fn hear_message(&mut self, payload: &[u8]) -> Result<(), String> {
        if payload.first() == Some(&b'E') {
            return match self.echoes.pop_front() {
                Some(echo) if echo == payload => Ok(()),
                Some(_) => Err(self.broken("gets an echo out of order, or a wrong one")),
                None => Err(self.broken("gets an echo too many")),
            };
        }
        let server = self.ask.server();
        net(|net| {
            let server = &mut net.servers[server];
            let log = std::mem::take(&mut server.log);
            let is_known = self.hear_published(&log, payload, server);
            server.log = log;
            is_known
        })
    }

    /// Finds the first entry with this payload that it has yet to hear. Those before it were
    /// skipped.
    fn hear_published(
        &mut self,
        log: &[Publication],
        payload: &[u8],
        server: &Server,
    ) -> Result<(), String> {
        let (mut at, mut heard) = self.next;
        while at < log.len() {
            let count = self.matching(&log[at]).count();
            if heard < count && self.is_it(&log[at], payload) {
                self.next = (at, heard + 1);
                for (name, (kind, text)) in self.names.iter().enumerate() {
                    if matches(*kind, text, &log[at].channel) {
                        self.newest[name] = Some(at);
                    }
                }
                return Ok(());
            }
            self.leave_out(log, at, count - heard, server)?;
            (at, heard) = (at + 1, 0);
        }
        let text = String::from_utf8_lossy(&payload[..payload.len().min(40)]);
        let is_known = log.iter().any(|entry| *entry.payload == *payload);
        let how = if is_known {
            "twice, or out of order"
        } else {
            "though it was not published so"
        };
        Err(self.broken(format!("hears \"{text}\" {how}")))
    }

    /// The names by which it hears an entry. It hears the entry once for each of them, and it
    /// cannot tell which copy came by which name.
    fn matching<'a>(
        &'a self,
        entry: &'a Publication,
    ) -> impl Iterator<Item = &'a (NameKind, Vec<u8>)> {
        let names = self.names.iter();
        names.filter(|(kind, text)| matches(*kind, text, &entry.channel))
    }

    fn is_it(&self, entry: &Publication, payload: &[u8]) -> bool {
        if self.location().envelope != Some(Envelope::Redis) {
            return *entry.payload == *payload;
        }
        self.matching(entry).any(|(kind, text)| {
            let texts = [text.as_slice(), &entry.channel, &entry.payload];
            let [pattern, channel, data] = texts.map(String::from_utf8_lossy);
            let expected = match kind {
                NameKind::Channel => format!("[\"message\",\"{channel}\",\"{data}\"]"),
                NameKind::Pattern => {
                    format!("[\"pmessage\",\"{pattern}\",\"{channel}\",\"{data}\"]")
                }
            };
            expected.as_bytes() == payload
        })
    }

    /// It has missed an entry `missing` times. Checks that it may.
    fn leave_out(
        &mut self,
        log: &[Publication],
        at: usize,
        missing: usize,
        server: &Server,
    ) -> Result<(), String> {
        if missing == 0 || at < self.begins_at {
            return Ok(());
        }
        let entry = &log[at];
        let lost = self
            .matching(entry)
            .filter(|name| self.was_lost(at, name, server))
            .count();
        let is_slow = self.shorts > 0 && at < self.reads_from;
        let may_skip = self
            .location()
            .slow
            .is_some_and(|policy| policy != SlowPolicy::Close);
        if missing <= lost {
            return Ok(());
        }
        if may_skip && is_slow {
            self.skipped += (missing - lost) as u64;
            return Ok(());
        }
        let text = String::from_utf8_lossy(&entry.payload[..entry.payload.len().min(40)]);
        Err(self.broken(format!("does not hear \"{text}\" ({at})")))
    }

    /// Whether the link was lost after its 101, and this was published before it was subscribed
    /// again.
    fn was_lost(&self, at: usize, (kind, text): &(NameKind, Vec<u8>), server: &Server) -> bool {
        let key = (*kind == NameKind::Pattern, text.clone());
        let since = server.since.get(&key).copied().unwrap_or(usize::MAX);
        self.gap_since.is_some() && at < since
    }

    /// Checks that it has heard all that it must, now that everything is at rest. `is_last`: there
    /// was also time for everything that needs some.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn has_heard_all(&mut self, net: &Net, is_last: bool) -> Result<(), String> {
        let server = &net.servers[self.ask.server()];
        if self.state != State::Open
            || self.close_code.is_some()
            || (server.is_stalled && !is_last)
            || net.sockets[self.at].is_fin
            || net.sockets[self.at].closed.is_some()
            || !self.upload.is_empty()
        {
            return Ok(());
        }
        if is_last || self.location().publish.is_none() || !server.was_troubled {
            self.was_heard(net)?;
        }
        let (begin, mut heard) = self.next;
        for at in begin..server.log.len() {
            let count = self.matching(&server.log[at]).count();
            self.leave_out(&server.log, at, count - heard, server)?;
            heard = 0;
        }
        self.next = (server.log.len(), 0);
        if self.location().slow == Some(SlowPolicy::Latest) && self.gap_since.is_none() {
            self.has_newest(server)?;
        }
        let is_told = matches!(self.location().gap(), Gap::Keep);
        if is_last && self.gap_since.is_some() && !is_told && self.listens() {
            return Err(self.broken("was not told of a gap"));
        }
        Ok(())
    }

    /// Checks that what it has sent was read, and was published or came back.
    fn was_heard(&self, net: &Net) -> Result<(), String> {
        let server = &net.servers[self.ask.server()];
        if !net.sockets[self.at].up.is_empty() {
            return Err(self.broken("is not read"));
        }
        if self.has_misbehaved || self.is_mid_message {
            return Ok(());
        }
        if !self.echoes.is_empty() {
            return Err(self.broken(format!("misses {} echoes", self.echoes.len())));
        }
        let published = server.heard_of.get(&self.number).copied().unwrap_or(0);
        if self.location().publish.is_some() && published < self.sent {
            let sent = self.sent;
            return Err(self.broken(format!(
                "has sent {sent} messages, {published} are published"
            )));
        }
        match server.refused.contains(&self.number) {
            true => Err(self.broken("is not told that a message was refused")),
            false => Ok(()),
        }
    }

    /// Checks a client that has closed and was answered: what it sent before is published, if Redis
    /// worked.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn was_taken_before_its_close(&self, net: &Net) -> Result<(), String> {
        let server = &net.servers[self.ask.server()];
        let was_answered = self.close_sent && matches!(self.close_code, Some(1000 | 1005));
        let published = server.heard_of.get(&self.number).copied().unwrap_or(0);
        let is_due = self.location().publish.is_some() && !server.was_troubled;
        if was_answered && is_due && !self.has_misbehaved && published < self.sent {
            let sent = self.sent;
            return Err(self.broken(format!(
                "had sent {sent} messages, {published} are published"
            )));
        }
        Ok(())
    }

    /// Checks that it has the newest message of each channel, which is what "latest" keeps.
    fn has_newest(&self, server: &Server) -> Result<(), String> {
        for (name, (kind, text)) in self.names.iter().enumerate() {
            let log = server.log.iter().enumerate().skip(self.begins_at);
            let mut its = log.filter(|(_, entry)| matches(*kind, text, &entry.channel));
            let newest = its.next_back().map(|(at, _)| at);
            if newest.is_some_and(|at| self.newest[name].is_none_or(|heard| heard < at)) {
                return Err(self.broken("does not hear the newest of a channel"));
            }
        }
        Ok(())
    }

    fn hear_close(&mut self, payload: &[u8]) -> Result<(), String> {
        let code = match payload {
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 1005,
        };
        self.close_code = Some(code);
        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
        let is_answer = matches!(code, 1000 | 1005) && reason.is_empty();
        if is_answer && !self.has_misbehaved && !self.echoes.is_empty() {
            return Err(self.broken("hears the answer to its Close before echoes"));
        }
        crate::check::close_is_just(self, code, &reason)
            .map_err(|how| self.broken(format!("is closed with {code} \"{reason}\": {how}")))
    }
}
