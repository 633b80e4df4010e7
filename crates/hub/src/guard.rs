//! Catches a panic and tells where it was and what it said.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics record their place for [`catch`] instead of printing to stderr. Called once per
/// worker.
pub fn install() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PLACE.with_borrow_mut(|noted| *noted = place);
    }));
}

/// A caught panic. `Display` shows its place and message.
#[derive(Debug)]
pub struct Panic {
    place: String,
    message: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.place, self.message)
    }
}

/// Runs `work`. If it panics, what it changed must be sound after each of its steps, or be
/// discarded by the caller.
///
/// # Errors
/// The panic, for the caller to log.
#[inline(always)]
pub fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Panic> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|cause| caught(&*cause))
}

/// Lets `work` append to `out`. If it panics, `out` is as before, and the caller logs the panic.
/// Anything else that `work` changes must be sound after each of its steps.
#[inline(always)]
pub fn append<R>(out: &mut Vec<u8>, work: impl FnOnce(&mut Vec<u8>) -> R) -> Result<R, Panic> {
    let before = out.len();
    let appended = catch(|| work(out));
    if appended.is_err() {
        out.truncate(before);
    }
    appended
}

#[cold]
fn caught(cause: &(dyn Any + Send)) -> Panic {
    Panic {
        place: PLACE.with_borrow_mut(std::mem::take),
        message: message(cause).to_owned(),
    }
}

fn message(cause: &(dyn Any + Send)) -> &str {
    if let Some(text) = cause.downcast_ref::<&str>() {
        text
    } else if let Some(text) = cause.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_has_appended_is_taken_away() {
        let mut out = b"before".to_vec();
        let done = append(&mut out, |out| out.extend_from_slice(b", and more"));
        assert!(done.is_ok());
        for appended in [0, 1, 100_000] {
            let panicked = append::<()>(&mut out, |out| {
                out.resize(out.len() + appended, b'x');
                panic!("with {appended} bytes");
            });
            let told = panicked.expect_err("it panicked").to_string();
            assert!(told.ends_with(&format!("with {appended} bytes")), "{told}");
            assert_eq!(out, b"before, and more");
        }
    }
}
