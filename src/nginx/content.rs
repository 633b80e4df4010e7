//! The common body of the content handlers: prepare, ask the worker, do what it decides.

use hub::answer::{Outcome, Response};
use nginx_sys::{
    NGX_DONE, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_SPECIAL_RESPONSE,
    ngx_http_run_posted_requests, ngx_int_t,
};

use super::bindings::ngx_http_request_s;
use super::client;
use super::event::{self, with};
use super::guard::guard;
use super::request::Request;
use crate::module::Hub;

/// Body of a content handler that needs no body of the request. `prepare` runs while the worker is
/// not lent: variables may be evaluated there. The request's body stays where it is until the answer
/// is final: `error_page` may lead to another location, which wants it.
pub(super) fn handle<T>(
    request: Request,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(&mut Hub, T) -> Outcome,
) -> ngx_int_t {
    request.hold();
    let rc = conclude(request, prepare, work);
    if rc != NGX_DONE as isize {
        release(request);
    }
    rc
}

/// Body of a content handler that reads the request's body, unless `check` has an answer already.
pub(super) fn handle_with_body(
    request: Request,
    check: impl FnOnce() -> Result<(), Response>,
) -> ngx_int_t {
    match guard(check) {
        Ok(Ok(())) => {}
        Ok(Err(response)) => {
            let status = response.status;
            event::run("requests", |w| w.note_refused_post(request, status));
            return request.respond(&response);
        }
        Err(_) => return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
    }
    // SAFETY: the request is live; the handler is called once, now or later.
    let rc = unsafe {
        nginx_sys::ngx_http_read_client_request_body(request.as_ptr(), Some(event::on_publish_body))
    };
    if rc >= NGX_HTTP_SPECIAL_RESPONSE as isize {
        rc
    } else {
        NGX_DONE as isize
    }
}

/// The body is there, and nginx has counted a reference for the handler.
pub(super) fn body_arrived<T>(
    request: Request,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(&mut Hub, T) -> Outcome,
) {
    let rc = conclude(request, prepare, work);
    if rc != NGX_DONE as isize {
        request.finalize(rc);
    }
}

/// Does what the worker decides. `NGX_DONE`: the request goes on, and keeps the caller's reference.
fn conclude<T>(
    request: Request,
    prepare: impl FnOnce() -> T,
    work: impl FnOnce(&mut Hub, T) -> Outcome,
) -> ngx_int_t {
    let Ok(prepared) = guard(prepare) else {
        return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    };
    match event::run("requests", |worker| work(worker, prepared)) {
        Some(Outcome::Respond(response)) => request.respond(&response),
        Some(Outcome::Accept(id, switching)) => {
            client::accept(request, id, &switching).unwrap_or(NGX_DONE as isize)
        }
        Some(Outcome::Park(parked)) => {
            if request.park(parked) {
                return NGX_DONE as isize;
            }
            event::run("requests", |worker| worker.parked_gone(parked));
            NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t
        }
        None => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
    }
}

fn release(request: Request) {
    let r = request.as_bound();
    // SAFETY: the content phase still holds its own reference.
    unsafe {
        let main: *mut ngx_http_request_s = (*r).main.cast();
        (*main).set_count((*main).count() - 1);
    }
}

/// Performs `Effect::Answer`: the parked request ends, through `error_page` where one is set.
pub(super) fn answer_parked(parked: u64, response: &Response) {
    let Some(Some(request)) = with(|worker| worker.take_parked(parked)) else {
        return;
    };
    request.unwatch_parked(parked);
    let c = request.connection().as_ptr();
    let rc = request.respond(response);
    request.finalize(rc);
    // SAFETY: nginx marks a connection that ended meanwhile as destroyed; its struct stays.
    unsafe { ngx_http_run_posted_requests(c) };
}
