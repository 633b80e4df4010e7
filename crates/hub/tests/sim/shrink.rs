//! Shrinks a failing schedule to a short one that fails in the same way.

use crate::action::Action;
use crate::run::{self, Outcome};

/// The time spent on shrinking a failure.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The kind of a failure: its message without the numbers.
fn kind(outcome: &Outcome) -> Option<String> {
    let wrong = outcome.wrong.as_ref()?;
    Some(
        wrong
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .take(60)
            .collect(),
    )
}

/// Returns a short list of actions that fails in the same way, and its outcome.
pub fn shrink(seed: u64, actions: &[Action]) -> (Vec<Action>, Outcome) {
    let began = std::time::Instant::now();
    let mut actions = actions.to_vec();
    let mut outcome = run::replay(seed, &actions);
    let wanted = kind(&outcome);
    let mut part = actions.len().div_ceil(2);
    while part > 0 && began.elapsed() < PATIENCE {
        let (mut at, mut has_shrunk) = (actions.len(), false);
        while at > 0 {
            let end = at.min(actions.len());
            at = end.saturating_sub(part);
            let rest = [&actions[..at], &actions[end..]].concat();
            let tried = run::replay(seed, &rest);
            if kind(&tried) == wanted {
                (actions, outcome, has_shrunk) = (rest, tried, true);
            }
            if began.elapsed() > PATIENCE {
                break;
            }
        }
        part = if has_shrunk && part == 1 { 1 } else { part / 2 };
    }
    (actions, outcome)
}
