//! Catches panics before they reach nginx's C, which would abort the worker with all its clients.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use super::log::{self, Level};

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A callback panicked; the `alert` with place and message is already logged.
#[derive(Debug)]
pub struct Panicked;

/// Makes panics note their place for [`guard`] instead of printing to stderr. Called once a worker.
pub fn install() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PLACE.with_borrow_mut(|noted| *noted = place);
    }));
}

/// Runs `work`; a panic inside becomes an `alert` and [`Panicked`].
pub fn guard<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|cause| {
        let place = PLACE.with_borrow_mut(std::mem::take);
        log::cycle(
            Level::Alert,
            format_args!("websocket panic at {place}: {}", message(&*cause)),
        );
        Panicked
    })
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
