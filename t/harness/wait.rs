//! Waiting by polling with generous deadlines, without fixed sleeps.

use super::settings::{Flavor, flavor};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for an expected event before it fails.
pub fn patience() -> Duration {
    match flavor() {
        Flavor::Debian | Flavor::Newer => Duration::from_secs(30),
        Flavor::Asan => Duration::from_secs(90),
    }
}

/// Polls until `condition` holds.
///
/// # Panics
/// If it does not within [`patience`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Polls until `value` returns one, and returns it.
///
/// # Panics
/// If it does not within [`patience`].
#[track_caller]
pub fn until_some<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Checks repeatedly during `span` that `condition` does not become true, for what must not happen.
///
/// # Panics
/// If it does.
#[track_caller]
pub fn never(what: &str, span: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(!condition(), "it happened: {what}");
        sleep(Duration::from_millis(5));
    }
}
