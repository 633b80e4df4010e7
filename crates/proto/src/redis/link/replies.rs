//! Replies of the server, and what follows from them.

use std::borrow::Cow;

use super::super::probe::PROBE_PREFIX;
use super::super::resp::{self, Change, Message, Parsed, Reply, Value, Verb, error_code};
use super::super::subscriptions::SubscriptionKind;
use super::event::{Event, LINK_LOST, PROBE_TOKEN, Role, told};
use super::state::{Link, Owed, PROOF_MS, Phase, Step, shift};

impl Link {
    pub(super) fn next_reply(&mut self) -> Step {
        if !matches!(self.phase, Phase::Greeting | Phase::Up { .. }) {
            return Step::Nothing;
        }
        let Some((begin, held)) = self.incoming.held() else {
            return Step::Nothing;
        };
        match resp::parse(held) {
            Ok(Parsed::Partial { need }) => {
                self.incoming.await_more(need);
                Step::Nothing
            }
            Ok(Parsed::Whole { reply, len }) => {
                self.incoming.consume(len);
                self.handle_reply(reply, begin)
            }
            Err(malformed) => {
                self.lose(&malformed.to_string(), true);
                Step::Handled
            }
        }
    }

    /// `begin` is the offset of the reply in the read buffer.
    pub(super) fn handle_reply(&mut self, reply: Reply, begin: usize) -> Step {
        match reply {
            Reply::Message(message) => return self.handle_message(message, begin),
            Reply::Change(change) => self.handle_change(change, begin),
            Reply::Value(Value::Error(text)) => {
                let text = printable(self.incoming.slice(shift(text, begin)));
                self.handle_error(&text);
            }
            Reply::Value(value) => self.handle_value(&value),
        }
        Step::Handled
    }

    pub(super) fn handle_message(&mut self, message: Message, begin: usize) -> Step {
        let name = shift(message.channel, begin);
        let payload = shift(message.payload, begin);
        let pattern = message.pattern.map(|pattern| shift(pattern, begin));
        let found = match &pattern {
            None => self
                .subscriptions
                .find(SubscriptionKind::Channel, self.incoming.slice(name.clone())),
            Some(_) if self.incoming.slice(name.clone()).starts_with(PROBE_PREFIX) => None,
            Some(pattern) => self.subscriptions.find(
                SubscriptionKind::Pattern,
                self.incoming.slice(pattern.clone()),
            ),
        };
        if let Some(channel) = found {
            return Step::Deliver {
                channel,
                name,
                pattern,
                payload,
            };
        }
        if pattern.is_none() && self.incoming.slice(name) == self.probe.channel() {
            self.probe.handle_heard(self.incoming.slice(payload));
        }
        Step::Handled
    }

    pub(super) fn handle_change(&mut self, change: Change, begin: usize) {
        let name = change.name.map(|name| shift(name, begin)).unwrap_or(0..0);
        let name = self.incoming.slice(name);
        match self.owed.front() {
            Some(Owed::ProbeSubscription)
                if change.verb == Verb::Subscribe && name == self.probe.channel() =>
            {
                self.owed.pop_front();
                self.probe.handle_confirmed();
            }
            Some(Owed::Batch) => {
                let events = &mut self.events;
                let mut tell = |outcome| events.push_back(told(outcome, ""));
                match self
                    .subscriptions
                    .handle_change(change.verb, name, &mut tell)
                {
                    Ok(false) => {}
                    Ok(true) => drop(self.owed.pop_front()),
                    Err(_) => self.lose("unexpected reply", true),
                }
                self.note_restored();
            }
            _ => self.lose("unexpected reply", true),
        }
    }

    pub(super) fn handle_value(&mut self, value: &Value) {
        let owed = self.owed.pop_front();
        match (owed, value) {
            (Some(Owed::Auth { .. }), Value::Status(_)) => self.greet(),
            (Some(Owed::Select), Value::Status(_)) => {}
            // A PING is answered by a status, or by ["pong", ""] on a connection with
            // subscriptions.
            (Some(Owed::Greeting | Owed::Pong), Value::Status(_) | Value::Array(_)) => {}
            (Some(Owed::Fence { round }), Value::Status(_) | Value::Array(_)) => {
                self.probe.handle_fence(round);
            }
            (Some(Owed::ClientName), _) => self.come_up(),
            (Some(Owed::Publish { token }), Value::Integer(receivers)) => {
                self.answer(token, Ok(*receivers));
            }
            (None | Some(_), _) => {
                // The publish at the front must not be lost silently.
                owed.into_iter().for_each(|owed| self.owed.push_front(owed));
                self.lose("unexpected reply", true);
            }
        }
    }

    pub(super) fn handle_error(&mut self, text: &str) {
        let code = error_code(text.as_bytes());
        match self.owed.pop_front() {
            // Redis before 6 has no users: its AUTH takes only the password.
            Some(Owed::Auth { with_user: true }) if is_arity_error(text) => {
                self.authenticate(false);
            }
            // A server that does not know AUTH may repeat its arguments, which would put them in
            // the log.
            Some(Owed::Auth { .. }) => self.lose(&self.without_password(text), true),
            Some(Owed::ClientName) => self.come_up(),
            // An ACL may forbid PING, and a master that cannot save answers it with MISCONF:
            // both serve pub/sub.
            Some(Owed::Greeting) if matches!(code, b"NOPERM" | b"MISCONF") => {}
            Some(Owed::Pong) if !is_servers_state(code) => {}
            Some(Owed::Fence { round }) if !is_servers_state(code) => {
                self.probe.handle_fence(round);
            }
            Some(Owed::ProbeSubscription) if code == b"NOPERM" => self.forbid_probe(text),
            Some(Owed::Batch) if code == b"NOPERM" => self.handle_refused_batch(text),
            Some(Owed::Publish { token }) => {
                self.answer(token, Err(text));
                if is_servers_state(code) {
                    self.lose(text, true);
                }
            }
            _ => self.lose(text, true),
        }
    }

    pub(super) fn without_password(&self, text: &str) -> String {
        match self.server.password.as_deref() {
            Some(password) if !password.is_empty() => text.replace(password, "***"),
            _ => text.to_owned(),
        }
    }

    pub(super) fn handle_refused_batch(&mut self, reason: &str) {
        let events = &mut self.events;
        let mut tell = |outcome| events.push_back(told(outcome, reason));
        match self
            .subscriptions
            .handle_refused(self.outgoing.end(), &mut tell)
        {
            Ok(sent) => (0..sent).for_each(|_| self.owe(Owed::Batch)),
            Err(_) => self.lose("unexpected reply", true),
        }
        self.note_restored();
    }

    pub(super) fn forbid_probe(&mut self, reason: &str) {
        self.probe.handle_forbidden();
        if !std::mem::replace(&mut self.is_probe_warned, true) {
            let prefix = String::from_utf8_lossy(PROBE_PREFIX);
            let reason = format!(
                "delivery cannot be probed, allow channels \"{prefix}*\" in the ACL: {reason}"
            );
            self.events.push_back(Event::Warning { reason });
        }
    }

    pub(super) fn answer(&mut self, token: u64, outcome: Result<i64, &str>) {
        self.unanswered_publishes -= usize::from(token != PROBE_TOKEN);
        self.events.push_back(match outcome {
            Ok(receivers) => Event::Published { token, receivers },
            Err(reason) => Event::NotPublished {
                token,
                reason: reason.to_owned(),
            },
        });
    }

    pub(super) fn come_up(&mut self) {
        let now = self.now;
        self.phase = Phase::Up { since: now };
        self.proof_at = now + PROOF_MS;
        let was_down_for = self
            .down_since
            .take()
            .map(|since| now.saturating_sub(since));
        self.events.push_back(Event::Up { was_down_for });
        if self.role == Role::Subscriber {
            let channel = self.probe.channel().clone();
            self.ask(Owed::ProbeSubscription, &[b"SUBSCRIBE", &channel]);
            self.subscriptions.handle_up();
            if !self.subscriptions.misses_any() {
                self.gap_since = None;
            }
        }
    }

    pub(super) fn note_restored(&mut self) {
        if self.subscriptions.take_restored()
            && let Some(since) = self.gap_since.take()
        {
            self.events.push_back(Event::Restored {
                gap_ms: self.now.saturating_sub(since),
            });
        }
    }

    /// Gives up the connection and schedules the next one.
    pub(super) fn lose(&mut self, cause: &str, must_close: bool) {
        let lasted = match self.phase {
            Phase::Up { since } => Some(self.now.saturating_sub(since)),
            Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Greeting => None,
        };
        let away = self
            .down_since
            .map_or(0, |since| self.now.saturating_sub(since));
        self.phase = Phase::Waiting {
            until: self.now + self.backoff.next_delay(lasted, away),
        };
        if self.down_since.is_none() {
            self.down_since = Some(self.now);
            self.events.push_back(Event::Down {
                cause: Cow::Owned(cause.to_owned()),
            });
        }
        if must_close {
            self.events.push_back(Event::Disconnect {
                cause: Cow::Owned(cause.to_owned()),
            });
        }
        for owed in std::mem::take(&mut self.owed) {
            if let Owed::Publish { token } = owed {
                self.answer(token, Err(&format!("{LINK_LOST}: {cause}")));
            }
        }
        let events = &mut self.events;
        self.subscriptions
            .handle_lost(&mut |outcome| events.push_back(told(outcome, "")));
        if self.subscriptions.misses_any() {
            self.gap_since.get_or_insert(self.heard_at);
        }
        self.probe.handle_lost();
        self.incoming.clear();
        self.outgoing.clear();
    }
}

/// The server's error text for a log: one line of bounded length.
fn printable(text: &[u8]) -> String {
    const LONGEST: usize = 256;
    let text = String::from_utf8_lossy(text);
    text.chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Errors about the server or the login, not about the command. Another connection may work,
/// perhaps to another server.
fn is_servers_state(code: &[u8]) -> bool {
    matches!(
        code,
        b"NOAUTH" | b"LOADING" | b"MASTERDOWN" | b"READONLY" | b"CLUSTERDOWN"
    )
}

fn is_arity_error(text: &str) -> bool {
    text.to_ascii_lowercase()
        .contains("wrong number of arguments")
}
