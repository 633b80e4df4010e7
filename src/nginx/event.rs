//! The one generic road from nginx's callbacks to the worker's safe methods, and back.
//!
//! What a panic costs is what may be left halfway by it:
//! - while a message from Redis is framed, that message for the clients of that form. `Wires::append`
//!   says why all else is as before;
//! - in a client's own event ([`run_client`]), that client: Close 1011. What it shared with others is
//!   made anew (a buffer, a compressor, a decompressor) or summed up again (the account of memory). A
//!   panic within the registry on its behalf is not told apart;
//! - anywhere else ([`run`]), the worker. A link's parser, the feeds with their logs and cursors between
//!   two steps of a flush, and the seats are all clients', and nothing can show that they are whole: a
//!   cursor off by a byte would tear every later frame. nginx starts another worker at once, and its
//!   clients come back.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;

use hub::answer::{Effect, Outcome, Response};
use hub::http::publish;
use hub::outside::{Level, PeerId};
use hub::upgrade;
use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_http_request_t, ngx_int_t};

use super::client::{self, ClientId};
use super::content;
use super::guard::guard;
use super::listening::Listeners;
use super::log;
use super::process;
use super::request::Request;
use super::timer::Timer;
use crate::module::Hub;

struct Slot {
    worker: UnsafeCell<Option<Box<Hub>>>,
    timer: UnsafeCell<Option<Timer>>,
    listeners: UnsafeCell<Listeners>,
    lent: Cell<bool>,
    performing: Cell<bool>,
}

// SAFETY: nginx's worker handles events in one thread, and this module starts no other.
unsafe impl Sync for Slot {}

static HUB: Slot = Slot {
    worker: UnsafeCell::new(None),
    timer: UnsafeCell::new(None),
    listeners: UnsafeCell::new(Listeners::new()),
    lent: Cell::new(false),
    performing: Cell::new(false),
};

/// Gives this process its worker. Called once, by `init_process`.
pub(super) fn install(worker: Hub) {
    // SAFETY: `init_process` runs before any event.
    unsafe {
        *HUB.timer.get() = Some(Timer::new());
        *HUB.worker.get() = Some(Box::new(worker));
    }
    run("start", Hub::start);
}

/// Ends the worker. Called once, by `exit_process`.
pub(super) fn uninstall() {
    // Clients that cannot be told any more must not keep the process from its end.
    let _ = guard(|| lend(Hub::stop));
    // SAFETY: `exit_process` runs after the last event, and nothing is lent.
    unsafe {
        *HUB.worker.get() = None;
        *HUB.timer.get() = None;
    }
}

/// Lends the worker to `work`. `None`: this process has none, or it is lent already.
fn lend<R>(work: impl FnOnce(&mut Hub) -> R) -> Option<R> {
    struct Return;
    impl Drop for Return {
        fn drop(&mut self) {
            HUB.lent.set(false);
        }
    }
    if HUB.lent.replace(true) {
        log::cycle(Level::Alert, format_args!("websocket worker entered twice"));
        return None;
    }
    let _return = Return;
    // SAFETY: `lent` makes this the only reference; one thread.
    let worker = unsafe { &mut *HUB.worker.get() };
    worker.as_deref_mut().map(work)
}

/// Lends the worker to `work`, then performs the effects that it left, and sets the timer.
///
/// # Errors
/// `work` panicked: nothing was returned, and the effects so far were performed.
pub(super) fn enter<R>(
    work: impl FnOnce(&mut Hub) -> R,
) -> Result<Option<R>, super::guard::Panicked> {
    let result = guard(|| lend(|worker| (work(worker), worker.is_settled())));
    let result = match result {
        Ok(Some((value, true))) => return Ok(Some(value)),
        Ok(done) => Ok(done.map(|(value, _)| value)),
        Err(panicked) => Err(panicked),
    };
    if !HUB.performing.replace(true) {
        while let Some(effect) = lend(Hub::next_effect).flatten() {
            if guard(|| perform(effect)).is_err() {
                end_after_panic("effects");
            }
        }
        HUB.performing.set(false);
        settle();
    }
    result
}

/// As [`enter`], for what is not one client's: a panic in the hub or a link ends the worker.
pub(super) fn run<R>(what: &str, work: impl FnOnce(&mut Hub) -> R) -> Option<R> {
    enter(work).unwrap_or_else(|_| {
        end_after_panic(what);
        None
    })
}

fn end_after_panic(what: &str) {
    log::cycle(
        Level::Alert,
        format_args!("websocket worker ends after a panic in its {what}"),
    );
    process::terminate();
}

/// As [`enter`], for the event of one client: a panic costs that client only.
pub(super) fn run_client(client: ClientId, work: impl FnOnce(&mut Hub)) {
    if enter(work).is_err() {
        run("clients", |worker| worker.client_panicked(client));
    }
}

fn perform(effect: Effect) {
    match effect {
        Effect::Accept(client, switching) => client::accept_parked(client, &switching),
        Effect::Read(client) => run_client(client, |worker| worker.take_turn(client)),
        Effect::Detach(client) => client::try_detach(client),
        Effect::Close(client) => client::close(client),
        Effect::Answer(parked, response) => content::answer_parked(parked, &response),
    }
}

/// Sets the timer to what the worker waits for.
fn settle() {
    let Some((due, owed, turn)) = lend(Hub::wants).flatten() else {
        return;
    };
    // SAFETY: only `install`, `uninstall` and this function touch the timer; none calls another.
    let Some(timer) = (unsafe { &mut *HUB.timer.get() }) else {
        return;
    };
    timer.set(due, owed);
    if turn {
        timer.next_turn();
    }
}

/// See [`Listeners::set_nodelay`].
///
/// # Safety
/// As there.
pub(super) unsafe fn set_nodelay(c: *mut ngx_connection_t, is_on: bool) {
    // SAFETY: only this function touches them, and it calls nothing that comes back here.
    unsafe { (*HUB.listeners.get()).set_nodelay(c, is_on) };
}

/// The worker, for the rest of this room: effects look up what they are about.
pub(super) fn with<R>(work: impl FnOnce(&mut Hub) -> R) -> Option<R> {
    lend(work)
}

pub(super) unsafe extern "C" fn on_timer(_event: *mut ngx_event_t) {
    run("timer", |worker| worker.tick(process::now()));
}

pub(super) unsafe extern "C" fn on_turn(_event: *mut ngx_event_t) {
    run("turn", Hub::turn);
}

/// The connection that an event belongs to.
unsafe fn connection(event: *mut ngx_event_t) -> *mut ngx_connection_t {
    // SAFETY: nginx's connections put themselves in the data of both their events.
    unsafe { (*event).data.cast() }
}

/// Read handler of a client's connection, attached or detached.
pub(super) unsafe extern "C" fn on_client_read(event: *mut ngx_event_t) {
    // SAFETY: this handler is set only on connections of clients that have a seat.
    unsafe {
        let c = connection(event);
        let Some(id) = client::id_of(c) else { return };
        if (*c).close() != 0 {
            let forced = (*c).error() != 0;
            (*c).set_close(0);
            run_client(id, |worker| worker.client_told_to_close(id, forced));
            return;
        }
        run_client(id, |worker| worker.client_readable(id));
    }
}

/// Write handler of a client's connection, attached or detached.
pub(super) unsafe extern "C" fn on_client_write(event: *mut ngx_event_t) {
    // SAFETY: as `on_client_read`.
    unsafe {
        let Some(id) = client::id_of(connection(event)) else {
            return;
        };
        run_client(id, |worker| worker.client_writable(id));
    }
}

/// Read handler of a request whose 101 is out: the session takes the connection over.
pub(super) unsafe extern "C" fn on_take_over(request: *mut ngx_http_request_t) {
    client::take_over(request);
}

/// Cleanup of a request that a client is attached to: nginx ends it on its own account.
pub(super) unsafe extern "C" fn on_client_request_gone(data: *mut c_void) {
    let id = ClientId(data as usize as u32);
    client::request_gone(id);
}

/// Cleanup of a parked request: nginx ends it on its own account.
pub(super) unsafe extern "C" fn on_parked_request_gone(data: *mut c_void) {
    let parked = data as usize as u64;
    run("handshake", |worker| worker.parked_gone(parked));
}

/// Read handler of a link's connection.
pub(super) unsafe extern "C" fn on_peer_read(event: *mut ngx_event_t) {
    // SAFETY: this handler is set only on connections of peers, whose data is their id.
    unsafe {
        let c = connection(event);
        let id = PeerId((*c).data as usize as u32);
        if (*c).close() != 0 {
            run("link", |worker| worker.peer_told_to_close(id));
        } else {
            run("link", |worker| worker.peer_readable(id));
        }
    }
}

/// Write handler of a link's connection.
pub(super) unsafe extern "C" fn on_peer_write(event: *mut ngx_event_t) {
    // SAFETY: as `on_peer_read`.
    unsafe {
        let id = PeerId((*connection(event)).data as usize as u32);
        run("link", |worker| worker.peer_writable(id));
    }
}

/// Content handler of locations that take WebSocket clients.
pub(super) unsafe extern "C" fn on_handshake(request: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls content handlers with a live request.
    let request = unsafe { Request::from_raw(request) };
    content::handle(
        request,
        || upgrade::check(request),
        |worker, wish| worker.handshake(request, wish),
    )
}

/// Content handler of `websocket_status`.
pub(super) unsafe extern "C" fn on_status(request: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls content handlers with a live request.
    let request = unsafe { Request::from_raw(request) };
    let respond = |worker: &mut Hub, ()| Outcome::Respond(worker.status(request));
    content::handle(request, || (), respond)
}

/// Content handler of `websocket_publisher`: reads the body first.
pub(super) unsafe extern "C" fn on_publish(request: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls content handlers with a live request.
    let request = unsafe { Request::from_raw(request) };
    content::handle_with_body(request, || publish::check(request))
}

/// The body of a `websocket_publisher` request is there.
pub(super) unsafe extern "C" fn on_publish_body(request: *mut ngx_http_request_t) {
    // SAFETY: nginx calls body handlers with a live request.
    let request = unsafe { Request::from_raw(request) };
    let work = |worker: &mut Hub, post: Result<_, Response>| {
        if let Err(response) = &post {
            worker.note_refused_post(request, response.status);
        }
        worker.publisher(post)
    };
    content::body_arrived(request, || publish::prepare(request), work);
}
