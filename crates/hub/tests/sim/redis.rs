//! A virtual Redis: pub/sub over RESP2, and its failures.
//!
//! Every message published gets a number, its place in [`Server::log`]. What a client must hear is
//! read from there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fanout::NameKind;
use proto::redis::PROBE_PREFIX;

use crate::net::{Net, Source, net};
use crate::pipe::Pipe;

/// A published message.
pub struct Publication {
    pub channel: Vec<u8>,
    pub payload: Rc<[u8]>,
}

/// The server's side of a connection.
#[derive(Default)]
struct Connection {
    at: usize,
    input: Vec<u8>,
    output: Pipe,
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
}

#[derive(Default)]
pub struct Server {
    pub log: Vec<Publication>,
    connections: Vec<Connection>,
    /// Connections are refused, or not answered.
    pub is_refusing: bool,
    pub is_silent: bool,
    /// Commands are not handled.
    pub is_stalled: bool,
    /// Answers come in pieces of this many bytes; 0: whole.
    pub piece: usize,
    /// Names that the ACL does not allow.
    pub forbidden: BTreeSet<Vec<u8>>,
    /// All names that were ever forbidden.
    pub was_forbidden: BTreeSet<Vec<u8>>,
    /// From which publication on each name is subscribed by the present connection.
    pub since: BTreeMap<(bool, Vec<u8>), usize>,
    /// Size of the kernel's buffer towards it.
    pub room: usize,
    /// It was unavailable for publishers.
    pub was_troubled: bool,
    /// A connection with subscriptions was lost, and nobody has noted it yet.
    pub is_lost: bool,
    /// Per client, by its number, the last of its messages that arrived.
    pub heard_of: BTreeMap<u64, u64>,
    /// Clients that had a message refused.
    pub refused: BTreeSet<u64>,
    /// Numbers of posts that arrived.
    pub posts: BTreeSet<u64>,
}

/// Matches names as Redis's globs do, as far as stars at the end go.
pub fn matches(kind: NameKind, name: &[u8], channel: &[u8]) -> bool {
    match (kind, name.split_last()) {
        (NameKind::Pattern, Some((b'*', prefix))) => channel.starts_with(prefix),
        _ => name == channel,
    }
}

/// The hub connects.
pub fn connected_to(net: &mut Net, at: usize) -> Result<(), String> {
    let server = net.peers[at].server;
    if net.servers[server].is_refusing {
        if at.is_multiple_of(2) {
            return Err("connection refused".to_owned());
        }
        net.peers[at].is_cut = true;
        net.wake(Source::Peer(at));
    } else if !net.servers[server].is_silent {
        let connection = Connection {
            at,
            ..Connection::default()
        };
        net.servers[server].connections.push(connection);
        net.peers[at].is_connected = true;
        net.wake(Source::Peer(at));
    }
    Ok(())
}

/// The hub has closed a connection.
pub fn closed_by_hub(net: &mut Net, at: usize) {
    net.peers[at].is_closed = true;
    net.forget(Source::Peer(at));
    let server = net.peers[at].server;
    net.servers[server].drop_connection(at);
    if net.peers[at].id.0.is_multiple_of(2) {
        net.servers[server].is_lost = true;
    } else {
        net.servers[server].was_troubled = true;
    }
}

/// The server closes a connection after sending `kept` more bytes of its output.
pub fn cut(server: usize, which: usize, kept: usize) {
    net(|net| {
        let there = &mut net.servers[server].connections;
        if there.is_empty() {
            return;
        }
        let which = which % there.len();
        let (at, count) = (there[which].at, there[which].output.len().min(kept));
        let mut output = std::mem::take(&mut there[which].output);
        output.pour(&mut net.peers[at].down, count);
        net.peers[at].is_cut = true;
        net.servers[server].drop_connection(at);
        net.servers[server].was_troubled = true;
        net.wake(Source::Peer(at));
    });
}

/// Forbids a name, and kills all connections that are subscribed to it.
pub fn forbid(server: usize, name: &[u8]) {
    let those = net(|net| {
        let server = &mut net.servers[server];
        server.forbidden.insert(name.to_vec());
        server.was_forbidden.insert(name.to_vec());
        server.was_troubled = true;
        let has = |c: &Connection| c.channels.contains(name) || c.patterns.contains(name);
        let all = server.connections.iter().enumerate();
        all.filter(|(_, c)| has(c))
            .map(|(which, _)| which)
            .collect::<Vec<_>>()
    });
    those
        .into_iter()
        .rev()
        .for_each(|which| cut(server, which, usize::MAX));
}

/// The number of connections.
pub fn connection_count(server: usize) -> usize {
    net(|net| net.servers[server].connections.len())
}

/// Somebody publishes.
pub fn publish(server: usize, channel: &[u8], payload: &[u8]) {
    net(|net| net.servers[server].publish(channel, payload));
}

/// Handles commands and sends output, as far as the server does so at present.
pub fn serve(number: usize) {
    net(|net| {
        let mut server = std::mem::take(&mut net.servers[number]);
        if !server.is_stalled {
            let mut connections = std::mem::take(&mut server.connections);
            for at in 0..connections.len() {
                server.take(net, &mut connections, at);
            }
            for connection in &mut connections {
                server.hand_out(net, connection);
            }
            server.connections = connections;
        }
        net.servers[number] = server;
    });
}

impl Server {
    /// Whether there is output to send.
    pub fn has_output(&self) -> bool {
        let mut all = self.connections.iter();
        !self.is_stalled && all.any(|connection| !connection.output.is_empty())
    }

    /// The server works normally again.
    pub fn heal(&mut self) {
        (self.is_refusing, self.is_silent, self.is_stalled) = (false, false, false);
        self.piece = 0;
        self.forbidden.clear();
    }

    fn drop_connection(&mut self, at: usize) {
        let Some(which) = self.connections.iter().position(|c| c.at == at) else {
            return;
        };
        let gone = self.connections.remove(which);
        for name in gone.channels {
            self.since.remove(&(false, name));
        }
        for name in gone.patterns {
            self.since.remove(&(true, name));
        }
    }

    /// Names that are subscribed, without those of the probes.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let all = self.connections.iter();
        let names = all.flat_map(|c| c.channels.iter().chain(&c.patterns));
        names
            .filter(|name| !name.starts_with(PROBE_PREFIX))
            .cloned()
            .collect()
    }

    fn publish(&mut self, channel: &[u8], payload: &[u8]) {
        let mut connections = std::mem::take(&mut self.connections);
        self.publish_to(&mut connections, channel, payload);
        self.connections = connections;
    }

    fn publish_to(
        &mut self,
        connections: &mut [Connection],
        channel: &[u8],
        payload: &[u8],
    ) -> usize {
        if !channel.starts_with(PROBE_PREFIX) {
            let (channel, payload) = (channel.to_vec(), payload.into());
            self.log.push(Publication { channel, payload });
        }
        let mut receivers = 0;
        for connection in connections {
            if connection.channels.contains(channel) {
                push(&mut connection.output, &[b"message", channel, payload]);
                receivers += 1;
            }
            for pattern in &connection.patterns {
                if matches(NameKind::Pattern, pattern, channel) {
                    push(
                        &mut connection.output,
                        &[b"pmessage", pattern, channel, payload],
                    );
                    receivers += 1;
                }
            }
        }
        receivers
    }

    fn take(&mut self, net: &mut Net, connections: &mut [Connection], at: usize) {
        let peer = connections[at].at;
        let socket = &mut net.peers[peer];
        if !socket.up.is_empty() {
            connections[at].input.extend_from_slice(socket.up.bytes());
            socket.up.clear();
            if socket.has_room_again() {
                net.wake(Source::Peer(peer));
            }
        }
        let input = std::mem::take(&mut connections[at].input);
        let mut done = 0;
        while let Some((words, len)) = command(&input[done..]) {
            done += len;
            self.answer(net, connections, at, &words);
        }
        connections[at].input = input[done..].to_vec();
    }

    fn hand_out(&mut self, net: &mut Net, connection: &mut Connection) {
        const KERNEL: usize = 1 << 20;
        let most = if self.piece == 0 {
            usize::MAX
        } else {
            self.piece
        };
        let socket = &mut net.peers[connection.at];
        let most = most.min(KERNEL.saturating_sub(socket.down.len()));
        if connection.output.pour(&mut socket.down, most) > 0 {
            net.wake(Source::Peer(connection.at));
        }
    }

    fn answer(
        &mut self,
        net: &mut Net,
        connections: &mut [Connection],
        at: usize,
        words: &[&[u8]],
    ) {
        crate::outside::trace_in(net, || {
            let words = words
                .iter()
                .map(|word| String::from_utf8_lossy(&word[..word.len().min(20)]));
            format!("redis is told {}", words.collect::<Vec<_>>().join(" "))
        });
        let connection = &mut connections[at];
        let is_subscribed = !(connection.channels.is_empty() && connection.patterns.is_empty());
        match (words[0], &words[1..]) {
            (b"PING", _) if is_subscribed => push(&mut connection.output, &[b"pong", b""]),
            (b"PING", _) => connection.output.push(b"+PONG\r\n"),
            (b"CLIENT", _) => connection.output.push(b"+OK\r\n"),
            (b"PUBLISH", [channel, payload]) => {
                let is_forbidden = self.forbidden.contains(*channel);
                if is_forbidden {
                    connection.output.push(b"-NOPERM not this channel\r\n");
                    return self.note_refused(payload);
                }
                self.note_origin(net, payload);
                let receivers = self.publish_to(connections, channel, payload);
                let answer = format!(":{receivers}\r\n");
                connections[at].output.push(answer.as_bytes());
            }
            (verb, names) => self.change(net, connection, verb, names),
        }
    }

    /// Notes that a client must be told of this message. Its next one may be published.
    fn note_refused(&mut self, payload: &[u8]) {
        let mut numbers = payload[1..].split(|&byte| byte == b':').map(number);
        if let (b'P', Some(client), Some(message)) = (
            payload[0],
            numbers.next().flatten(),
            numbers.next().flatten(),
        ) {
            self.heard_of.insert(client, message);
            self.refused.insert(client);
        }
    }

    /// Clients' messages begin with `P<client>:<number>:`, posts with `Q<number>:`.
    fn note_origin(&mut self, net: &mut Net, payload: &[u8]) {
        let mut numbers = payload[1..].split(|&byte| byte == b':').map(number);
        match (
            payload[0],
            numbers.next().flatten(),
            numbers.next().flatten(),
        ) {
            (b'P', Some(client), Some(message)) => {
                let before = self.heard_of.insert(client, message).unwrap_or(0);
                if before + 1 != message {
                    net.blame(|| {
                        format!("client {client}'s message {message} is published after {before}")
                    });
                }
            }
            (b'Q', Some(post), _) if !self.posts.insert(post) => {
                net.blame(|| format!("post {post} is published twice"));
            }
            _ => {}
        }
    }

    fn change(&mut self, net: &mut Net, connection: &mut Connection, verb: &[u8], names: &[&[u8]]) {
        let (is_ask, is_pattern) = match verb {
            b"SUBSCRIBE" => (true, false),
            b"PSUBSCRIBE" => (true, true),
            b"UNSUBSCRIBE" => (false, false),
            b"PUNSUBSCRIBE" => (false, true),
            _ => {
                let verb = String::from_utf8_lossy(verb).into_owned();
                return net.blame(|| format!("unknown command {verb}"));
            }
        };
        if is_ask && names.iter().any(|name| self.forbidden.contains(*name)) {
            return connection.output.push(b"-NOPERM this user may not\r\n");
        }
        for &name in names {
            let set = match is_pattern {
                true => &mut connection.patterns,
                false => &mut connection.channels,
            };
            let key = (is_pattern, name.to_vec());
            if is_ask {
                set.insert(name.to_vec());
                self.since.entry(key).or_insert(self.log.len());
            } else {
                set.remove(name);
                self.since.remove(&key);
            }
            let count = connection.channels.len() + connection.patterns.len();
            let verb = verb.to_ascii_lowercase();
            connection.output.push(b"*3\r\n");
            bulk(&mut connection.output, &verb);
            bulk(&mut connection.output, name);
            connection.output.push(format!(":{count}\r\n").as_bytes());
        }
    }
}

fn push(output: &mut Pipe, words: &[&[u8]]) {
    output.push(format!("*{}\r\n", words.len()).as_bytes());
    words.iter().for_each(|word| bulk(output, word));
}

fn bulk(output: &mut Pipe, word: &[u8]) {
    output.push(format!("${}\r\n", word.len()).as_bytes());
    output.push(word);
    output.push(b"\r\n");
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The words of the command at the start of `bytes`, and its length.
fn command(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut at = 0;
    let count = length(bytes, &mut at)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = length(bytes, &mut at)?;
        words.push(bytes.get(at..at + length)?);
        at += length + 2;
    }
    (bytes.len() >= at).then_some((words, at))
}

fn length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let line = bytes.get(*at..)?;
    let end = line.iter().take(24).position(|&byte| byte == b'\r')?;
    line.get(end + 1)?;
    *at += end + 2;
    number(&line[1..end]).map(|length| length as usize)
}
