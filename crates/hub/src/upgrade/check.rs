//! Checks whether a request is a handshake that its location accepts. Runs before the worker is
//! borrowed, because variables of other modules may be evaluated.

use std::collections::HashSet;
use std::fmt;

use fanout::NameKind;
use proto::redis::PROBE_PREFIX;
use proto::websocket::deflate;
use proto::websocket::handshake::{self, HttpVersion, RequestLine};
use smallvec::SmallVec;

use super::argument::unfit_argument;
use super::refused::Refused;
use crate::answer::{Switching, Text};
use crate::outside::{HttpRequest, Level, Request};
use crate::settings::{Location, MAX_CHANNEL, Service, Template};

/// Channels and patterns; most clients have one.
pub type Subscriptions = SmallVec<[(NameKind, Text); 1]>;

/// What a client whose handshake is valid asks for.
pub struct Admission {
    /// The settings of its location.
    pub location: &'static Location,
    /// Channels and patterns to subscribe to.
    pub subscriptions: Subscriptions,
    /// The channel that its messages are published to.
    pub publish: Option<Box<[u8]>>,
    /// What the 101 says.
    pub switching: Switching,
}

/// Checks the request and evaluates the names of the channels.
///
/// # Errors
/// Why the request is refused. An `info` line is already written.
pub fn check<R: Request>(request: R) -> Result<Admission, Refused> {
    if !request.is_main() || request.is_post_action() {
        return Err(refuse(request, Refused::Subrequest, Refused::Subrequest));
    }
    if let Some(status) = request.error_status() {
        // nginx would send that status in place of 101, followed by the client's frames.
        let refused = Refused::ErrorPage(status);
        return Err(refuse(request, refused, refused));
    }
    let line = RequestLine {
        method_is_get: request.is_get(),
        version: version_of(&request),
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
        .deflate_settings()
        .and_then(|settings| deflate::negotiate(handshake.extensions(), &settings));
    let (subscriptions, publish) = names(request, location)?;
    Ok(Admission {
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

fn version_of(request: &impl HttpRequest) -> HttpVersion {
    match request.http_version() {
        (0, _) => HttpVersion::V09,
        (1, 0) => HttpVersion::V10,
        (1, _) => HttpVersion::V11,
        (2, _) => HttpVersion::V2,
        _ => HttpVersion::V3,
    }
}

type Names = (Subscriptions, Option<Box<[u8]>>);

fn names<R: Request>(request: R, location: &Location) -> Result<Names, Refused> {
    let mut subscriptions = Subscriptions::with_capacity(location.subscriptions.len());
    for subscription in &location.subscriptions {
        let name = channel(request, subscription.kind, subscription.name)?;
        subscriptions.push((subscription.kind, name));
    }
    if subscriptions.len() > 1 {
        // A client may have a thousand channels.
        let mut seen = HashSet::with_capacity(subscriptions.len());
        subscriptions.retain(|wanted| seen.insert((*wanted).clone()));
    }
    let publish = match location.publish {
        Some(name) => Some(channel(request, NameKind::Channel, name)?.into_boxed_slice()),
        None => None,
    };
    Ok((subscriptions, publish))
}

/// The name of a channel or pattern for this request.
///
/// # Errors
/// The name is not fit for Redis or for a log; an `info` line is already written.
pub fn channel<R: Request>(
    request: R,
    kind: NameKind,
    template: Template,
) -> Result<Text, Refused> {
    let variable = template.has_variables;
    if variable && let Some(argument) = unfit_argument(&request) {
        let argument = argument.escape_ascii();
        let cause = format_args!("argument \"{argument}\" has a control character");
        return Err(refuse(request, Refused::Channel(CONTROL), cause));
    }
    let name = request.evaluate(template).map_err(|_| Refused::Internal)?;
    match judge(kind, template.text, variable, &name) {
        Ok(()) => Ok(name),
        Err(wrong) => {
            let shown = name.escape_ascii().to_string();
            let cause = format_args!("channel \"{shown}\" {wrong}");
            Err(refuse(request, Refused::Channel(wrong), cause))
        }
    }
}

const CONTROL: &str = "has a control character";

fn judge(kind: NameKind, template: &[u8], variable: bool, name: &[u8]) -> Result<(), &'static str> {
    let globs = |text: &[u8]| text.iter().filter(|b| b"*?[]\\".contains(b)).count();
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > MAX_CHANNEL {
        Err("is longer than 512 bytes")
    } else if name.iter().any(|b| b.is_ascii_control()) {
        Err(CONTROL)
    } else if variable && name.starts_with(b"__key") && !template.starts_with(b"__key") {
        Err("is a keyspace notification's")
    } else if name.starts_with(PROBE_PREFIX) {
        Err("is reserved for probes of the redis links")
    } else if kind == NameKind::Pattern && globs(name) != globs(template) {
        Err("has a glob character from a variable")
    } else {
        Ok(())
    }
}

fn refuse<R: Request>(request: R, refused: Refused, cause: impl fmt::Display) -> Refused {
    log_refused(request, cause);
    refused
}

fn what<R: Request>(request: R) -> &'static str {
    match request.location().service {
        Some(Service::Publisher) => "publish",
        _ => "websocket handshake",
    }
}

/// Logs one refused handshake, or one post whose channel is refused.
pub fn log_refused<R: Request>(request: R, cause: impl fmt::Display) {
    request.log(
        Level::Info,
        format_args!("{} refused: {cause}", what(request)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_redis_should_not_see_are_refused() {
        use NameKind::{Channel, Pattern};
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
