//! Content handlers: prepare, ask the host, do what it decides.

use std::ptr;

use hub::answer::{Outcome, Response};
use nginx_sys::{
    NGX_DONE, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_SPECIAL_RESPONSE,
    ngx_http_read_client_request_body, ngx_http_request_t, ngx_http_run_posted_requests, ngx_int_t,
};

use super::client;
use super::event::{run, with};
use super::guard::guard;
use super::host::Host;
use super::request::Request;

/// How much of a request has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// The head. The body may have arrived as well, but has not been read.
    Head,
    /// All of it.
    Body,
}

/// How one kind of location answers its requests.
pub trait Service: 'static {
    /// The host that decides.
    type Host: Host;
    /// What is found out about a request beforehand.
    type Prepared;

    /// Runs before the host is borrowed, so variables may be evaluated here. `None` after the head:
    /// read the body first, then call this again. A body that is not read stays where it is until
    /// the answer is final, because `error_page` may lead to another location that wants it.
    fn prepare(request: Request, arrived: Arrived) -> Option<Self::Prepared>;

    /// Decides. A request is parked or accepted only if its body was read or does not matter.
    fn decide(host: &mut Self::Host, request: Request, prepared: Self::Prepared) -> Outcome;
}

/// nginx's content handler for a [`Service`].
#[derive(Clone, Copy)]
pub struct Handler(unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t);

impl Handler {
    /// The handler for `S`.
    pub const fn of<S: Service>() -> Handler {
        Handler(on_request::<S>)
    }

    pub(super) fn as_raw(self) -> unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t {
        self.0
    }

    /// Whether nginx's `raw` is this handler.
    pub(super) fn is(
        self,
        raw: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t,
    ) -> bool {
        ptr::fn_addr_eq(self.0, raw)
    }
}

// Compared by address, so there must be only one instance.
#[inline(never)]
unsafe extern "C" fn on_request<S: Service>(request: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls content handlers with a live request.
    let request = unsafe { Request::from_raw(request) };
    match guard::<S::Host, _>(|| S::prepare(request, Arrived::Head)) {
        Ok(Some(prepared)) => handle::<S>(request, prepared),
        Ok(None) => read_body::<S>(request),
        Err(_) => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
    }
}

fn handle<S: Service>(request: Request, prepared: S::Prepared) -> ngx_int_t {
    request.add_ref();
    let rc = conclude::<S>(request, prepared);
    if rc != NGX_DONE as isize {
        request.release();
    }
    rc
}

fn read_body<S: Service>(request: Request) -> ngx_int_t {
    // SAFETY: the request is live; the handler is called once, now or later.
    let rc = unsafe { ngx_http_read_client_request_body(request.as_ptr(), Some(on_body::<S>)) };
    if rc >= NGX_HTTP_SPECIAL_RESPONSE as isize {
        rc
    } else {
        NGX_DONE as isize
    }
}

/// The body has been read. nginx has counted a reference for the handler.
unsafe extern "C" fn on_body<S: Service>(request: *mut ngx_http_request_t) {
    // SAFETY: nginx calls body handlers with a live request.
    let request = unsafe { Request::from_raw(request) };
    let rc = match guard::<S::Host, _>(|| S::prepare(request, Arrived::Body)) {
        Ok(Some(prepared)) => conclude::<S>(request, prepared),
        Ok(None) | Err(_) => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
    };
    if rc != NGX_DONE as isize {
        request.finalize(rc);
    }
}

/// Carries out the host's decision. `NGX_DONE`: the request continues and keeps the caller's
/// reference.
fn conclude<S: Service>(request: Request, prepared: S::Prepared) -> ngx_int_t {
    let decided = run("requests", |host| S::decide(host, request, prepared));
    match decided {
        Some(Outcome::Respond(response)) => request.respond(&response),
        Some(Outcome::Accept(id, switching)) => {
            client::accept::<S::Host>(request, id, &switching).unwrap_or(NGX_DONE as isize)
        }
        Some(Outcome::Park(parked)) => {
            if request.park::<S::Host>(parked) {
                return NGX_DONE as isize;
            }
            run("requests", |host: &mut S::Host| host.parked_gone(parked));
            NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t
        }
        None => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
    }
}

/// Performs `Effect::Answer`: ends the parked request, through `error_page` if one is set.
pub(super) fn answer_parked<H: Host>(parked: u64, response: &Response) {
    let taken = with(|host: &mut H| host.take_parked(parked));
    let Some(request) = taken.flatten() else {
        return;
    };
    request.unwatch_parked::<H>(parked);
    let c = request.connection().as_ptr();
    let rc = request.respond(response);
    request.finalize(rc);
    // SAFETY: nginx marks a connection that ended meanwhile as destroyed; its struct stays.
    unsafe { ngx_http_run_posted_requests(c) };
}
