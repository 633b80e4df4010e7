//! Limits of the whole worker: connections kept for HTTP, memory, lines in the log.

use crate::nginx::log::{self, Level};
use crate::nginx::process;
use crate::upgrade::Refused;

use super::Worker;

/// When a line that may come often was last written.
#[derive(Default)]
pub struct Limits {
    warned_at: Option<u64>,
    not_text_at: Option<u64>,
}

/// A line is written at most once in so many milliseconds.
const QUIET_MS: u64 = 1_000;

fn is_time(last: &mut Option<u64>, now: u64) -> bool {
    let due = last.is_none_or(|last| now >= last + QUIET_MS);
    if due {
        *last = Some(now);
    }
    due
}

impl Worker {
    /// Whether one more client may come in.
    pub(super) fn has_room(&mut self) -> Result<(), Refused> {
        if process::is_exiting() {
            return Err(Refused::Exiting);
        }
        let (total, free) = process::connections();
        if free < self.main.reserved(total) {
            self.warn(format_args!(
                "{free} of {total} worker_connections are free: websocket handshakes are refused"
            ));
            return Err(Refused::Reserve);
        }
        self.account();
        if self.budget.over() {
            let (held, limit) = (self.budget.total(), self.budget.limit());
            self.warn(format_args!(
                "websocket clients hold {held} bytes of \"websocket_memory\" {limit}: \
                 handshakes are refused"
            ));
            return Err(Refused::Memory);
        }
        Ok(())
    }

    pub(super) fn warn(&mut self, text: std::fmt::Arguments<'_>) {
        if is_time(&mut self.limits.warned_at, process::now()) {
            log::cycle(Level::Warn, text);
        }
    }

    /// A message that `websocket_frame text` cannot carry was dropped, and counted.
    pub(super) fn report_not_text(&mut self) {
        self.counters.not_text = self.wires.not_text();
        if is_time(&mut self.limits.not_text_at, process::now()) {
            let total = self.counters.not_text;
            log::cycle(
                Level::Error,
                format_args!(
                    "message dropped for \"websocket_frame text\": it is not UTF-8 ({total} so far)"
                ),
            );
        }
    }

    /// While more is held than `websocket_memory` allows, the client furthest behind is treated by
    /// its policy.
    pub(super) fn enforce_memory(&mut self) {
        self.account();
        while self.budget.over() {
            let Some((_, client)) = self.registry.furthest_behind() else {
                return;
            };
            let before = self.registry.log_bytes();
            self.registry.treat(client, &mut self.flushed);
            self.after_flush();
            self.account();
            if self.registry.log_bytes() >= before && self.registry.feed_of(client).is_some() {
                // Its policy has nothing left to take; the others' neither.
                return;
            }
        }
    }
}
