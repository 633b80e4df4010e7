//! Log lines that may come often.

use std::collections::HashMap;

/// When each such line was last written.
#[derive(Default)]
pub struct Limits {
    /// By the names of the counters.
    pub(super) refusals: HashMap<&'static str, Throttle>,
    pub(super) not_text: Throttle,
    pub(super) unframed: Throttle,
    pub(super) contexts: Throttle,
    pub(super) not_published: Throttle,
    pub(super) refused: Throttle,
}

/// A line is written at most once in this many milliseconds. nginx's clock lags a few milliseconds,
/// so this is a little more than a second: no two lines show the same second.
const QUIET_MS: u64 = 1_010;

/// A line that may come often. It is written at most once a second.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    written_at: Option<u64>,
    withheld: u64,
}

impl Throttle {
    /// `Some` if the line is due, with the number of lines withheld since the last one.
    pub(super) fn due(&mut self, now: u64) -> Option<u64> {
        if self.written_at.is_some_and(|last| now < last + QUIET_MS) {
            self.withheld += 1;
            return None;
        }
        self.written_at = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }
}

/// The end of a line that stands for this many withheld ones.
pub(super) fn and_more(withheld: u64) -> String {
    match withheld {
        0 => String::new(),
        _ => format!(", and {withheld} more since the last such line"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_many_like_it_were_withheld() {
        assert_eq!(and_more(0), "");
        assert_eq!(and_more(3), ", and 3 more since the last such line");
    }

    #[test]
    fn a_line_is_written_once_a_second_and_what_was_withheld_is_known() {
        let mut throttle = Throttle::default();
        let times = [5_000, 5_000, 6_009, 6_010, 9_000, 9_500, 10_010];
        let due = times.map(|now| throttle.due(now));
        assert_eq!(due, [Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }
}
