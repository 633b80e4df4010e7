//! Limits of the whole worker: connections kept for HTTP, memory, lines in the log.

use std::collections::HashMap;

use fanout::{Category, ChannelId, Furthest};

use crate::nginx::log::{self, Level};
use crate::nginx::{Request, process};
use crate::session::{Phase, Session};
use crate::upgrade::Refused;

use super::Worker;

/// When a line that may come often was last written.
#[derive(Default)]
pub struct Limits {
    /// By the names of their counters.
    refusals: HashMap<&'static str, Throttle>,
    not_text: Throttle,
    unframed: Throttle,
    contexts: Throttle,
    not_published: Throttle,
    refused: Throttle,
    /// Bytes of logs when the round over those who are behind began that an event has cut short.
    round: Option<u64>,
}

/// A line is written at most once in so many milliseconds. nginx's clock is some milliseconds coarse:
/// so no two lines bear the same second.
const QUIET_MS: u64 = 1_010;

/// Clients that one event treats because memory is short.
const TREAT_BUDGET: usize = 1_000;

/// What Redis has brought and not every client was offered: at most this, and at most this part of
/// `websocket_memory`, but always one message.
const MOST_UNOFFERED: u64 = 4 << 20;
const UNOFFERED_PART: u64 = 4;

/// The same in work: a message for so many different lists of channels.
const HEAR_BUDGET: u64 = 50_000;

/// A line that may come often: it is written at most once a second.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    written_at: Option<u64>,
    withheld: u64,
}

impl Throttle {
    /// `Some`: it is to be written now, and so many were withheld since it was written last.
    pub(super) fn due(&mut self, now: u64) -> Option<u64> {
        if self.written_at.is_some_and(|last| now < last + QUIET_MS) {
            self.withheld += 1;
            return None;
        }
        self.written_at = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }
}

impl Worker {
    /// Whether one more client may come in.
    pub(super) fn has_room(&mut self) -> Result<(), Refused> {
        if process::is_exiting() {
            return Err(Refused::Exiting);
        }
        let (total, free) = process::connections();
        if free < self.main.reserved(total) {
            return Err(Refused::Reserve);
        }
        self.account();
        if self.budget.over() {
            return Err(Refused::Memory);
        }
        Ok(())
    }

    /// Contexts of compression may take half of `websocket_memory`: the rest stays for messages.
    fn most_contexts(&self) -> u64 {
        self.budget.limit() / 2
    }

    /// More is kept of clients' compressed messages than there is memory for.
    pub(super) fn contexts_exceed(&self) -> bool {
        self.budget.held(Category::Contexts) > self.most_contexts()
    }

    /// So many bytes more of what clients send compressed may be kept.
    pub(super) fn has_room_for_context(&self, bytes: u64) -> bool {
        self.budget.held(Category::Contexts) + bytes <= self.most_contexts()
    }

    /// Counts a refused handshake; once a second and reason the log tells how many there are. Each
    /// has its own line already, which a log shows at `info` only.
    pub(super) fn note_refused(&mut self, request: Request, refused: Refused) {
        let (name, total) = self.refusals.count(refused);
        let throttle = self.limits.refusals.entry(name).or_default();
        if throttle.due(process::now()).is_none() {
            return;
        }
        let cause = match refused {
            Refused::Reserve => {
                let (all, free) = process::connections();
                format!("{free} of {all} worker_connections are free, see \"websocket_reserve\"")
            }
            Refused::Memory => {
                let (held, limit) = (self.budget.total(), self.budget.limit());
                format!("clients hold {held} bytes of \"websocket_memory\" {limit}")
            }
            other => other.to_string(),
        };
        request.log_to_operator(format_args!(
            "websocket handshakes are refused: {cause} (refused.{name}: {total} so far)"
        ));
    }

    /// The same for a post.
    pub fn note_refused_post(&mut self, request: Request, status: u16) {
        self.refusals.publish += 1;
        let total = self.refusals.publish;
        let throttle = self.limits.refusals.entry("publish").or_default();
        if throttle.due(process::now()).is_some() {
            request.log_to_operator(format_args!(
                "posts to \"websocket_publisher\" are refused: status {status} \
                 (refused.publish: {total} so far)"
            ));
        }
    }

    /// Redis did not take a message, or may not have: counted already.
    pub(super) fn report_not_published(&mut self, reason: &str) {
        if self.limits.not_published.due(process::now()).is_some() {
            let total = self.counters.publish_failed;
            log::cycle(
                Level::Warn,
                format_args!(
                    "message was not published: {reason} (counters.publish_failed: {total} so far)"
                ),
            );
        }
    }

    /// Redis refuses a name, perhaps one of thousands.
    pub(super) fn report_refused(&mut self, channel: ChannelId, reason: &str, now: u64) {
        let Some(withheld) = self.limits.refused.due(now) else {
            return;
        };
        let (_, _, name) = self.registry.name(channel);
        let name = name.escape_ascii();
        let others = match withheld {
            0 => String::new(),
            names => format!(", and so were {names} names since it last said so"),
        };
        log::cycle(
            Level::Error,
            format_args!("redis refuses to subscribe to \"{name}\": {reason}{others}"),
        );
    }

    /// The compression history of clients' messages has taken all the memory that it may.
    pub(super) fn report_contexts(&mut self) {
        if self.limits.contexts.due(process::now()).is_some() {
            let (held, limit) = (self.budget.held(Category::Contexts), self.budget.limit());
            log::cycle(
                Level::Warn,
                format_args!(
                    "compression history of clients' messages holds {held} bytes of \
                     \"websocket_memory\" {limit}: new clients are not compressed"
                ),
            );
        }
    }

    /// Messages were dropped for clients of some form: they are counted, and told.
    pub(super) fn report_dropped(&mut self) {
        let dropped = self.wires.dropped();
        if dropped.not_text > self.counters.not_text {
            self.counters.not_text = dropped.not_text;
            self.tell_not_text(dropped.not_text);
        }
        if dropped.unframed > self.counters.unframed {
            self.counters.unframed = dropped.unframed;
            self.tell_unframed(dropped.unframed);
        }
    }

    fn tell_not_text(&mut self, total: u64) {
        if self.limits.not_text.due(process::now()).is_some() {
            log::cycle(
                Level::Error,
                format_args!(
                    "message dropped for \"websocket_frame text\": it is not UTF-8 ({total} so far)"
                ),
            );
        }
    }

    fn tell_unframed(&mut self, total: u64) {
        let panic = self.wires.take_panic();
        if let Some(panic) = panic
            && self.limits.unframed.due(process::now()).is_some()
        {
            log::cycle(
                Level::Alert,
                format_args!("websocket panic {panic}: a message was dropped ({total} so far)"),
            );
        }
    }

    /// While more is held than `websocket_memory` allows, those furthest behind are treated by their
    /// policies: all of them if it takes that, as several may share what one of them holds.
    pub(super) fn enforce_memory(&mut self) {
        self.account();
        self.cut_off_leaving();
        let mut left = TREAT_BUDGET;
        while self.budget.over() {
            let began_at = self.limits.round.take().unwrap_or_else(|| {
                self.registry.list_those_behind();
                self.registry.log_bytes()
            });
            left = self.treat_those_behind(left);
            if left == 0 {
                self.limits.round = Some(began_at);
                self.turn = true;
                return;
            }
            if self.registry.log_bytes() >= began_at {
                // A whole round, and their policies had nothing to take.
                return;
            }
        }
        self.limits.round = None;
    }

    /// Treats at most `left` of those listed, until less is held than the limit. How many are left?
    fn treat_those_behind(&mut self, mut left: usize) -> usize {
        while self.budget.over() && left > 0 {
            left -= 1;
            match self.registry.furthest_behind() {
                None => return left + 1,
                Some(Furthest::Lags(client)) => {
                    self.registry.treat(client, &mut self.flushed);
                    self.after_flush();
                }
                Some(Furthest::InFrame(client)) => {
                    self.counters.slow_closed += 1;
                    self.cut_off(client);
                }
            }
            self.account();
            self.cut_off_leaving();
        }
        left
    }

    /// Those who have been closed, and have not taken a large frame's rest yet, don't get it while
    /// memory is short: they held it before, and hold it still.
    fn cut_off_leaving(&mut self) {
        while self.budget.over()
            && let Some(client) = self.leaving_in_frame.pop()
        {
            let is_waiting = |(_, session): (_, &mut Session)| session.phase == Phase::Closing;
            if self.clients.get(client).is_some_and(is_waiting) {
                self.cut_off(client);
                self.account();
            }
        }
    }

    /// So much has come from Redis that clients are to be offered it before more is read: only who
    /// was offered something can be found to be slow.
    pub(super) fn has_heard_enough(&mut self) -> bool {
        let (bytes, notes) = self.registry.unoffered();
        notes >= HEAR_BUDGET || bytes > MOST_UNOFFERED.min(self.budget.limit() / UNOFFERED_PART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_a_second_and_what_was_withheld_is_known() {
        let mut throttle = Throttle::default();
        let times = [5_000, 5_000, 6_009, 6_010, 9_000, 9_500, 10_010];
        let due = times.map(|now| throttle.due(now));
        assert_eq!(due, [Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }
}
