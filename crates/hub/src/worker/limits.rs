//! Limits of the whole worker: connections kept for HTTP, memory, log lines.

use fanout::{Category, ChannelId, Furthest};

use crate::broker::Brokers;
use crate::outside::{Clients, HttpRequest, Level, Outside};
use crate::session::{Cause, Phase, Session};
use crate::upgrade::Refused;

use super::hub::Hub;
use super::throttle::and_more;

/// Clients treated in one event while memory is short.
const TREAT_BUDGET: usize = 1_000;

impl<O: Outside, B: Brokers<O>> Hub<O, B> {
    /// Whether one more client may be accepted.
    pub(super) fn has_room(&mut self) -> Result<(), Refused> {
        if self.out.is_exiting() {
            return Err(Refused::Exiting);
        }
        let (total, free) = self.out.connections();
        if free < self.main.reserved(total) {
            return Err(Refused::Reserve);
        }
        self.account();
        if self.budget.over() {
            return Err(Refused::Memory);
        }
        Ok(())
    }

    /// The compression history may take half of `websocket_memory`. The rest is left for messages.
    fn most_contexts(&self) -> u64 {
        self.budget.limit() / 2
    }

    /// Whether the compression history of clients' messages takes more memory than it may.
    pub(super) fn contexts_exceed(&self) -> bool {
        self.budget.held(Category::Contexts) > self.most_contexts()
    }

    /// Whether the compression history may take this many bytes more.
    pub(super) fn has_room_for_context(&self, bytes: u64) -> bool {
        self.budget.held(Category::Contexts) + bytes <= self.most_contexts()
    }

    /// Counts a refused handshake. The log shows the count, at most once a second for each reason:
    /// the line that every refusal has of its own is shown only at level `info`.
    pub(super) fn note_refused(&mut self, request: O::Request, refused: Refused) {
        let (name, total) = self.refusals.count(refused);
        let throttle = self.limits.refusals.entry(name).or_default();
        if throttle.due(self.out.now()).is_none() {
            return;
        }
        let cause = match refused {
            Refused::Reserve => {
                let (all, free) = self.out.connections();
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

    /// Counts a refused post, and logs it as a handshake is logged.
    pub fn note_refused_post(&mut self, request: O::Request, status: u16) {
        self.refusals.publish += 1;
        let total = self.refusals.publish;
        let throttle = self.limits.refusals.entry("publish").or_default();
        if throttle.due(self.out.now()).is_some() {
            request.log_to_operator(format_args!(
                "posts to \"websocket_publisher\" are refused: status {status} \
                 (refused.publish: {total} so far)"
            ));
        }
    }

    /// Logs that Redis did not take a message, or may not have. The caller has counted it.
    pub(super) fn report_not_published(&mut self, reason: &str) {
        if self.limits.not_published.due(self.out.now()).is_some() {
            let total = self.counters.publish_failed;
            self.out.log(
                Level::Warn,
                format_args!(
                    "message was not published: {reason} (counters.publish_failed: {total} so far)"
                ),
            );
        }
    }

    /// Logs that Redis refused a subscription, perhaps one of thousands.
    pub(super) fn report_refused(&mut self, channel: ChannelId, reason: &str, now: u64) {
        let Some(withheld) = self.limits.refused.due(now) else {
            return;
        };
        let (_, _, name) = self.registry.name(channel);
        let name = name.escape_ascii();
        let more = and_more(withheld);
        self.out.log(
            Level::Error,
            format_args!("redis refuses to subscribe to \"{name}\": {reason}{more}"),
        );
    }

    /// Logs that the compression history of clients' messages has taken all the memory that it may.
    pub(super) fn report_contexts(&mut self) {
        if self.limits.contexts.due(self.out.now()).is_some() {
            let (held, limit) = (self.budget.held(Category::Contexts), self.budget.limit());
            self.out.log(
                Level::Warn,
                format_args!(
                    "compression history of clients' messages holds {held} bytes of \
                     \"websocket_memory\" {limit}: new clients are not compressed"
                ),
            );
        }
    }

    /// Counts and logs messages that could not be framed for some of their clients.
    pub(super) fn report_dropped(&mut self) {
        let dropped = self.encoders.dropped();
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
        if self.limits.not_text.due(self.out.now()).is_some() {
            self.out.log(
                Level::Error,
                format_args!(
                    "message dropped for \"websocket_frame text\": it is not UTF-8 ({total} so far)"
                ),
            );
        }
    }

    fn tell_unframed(&mut self, total: u64) {
        let panic = self.encoders.take_panic();
        if let Some(panic) = panic
            && self.limits.unframed.due(self.out.now()).is_some()
        {
            self.out.log(
                Level::Alert,
                format_args!("websocket panic {panic}: a message was dropped ({total} so far)"),
            );
        }
    }

    /// Sets the registry's clock, which tells it which clients have stopped reading.
    pub(super) fn tell_time(&mut self) {
        // It may wrap: no client is behind for weeks.
        self.registry.tell_time(self.out.now() as u32);
    }

    /// While more is held than `websocket_memory` allows, treats clients by their policies, those
    /// furthest behind first. That may reach all of them: what one client holds, others may hold,
    /// too.
    pub(super) fn enforce_memory(&mut self) {
        self.tell_time();
        self.account();
        self.cut_off_leaving();
        let mut left = TREAT_BUDGET;
        while self.budget.over() {
            if left == 0 {
                // The next turn continues.
                self.turn = true;
                return;
            }
            left -= 1;
            let Some(furthest) = self.registry.furthest_behind() else {
                return;
            };
            self.treat(furthest);
            self.account();
            self.cut_off_leaving();
        }
        self.registry.end_shortage();
    }

    fn treat(&mut self, furthest: Furthest) {
        match furthest {
            Furthest::Lags(client) => {
                self.registry.treat(client, &mut self.flushed);
                self.after_flush();
            }
            Furthest::InFrame(client) => {
                self.count_cause(Cause::CutOff);
                self.cut_off(client);
            }
        }
    }

    /// Clients that were closed within a large frame still hold its rest. While memory is short,
    /// they are cut off before it is sent.
    fn cut_off_leaving(&mut self) {
        while self.budget.over()
            && let Some(client) = self.leaving_in_frame.pop()
        {
            let is_waiting = |(_, session): (_, &mut Session)| session.phase() == Phase::Closing;
            if self.clients.get(client).is_some_and(is_waiting) {
                self.cut_off(client);
                self.account();
            }
        }
    }
}
