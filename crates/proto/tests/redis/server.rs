//! A Redis that knows pub/sub and errors, and handles its commands strictly in order.

use std::collections::{BTreeMap, BTreeSet};

/// One connection's side of the server.
#[derive(Default)]
pub struct FakeRedis {
    unread: Vec<u8>,
    /// Replies in transit to the link.
    pub replies: Vec<u8>,
    pub channels: BTreeSet<Vec<u8>>,
    pub patterns: BTreeSet<Vec<u8>>,
    /// Names that the ACL does not allow.
    pub forbidden: BTreeSet<Vec<u8>>,
    /// Commands, by name, that are answered with an error.
    pub errors: BTreeMap<&'static str, &'static str>,
    /// All commands taken so far, as words.
    pub log: Vec<Vec<Vec<u8>>>,
    /// The answer to `PUBLISH`.
    pub receivers: i64,
}

impl FakeRedis {
    /// Bytes arrive from the link. They are not handled yet.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Handles one command, if a whole one has arrived.
    pub fn take_command(&mut self) -> bool {
        let Some((words, len)) = command(&self.unread) else {
            return false;
        };
        self.unread.drain(..len);
        self.log.push(words.clone());
        self.answer(&words);
        true
    }

    /// Somebody else publishes. Returns whether this connection gets the message.
    pub fn publish(&mut self, channel: &[u8], payload: &[u8]) -> bool {
        let is_subscribed = self.channels.contains(channel);
        if is_subscribed {
            self.push(&[b"message", channel, payload]);
        }
        let matching = |pattern: &&Vec<u8>| match pattern.split_last() {
            Some((b'*', prefix)) => channel.starts_with(prefix),
            _ => pattern.as_slice() == channel,
        };
        let patterns: Vec<_> = self.patterns.iter().filter(matching).cloned().collect();
        for pattern in &patterns {
            self.push(&[b"pmessage", pattern, channel, payload]);
        }
        is_subscribed || !patterns.is_empty()
    }

    /// The commands named `name` taken so far.
    pub fn taken(&self, name: &str) -> Vec<&[Vec<u8>]> {
        let is_named = |words: &&Vec<Vec<u8>>| words[0] == name.as_bytes();
        self.log
            .iter()
            .filter(is_named)
            .map(|words| &words[1..])
            .collect()
    }

    fn answer(&mut self, words: &[Vec<u8>]) {
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        if let Some(error) = self.errors.get(name.as_str()) {
            return self.say(error);
        }
        match name.as_str() {
            "PING" if self.channels.is_empty() && self.patterns.is_empty() => self.say("+PONG"),
            "PING" => self.push(&[b"pong", b""]),
            "AUTH" | "SELECT" | "CLIENT" => self.say("+OK"),
            "PUBLISH" => self.say(&format!(":{}", self.receivers)),
            "SUBSCRIBE" | "PSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" => {
                self.change(&name.to_ascii_lowercase(), &words[1..]);
            }
            _ => self.say("-ERR unknown command"),
        }
    }

    fn change(&mut self, verb: &str, names: &[Vec<u8>]) {
        let is_ask = !verb.contains("un");
        if is_ask && names.iter().any(|name| self.forbidden.contains(name)) {
            return self.say("-NOPERM this user has no permissions to access one of the channels");
        }
        for name in names {
            let set = match verb.starts_with('p') {
                true => &mut self.patterns,
                false => &mut self.channels,
            };
            match is_ask {
                true => set.insert(name.clone()),
                false => set.remove(name),
            };
            let count = self.channels.len() + self.patterns.len();
            self.say(&format!(
                "*3\r\n${}\r\n{verb}\r\n${}",
                verb.len(),
                name.len()
            ));
            self.replies.extend_from_slice(name);
            self.say(&format!("\r\n:{count}"));
        }
    }

    fn push(&mut self, words: &[&[u8]]) {
        let words: Vec<_> = words.iter().map(|word| word.to_vec()).collect();
        self.replies.extend(redis::pack_command(&words));
    }

    /// Sends a line, valid or not.
    pub fn say(&mut self, line: &str) {
        self.replies.extend_from_slice(line.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
    }
}

/// The words of the command at the start of `bytes`, and its length.
fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let count = length(bytes, &mut at, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = length(bytes, &mut at, b'$')?;
        words.push(bytes.get(at..at + length)?.to_vec());
        at += length + 2;
        (bytes.len() >= at).then_some(())?;
        assert_eq!(&bytes[at - 2..at], b"\r\n");
    }
    Some((words, at))
}

fn length(bytes: &[u8], at: &mut usize, mark: u8) -> Option<usize> {
    let line = bytes.get(*at..)?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(
        line[0],
        mark,
        "no RESP command: {:?}",
        String::from_utf8_lossy(line)
    );
    *at += end + 2;
    Some(str::from_utf8(&line[1..end]).unwrap().parse().unwrap())
}
