//! Is this request a handshake that this location takes? Runs before the worker is lent: variables
//! of other modules may be evaluated.

use std::collections::HashSet;

use fanout::Kind;
use proto::redis::PROBE_PREFIX;
use proto::websocket::deflate;
use proto::websocket::handshake::{self, HttpVersion, Refusal, RequestLine};
use smallvec::SmallVec;

use crate::conf::{Location, MAX_CHANNEL};
use crate::nginx::Request;
use crate::nginx::log::Level;
use crate::nginx::request::{ComplexValue, Response, Switching, Text};
use crate::variables;

/// Channels and patterns; most clients have one.
pub type Subscriptions = SmallVec<[(Kind, Text); 1]>;

/// What a client that may come in wants.
pub struct Wish {
    /// How it will be served.
    pub location: &'static Location,
    /// Channels and patterns to listen to.
    pub subscriptions: Subscriptions,
    /// Where its messages are published.
    pub publish: Option<Box<[u8]>>,
    /// What the 101 says.
    pub switching: Switching,
}

/// Why a client may not come in. Each has a counter of its own in `websocket_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is no handshake that the RFC allows.
    Handshake(Refusal),
    /// `websocket_origin`.
    Origin,
    /// The channel's name.
    Channel,
    /// A subrequest.
    Subrequest,
    /// `error_page` has led here, to show an error of this status.
    ErrorPage(u16),
    /// Memory, or another failure of ours.
    Internal,
    /// `websocket_max_pending`.
    Pending,
    /// `websocket_reserve`.
    Reserve,
    /// `websocket_memory`.
    Memory,
    /// The worker is about to exit.
    Exiting,
    /// Redis is away.
    BrokerAway,
    /// Redis has not confirmed in time.
    BrokerSlow,
    /// Redis's ACL forbids a channel.
    Forbidden,
}

impl Refused {
    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Refused::Handshake(refusal) => refusal.status(),
            Refused::Origin | Refused::Forbidden => 403,
            Refused::Channel | Refused::Subrequest => 400,
            // "error_page 403 =200" makes 200 of any answer, but a 200 is no WebSocket.
            Refused::ErrorPage(status) if status < 300 => 500,
            Refused::ErrorPage(status) => status,
            Refused::Internal => 500,
            Refused::Pending
            | Refused::Reserve
            | Refused::Memory
            | Refused::Exiting
            | Refused::BrokerAway => 503,
            Refused::BrokerSlow => 504,
        }
    }

    /// Its answer.
    pub fn response(self) -> Response {
        let mut response = Response::status(self.status());
        let headers: &[(&'static str, &str)] = match self {
            Refused::Handshake(Refusal::NotUpgrade) => &[("Upgrade", "websocket")],
            Refused::Handshake(Refusal::Version) => {
                &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
            }
            Refused::Handshake(Refusal::Method) => &[("Allow", "GET")],
            _ => &[],
        };
        response
            .headers
            .extend(headers.iter().map(|(name, value)| (*name, (*value).into())));
        response
    }
}

/// Judges the request and evaluates the channels' names.
///
/// # Errors
/// Why it is refused; an `info` line is written already.
pub fn check(request: Request) -> Result<Wish, Refused> {
    if !request.is_main() || request.is_post_action() {
        return Err(refuse(
            request,
            Refused::Subrequest,
            "refused in a subrequest",
        ));
    }
    if let Some(status) = request.error_status() {
        // nginx would send that status in place of 101, and the client frames after it.
        let cause = format_args!("\"error_page\" shows an error of status {status} by it");
        return Err(refuse(request, Refused::ErrorPage(status), cause));
    }
    let version = match request.http_version() {
        (0, _) => HttpVersion::V09,
        (1, 0) => HttpVersion::V10,
        (1, _) => HttpVersion::V11,
        (2, _) => HttpVersion::V2,
        _ => HttpVersion::V3,
    };
    let line = RequestLine {
        method_is_get: request.is_get(),
        version,
        has_body: request.has_body(),
    };
    let handshake = handshake::check(&line, request.headers())
        .map_err(|refusal| refuse(request, Refused::Handshake(refusal), refusal))?;
    let location = request.location();
    let host = request.authority().or(handshake.host());
    if !location
        .origin()
        .allows(handshake.origin(), host, request.is_tls())
    {
        let origin = String::from_utf8_lossy(handshake.origin().unwrap_or_default()).into_owned();
        let cause = format_args!("origin \"{origin}\" is not allowed by \"websocket_origin\"");
        return Err(refuse(request, Refused::Origin, cause));
    }
    let listed = location.subprotocols.unwrap_or_default();
    let mut offered = handshake.subprotocols();
    let subprotocol = offered.find_map(|offer| listed.iter().find(|name| name.as_bytes() == offer));
    let extensions = location
        .deflate()
        .and_then(|settings| deflate::negotiate(handshake.extensions(), &settings));
    let (subscriptions, publish) = names(request, location)?;
    Ok(Wish {
        location,
        subscriptions,
        publish,
        switching: Switching {
            accept: handshake.accept(),
            subprotocol: subprotocol.map(String::as_str),
            extensions,
        },
    })
}

type Names = (Subscriptions, Option<Box<[u8]>>);

fn names(request: Request, location: &Location) -> Result<Names, Refused> {
    let mut subscriptions = Subscriptions::with_capacity(location.subscriptions.len());
    for subscription in &location.subscriptions {
        let name = channel(request, subscription.kind, subscription.name)?;
        subscriptions.push((subscription.kind, name));
    }
    if subscriptions.len() > 1 {
        // A client may have a thousand.
        let mut seen = HashSet::with_capacity(subscriptions.len());
        subscriptions.retain(|wanted| seen.insert((*wanted).clone()));
    }
    let publish = match location.publish {
        Some(name) => Some(channel(request, Kind::Channel, name)?.into_boxed_slice()),
        None => None,
    };
    Ok((subscriptions, publish))
}

/// The name of a channel or pattern for this request.
///
/// # Errors
/// It is not one that Redis or its operator should see; an `info` line is written already.
pub fn channel(request: Request, kind: Kind, value: ComplexValue) -> Result<Text, Refused> {
    let variable = value.has_variables();
    if variable && let Some(argument) = variables::unfit_argument(request) {
        let argument = argument.escape_ascii();
        let cause = format_args!("argument \"{argument}\" has a control character");
        return Err(refuse(request, Refused::Channel, cause));
    }
    let name = value.evaluate(request).map_err(|_| Refused::Internal)?;
    let template = value.text();
    match judge(kind, template, variable, &name) {
        Ok(()) => Ok(name),
        Err(cause) => {
            let shown = name.escape_ascii().to_string();
            let cause = format_args!("channel \"{shown}\" {cause}");
            Err(refuse(request, Refused::Channel, cause))
        }
    }
}

fn judge(kind: Kind, template: &[u8], variable: bool, name: &[u8]) -> Result<(), &'static str> {
    let globs = |text: &[u8]| text.iter().filter(|b| b"*?[]\\".contains(b)).count();
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > MAX_CHANNEL {
        Err("is longer than 512 bytes")
    } else if name.iter().any(|b| b.is_ascii_control()) {
        Err("has a control character")
    } else if variable && name.starts_with(b"__key") && !template.starts_with(b"__key") {
        Err("is a keyspace notification's")
    } else if name.starts_with(PROBE_PREFIX) {
        Err("is reserved for probes of the redis links")
    } else if kind == Kind::Pattern && globs(name) != globs(template) {
        Err("has a glob character from a variable")
    } else {
        Ok(())
    }
}

fn refuse(request: Request, refused: Refused, cause: impl std::fmt::Display) -> Refused {
    request.log(
        Level::Info,
        format_args!("websocket handshake refused: {cause}"),
    );
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_redis_should_not_see_are_refused() {
        use Kind::{Channel, Pattern};
        let judge = |kind, template: &str, name: &str| {
            judge(
                kind,
                template.as_bytes(),
                template.contains('$'),
                name.as_bytes(),
            )
        };
        for (kind, template, name, good) in [
            (Channel, "$a", "foo", true),
            (Channel, "news:$a", "news:ü *", true),
            (Channel, "$a", "", false),
            (Channel, "$a", "a\nb", false),
            (Channel, "$a", "a\0", false),
            (Channel, "$a", "__keyspace@0__:x", false),
            (Channel, "__keyspace@0__:$a", "__keyspace@0__:x", true),
            (Channel, "__keyevent@0__:set", "__keyevent@0__:set", true),
            (Channel, "$a", "ngx_ws_probe:00", false),
            (Pattern, "news.*", "news.*", true),
            (Pattern, "news.$a.*", "news.de.*", true),
            (Pattern, "news.$a.*", "news.*.*", false),
            (Pattern, "news.$a.*", "news.[a].*", false),
            (Pattern, "$a", "\\", false),
        ] {
            assert_eq!(
                judge(kind, template, name).is_ok(),
                good,
                "{template} -> {name}"
            );
        }
        assert!(judge(Channel, "$a", &"x".repeat(MAX_CHANNEL)).is_ok());
        assert!(judge(Channel, "$a", &"x".repeat(MAX_CHANNEL + 1)).is_err());
    }
}
