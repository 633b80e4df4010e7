//! `websocket_publisher`: a POST's body goes to a channel.

use std::collections::BTreeMap;

use fanout::NameKind;
use proto::websocket::handshake::Refusal;
use serde::Serialize;

use crate::answer::{Response, Text};
use crate::outside::{Level, Request};
use crate::patience::Patience;
use crate::upgrade;

/// What is published, and where.
pub struct Post<R> {
    /// The request.
    pub request: R,
    /// Index of the broker.
    pub broker: u16,
    /// The channel's name.
    pub channel: Text,
}

/// Checks method and origin before the body is read.
///
/// # Errors
/// The answer.
pub fn check<R: Request>(request: R) -> Result<(), Response> {
    if !request.is_post() {
        let mut response = Response::status(405);
        response.headers.push(("Allow", "POST".into()));
        return Err(response);
    }
    // A receipt with an error's status would look like a refusal; one with 202 is a receipt.
    let shown = request.error_status();
    if let Some(status) = shown.filter(|status| !(200..300).contains(status)) {
        request.log(
            Level::Info,
            format_args!("publish refused: \"error_page\" shows an error of status {status} by it"),
        );
        return Err(Response::status(
            upgrade::Refused::ErrorPage(status).status(),
        ));
    }
    check_origin(request)
}

fn check_origin<R: Request>(request: R) -> Result<(), Response> {
    let (mut host, mut origins) = (request.authority(), Vec::new());
    for (name, value) in request.headers() {
        if name.eq_ignore_ascii_case(b"host") {
            host = host.or(Some(value));
        } else if name.eq_ignore_ascii_case(b"origin") {
            origins.push(value);
        }
    }
    if origins.len() > 1 {
        request.log(
            Level::Info,
            format_args!("publish refused: client sent duplicate \"Origin\" header"),
        );
        let refused = upgrade::Refused::Handshake(Refusal::Origin);
        return Err(refused.response(request.query()));
    }
    let origin = origins.first().copied();
    let location = request.location();
    if !location.origin().allows(origin, host, request.is_tls()) {
        let origin = String::from_utf8_lossy(origin.unwrap_or_default()).into_owned();
        request.log(
            Level::Info,
            format_args!(
                "publish refused: origin \"{origin}\" is not allowed by \"websocket_origin\""
            ),
        );
        return Err(Response::status(403));
    }
    Ok(())
}

/// The body has arrived: returns what to publish.
///
/// # Errors
/// The answer.
pub fn prepare<R: Request>(request: R) -> Result<Post<R>, Response> {
    let location = request.location();
    let (Some(broker), Some(name)) = (location.redis, location.publisher) else {
        return Err(Response::status(500));
    };
    let channel = upgrade::channel(request, NameKind::Channel, name)
        .map_err(|refused| refused.response(request.query()))?;
    if request.lacks_its_body() {
        let cause = if request.is_main() {
            "request body was discarded before \"websocket_publisher\" could read it"
        } else {
            "subrequest to \"websocket_publisher\" has no body: read the main request's before, or \
             give it one of its own"
        };
        request.log(Level::Error, format_args!("{cause}"));
        return Err(Response::status(500));
    }
    Ok(Post {
        request,
        broker,
        channel,
    })
}

/// The body of a post, from memory or from nginx's temporary file. The caller has checked that
/// memory allows it.
///
/// # Errors
/// The answer.
pub fn body<R: Request>(request: R) -> Result<Vec<u8>, Response> {
    request.body().map_err(|cause| {
        request.log(
            Level::Error,
            format_args!("request body cannot be read: {cause}"),
        );
        Response::status(500)
    })
}

#[derive(Serialize)]
struct Receipt<'a> {
    channel: &'a str,
    redis_receivers: i64,
}

/// The answer to a publish that Redis has taken. A channel name that is not UTF-8 is shown with
/// replacement characters.
pub fn receipt(channel: &[u8], redis_receivers: i64) -> Response {
    let channel = &*String::from_utf8_lossy(channel);
    let body = serde_json::to_vec(&Receipt {
        channel,
        redis_receivers,
    })
    .unwrap_or_default();
    Response {
        status: 200,
        content_type: "application/json",
        body,
        ..Response::default()
    }
}

/// Bodies of posts that came before the publisher link was up, in order of arrival. They stay until
/// its queue takes them.
#[derive(Default)]
pub struct Early {
    /// Broker and body, by the number of the post.
    bodies: BTreeMap<u64, (u16, Vec<u8>)>,
    bytes: usize,
}

impl Early {
    /// Adds a body.
    pub fn enter(&mut self, number: u64, broker: u16, body: Vec<u8>) {
        self.bytes += body.capacity();
        self.bodies.insert(number, (broker, body));
    }

    /// Takes the body of a post out.
    pub fn leave(&mut self, number: u64) -> Option<Vec<u8>> {
        let (_, body) = self.bodies.remove(&number)?;
        self.bytes -= body.capacity();
        Some(body)
    }

    /// The oldest post to a broker, and the length of its body.
    pub fn first_at(&self, broker: u16) -> Option<(u64, usize)> {
        let mut all = self.bodies.iter();
        let first = all.find(|(_, (other, _))| *other == broker);
        first.map(|(&number, (_, body))| (number, body.len()))
    }

    /// Number of posts.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    /// The bytes to enter in the memory account.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }
}

/// Publishes that await Redis's answer: their requests and channels.
pub(crate) type Unanswered<R> = Patience<(R, Text)>;
