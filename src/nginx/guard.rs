//! Catches panics before they reach nginx's C code, which would abort the worker with all its
//! clients.

use hub::guard::catch;
use hub::outside::Level;

use super::host::Host;
use super::log;

/// A callback panicked. The `alert` with place and message is already logged.
#[derive(Debug)]
pub struct Panicked;

/// Runs `work`; a panic inside becomes an `alert` and [`Panicked`].
pub(super) fn guard<H: Host, R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch(work).map_err(|panic| {
        log::cycle(Level::Alert, format_args!("{} panic {panic}", H::NAME));
        Panicked
    })
}
