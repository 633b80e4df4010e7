//! The one generic path from nginx's callbacks to the host's safe methods, and back.
//!
//! A panic costs whatever it may have left half done:
//! - if the host catches it itself, only what the host was doing then;
//! - in a client's own event ([`run_client`]), that client: [`Host::client_panicked`] repairs what
//!   it shared with others;
//! - anywhere else ([`run`]), the worker: the state that all clients share may be inconsistent, and
//!   nothing can prove otherwise. nginx starts another worker at once, and the clients reconnect.

use std::cell::Cell;

use hub::outside::{ClientId, Level};
use nginx_sys::{ngx_connection_t, ngx_event_t};

use super::guard::{Panicked, guard};
use super::host::Host;
use super::timer::Timer;
use super::{log, process};

/// Sets this process's host. Called once, by `init_process`.
pub(super) fn install<H: Host>(host: H) {
    let slot = H::slot();
    // SAFETY: `init_process` runs before any event.
    unsafe {
        *slot.timer.get() = Some(Timer::new(on_timer::<H>, on_turn::<H>));
        *slot.host.get() = Some(Box::new(host));
    }
    run("start", H::start);
}

/// Removes the host. Called once, by `exit_process`.
pub(super) fn uninstall<H: Host>() {
    // A panic while clients are told must not keep the process from exiting.
    let _ = guard::<H, _>(|| lend(H::stop));
    let slot = H::slot();
    // SAFETY: `exit_process` runs after the last event, and nothing is lent.
    unsafe {
        *slot.host.get() = None;
        *slot.timer.get() = None;
    }
}

/// Lends the host to `work`. `None`: this process has none, or it is already lent.
fn lend<H: Host, R>(work: impl FnOnce(&mut H) -> R) -> Option<R> {
    struct Return<'a>(&'a Cell<bool>);
    impl Drop for Return<'_> {
        fn drop(&mut self) {
            self.0.set(false);
        }
    }
    let slot = H::slot();
    if slot.lent.replace(true) {
        let line = format_args!("{} worker entered twice", H::NAME);
        log::cycle(Level::Alert, line);
        return None;
    }
    let _return = Return(&slot.lent);
    // SAFETY: `lent` makes this the only reference; one thread.
    let host = unsafe { &mut *slot.host.get() };
    host.as_deref_mut().map(work)
}

/// Lends the host to `work`, then performs the effects that `work` left, and sets the timer.
///
/// # Errors
/// `work` panicked: it returned nothing. Its effects up to then were performed.
pub(super) fn enter<H: Host, R>(work: impl FnOnce(&mut H) -> R) -> Result<Option<R>, Panicked> {
    let result = guard::<H, _>(|| lend(|host: &mut H| (work(host), host.is_settled())));
    let result = match result {
        Ok(Some((value, true))) => return Ok(Some(value)),
        Ok(done) => Ok(done.map(|(value, _)| value)),
        Err(panicked) => Err(panicked),
    };
    let slot = H::slot();
    if !slot.performing.replace(true) {
        while let Some(effect) = lend(H::next_effect).flatten() {
            if guard::<H, _>(|| H::perform(effect)).is_err() {
                end_after_panic::<H>("effects");
            }
        }
        slot.performing.set(false);
        settle::<H>();
    }
    result
}

/// As [`enter`], for events that are not of one client: a panic ends the worker.
pub(super) fn run<H: Host, R>(what: &str, work: impl FnOnce(&mut H) -> R) -> Option<R> {
    enter(work).unwrap_or_else(|_| {
        end_after_panic::<H>(what);
        None
    })
}

fn end_after_panic<H: Host>(what: &str) {
    let line = format_args!("{} worker ends after a panic in its {what}", H::NAME);
    log::cycle(Level::Alert, line);
    process::terminate();
}

/// As [`enter`], for the event of one client: a panic costs that client only.
pub(super) fn run_client<H: Host>(client: ClientId, work: impl FnOnce(&mut H)) {
    if enter(work).is_err() {
        run("clients", |host: &mut H| host.client_panicked(client));
    }
}

/// Sets the timer and the posted event as the host wants.
fn settle<H: Host>() {
    let Some(wants) = lend(H::wants).flatten() else {
        return;
    };
    // SAFETY: only `install`, `uninstall` and this function touch the timer; none calls another.
    if let Some(timer) = unsafe { &mut *H::slot().timer.get() } {
        timer.set(wants);
    }
}

/// See [`super::listening::Listeners::set_nodelay`].
///
/// # Safety
/// As there.
pub(super) unsafe fn set_nodelay<H: Host>(c: *mut ngx_connection_t, is_on: bool) {
    // SAFETY: only this function touches them, and it calls nothing that leads back here.
    unsafe { (*H::slot().listeners.get()).set_nodelay(c, is_on) };
}

/// Lends the host to code of this module: effects look up what they are about.
pub(super) fn with<H: Host, R>(work: impl FnOnce(&mut H) -> R) -> Option<R> {
    lend(work)
}

/// The connection that an event belongs to.
pub(super) unsafe fn connection(event: *mut ngx_event_t) -> *mut ngx_connection_t {
    // SAFETY: nginx's connections put themselves in the data of both their events.
    unsafe { (*event).data.cast() }
}

unsafe extern "C" fn on_timer<H: Host>(_event: *mut ngx_event_t) {
    run("timer", |host: &mut H| host.tick(process::now()));
}

unsafe extern "C" fn on_turn<H: Host>(_event: *mut ngx_event_t) {
    run("turn", H::turn);
}
