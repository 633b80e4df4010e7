//! What a location may serve: WebSocket clients, posts, the worker's counters.

use hub::answer::{Outcome, Response};
use hub::http::publish::{self, Post};
use hub::upgrade::{self, Admission, Refused};

use super::outside::Hub;
use crate::nginx::Request;
use crate::nginx::content::{Arrived, Service};

/// Locations that take WebSocket clients.
pub enum Handshake {}

impl Service for Handshake {
    type Host = Hub;
    type Prepared = Result<Admission, Refused>;

    fn prepare(request: Request, _: Arrived) -> Option<Self::Prepared> {
        Some(upgrade::check(request))
    }

    fn decide(hub: &mut Hub, request: Request, admission: Self::Prepared) -> Outcome {
        hub.handshake(request, admission)
    }
}

/// `websocket_publisher`.
pub enum Publisher {}

impl Service for Publisher {
    type Host = Hub;
    type Prepared = Result<Post<Request>, Response>;

    fn prepare(request: Request, arrived: Arrived) -> Option<Self::Prepared> {
        match arrived {
            Arrived::Head => publish::check(request).err().map(Err),
            Arrived::Body => Some(publish::prepare(request)),
        }
    }

    fn decide(hub: &mut Hub, request: Request, post: Self::Prepared) -> Outcome {
        if let Err(response) = &post {
            hub.note_refused_post(request, response.status);
        }
        hub.publisher(post)
    }
}

/// `websocket_status`.
pub enum Status {}

impl Service for Status {
    type Host = Hub;
    type Prepared = ();

    fn prepare(_: Request, _: Arrived) -> Option<()> {
        Some(())
    }

    fn decide(hub: &mut Hub, request: Request, (): ()) -> Outcome {
        Outcome::Respond(hub.status(request))
    }
}
