//! The directives, a row each. README's table is compared with this one by a test.

use std::ffi::CStr;
use std::ops::RangeInclusive;

use fanout::{Kind, SlowPolicy};
use proto::envelope::{Envelope, FrameKind};
use proto::websocket::close::CloseCode;
use proto::websocket::deflate::{LEVELS, WINDOW_BITS};
use proto::websocket::origin::Policy;

use hub::settings::{Detach, Gap, Service, Subscription, Template};

use super::location::Location;
use super::main::Main;
use super::names::{self, Fault};
use super::nginx_conf::NginxConf;
use super::process::Process;
use crate::nginx::args::{Args, Complaint, Obeyed};
use crate::nginx::directive::{
    Context::{Any, Http, Location as InLocation, Main as TopLevel},
    Directive, Set,
    Takes::{self, Many, One, OneOrTwo},
};

const fn http(
    name: &'static CStr,
    set: fn(&mut Main, &Args<'_>) -> Obeyed,
) -> Directive<NginxConf> {
    Directive {
        name,
        context: Http,
        takes: One,
        set: Set::Main(set),
    }
}

const fn any(
    name: &'static CStr,
    takes: Takes,
    set: fn(&mut Location, &mut Main, &Args<'_>) -> Obeyed,
) -> Directive<NginxConf> {
    Directive {
        name,
        context: Any,
        takes,
        set: Set::Location(set),
    }
}

const fn location(
    name: &'static CStr,
    takes: Takes,
    set: fn(&mut Location, &mut Main, &Args<'_>) -> Obeyed,
) -> Directive<NginxConf> {
    Directive {
        name,
        context: InLocation,
        takes,
        set: Set::Location(set),
    }
}

/// All directives of the `http` block and below.
pub const DIRECTIVES: [Directive<NginxConf>; 30] = [
    any(c"websocket_redis", One, |l, main, a| {
        put(&mut l.settings.redis, main.broker(a)?)
    }),
    location(c"websocket_subscribe", Many, |l, main, a| {
        subscribe(l, main, a, Kind::Channel)
    }),
    location(c"websocket_psubscribe", Many, |l, main, a| {
        subscribe(l, main, a, Kind::Pattern)
    }),
    location(c"websocket_publish", One, |l, main, a| {
        put(
            &mut l.settings.publish,
            channel(main, a, 0, "websocket_publish")?,
        )?;
        serve(l, Service::WebSocket, "websocket_publish")
    }),
    location(c"websocket_echo", Takes::None, |l, _, _| {
        if std::mem::replace(&mut l.settings.echo, true) {
            return Err(Complaint::Duplicate);
        }
        serve(l, Service::WebSocket, "websocket_echo")
    }),
    location(c"websocket_publisher", One, |l, main, a| {
        put(
            &mut l.settings.publisher,
            channel(main, a, 0, "websocket_publisher")?,
        )?;
        serve(l, Service::Publisher, "websocket_publisher")
    }),
    location(c"websocket_status", Takes::None, |l, _, _| {
        if l.settings.service == Some(Service::Status) {
            return Err(Complaint::Duplicate);
        }
        serve(l, Service::Status, "websocket_status")
    }),
    any(c"websocket_envelope", One, |l, _, a| {
        let named = [
            ("off", Envelope::Off),
            ("json", Envelope::Json),
            ("redis", Envelope::Redis),
        ];
        put(&mut l.settings.envelope, a.one_of(0, &named)?)
    }),
    any(c"websocket_frame", One, |l, _, a| {
        let named = [
            ("auto", FrameKind::Auto),
            ("text", FrameKind::Text),
            ("binary", FrameKind::Binary),
        ];
        put(&mut l.settings.frame, a.one_of(0, &named)?)
    }),
    any(c"websocket_origin", Many, |l, _, a| {
        put(&mut l.settings.origin, origin(a)?)
    }),
    any(c"websocket_subprotocol", Many, |l, _, a| {
        put(&mut l.settings.subprotocols, subprotocols(a)?)
    }),
    any(c"websocket_max_message", One, |l, _, a| {
        put(&mut l.settings.max_message, positive(a)?)
    }),
    any(c"websocket_max_frame", One, |l, _, a| {
        put(&mut l.settings.max_frame, positive(a)?)
    }),
    any(c"websocket_send_queue", One, |l, _, a| {
        put(&mut l.settings.send_queue, a.size(0)?)
    }),
    any(c"websocket_slow", One, |l, _, a| {
        let named = [
            ("close", SlowPolicy::Close),
            ("drop_oldest", SlowPolicy::DropOldest),
            ("latest", SlowPolicy::Latest),
        ];
        put(&mut l.settings.slow, a.one_of(0, &named)?)
    }),
    any(c"websocket_notsent", One, |l, _, a| {
        put(&mut l.settings.notsent, a.size(0)?)
    }),
    any(c"websocket_ping_interval", One, |l, _, a| {
        put(&mut l.settings.ping_interval, a.time(0)?)
    }),
    any(c"websocket_timeout", One, |l, _, a| {
        put(&mut l.settings.timeout, a.time(0)?)
    }),
    any(c"websocket_gap", OneOrTwo, |l, _, a| {
        let closes = a.one_of(0, &[("close", true), ("keep", false)])?;
        let gap = match (closes, a.len() > 1) {
            (true, with_code) => Gap::Close(code(a, with_code)?),
            (false, false) => Gap::Keep,
            (false, true) => return Err(a.refuse(1, "only \"close\" takes a code")),
        };
        put(&mut l.settings.gap, gap)
    }),
    any(c"websocket_drain", OneOrTwo, |l, _, a| {
        put(&mut l.settings.drain, a.time(0)?)?;
        // A directive replaces all of one further up, its code too.
        l.settings.drain_code = Some(code(a, a.len() > 1)?);
        Ok(())
    }),
    any(c"websocket_detach", One, |l, _, a| {
        let named = [
            ("auto", Detach::Auto),
            ("on", Detach::On),
            ("off", Detach::Off),
        ];
        put(&mut l.settings.detach, a.one_of(0, &named)?)
    }),
    any(c"websocket_deflate", One, |l, _, a| {
        put(
            &mut l.settings.deflate,
            a.one_of(0, &[("on", true), ("off", false)])?,
        )
    }),
    any(c"websocket_deflate_level", One, |l, _, a| {
        put(&mut l.settings.deflate_level, small(a, LEVELS)?)
    }),
    any(c"websocket_deflate_min_length", One, |l, _, a| {
        put(&mut l.settings.deflate_min_length, a.size(0)?)
    }),
    any(c"websocket_deflate_window", One, |l, _, a| {
        put(&mut l.settings.deflate_window, small(a, WINDOW_BITS)?)
    }),
    any(c"websocket_deflate_takeover", One, |l, _, a| {
        let bits = if a.bytes(0) == b"off" {
            0
        } else {
            small(a, WINDOW_BITS)?
        };
        put(&mut l.settings.deflate_takeover, bits)
    }),
    http(c"websocket_memory", |main, a| {
        put(&mut main.settings.memory, positive(a)?)
    }),
    http(c"websocket_reserve", |main, a| {
        put(&mut main.settings.reserve, fraction(a)?)
    }),
    http(c"websocket_max_pending", |main, a| {
        put(&mut main.settings.max_pending, a.number(0)?)
    }),
    http(IO_URING, |main, a| put(&mut main.io_uring, auto_or_off(a)?)),
];

/// All directives outside of `http`.
pub const PROCESS_DIRECTIVES: [Directive<NginxConf>; 1] = [Directive {
    name: IO_URING,
    context: TopLevel,
    takes: One,
    set: Set::Process(|process: &mut Process, a| put(&mut process.io_uring, auto_or_off(a)?)),
}];

/// About the worker process, hence of the top level; but one looks for it beside the others.
const IO_URING: &CStr = c"websocket_io_uring";

fn put<T>(slot: &mut Option<T>, value: T) -> Obeyed {
    match slot.replace(value) {
        Some(_) => Err(Complaint::Duplicate),
        None => Ok(()),
    }
}

fn serve(location: &mut Location, service: Service, directive: &str) -> Obeyed {
    let served = location.settings.serve(service);
    served.map_err(|cause| Complaint::Said(format!("\"{directive}\" directive {cause}")))
}

fn subscribe(location: &mut Location, main: &mut Main, args: &Args<'_>, kind: Kind) -> Obeyed {
    let directive = match kind {
        Kind::Channel => "websocket_subscribe",
        Kind::Pattern => "websocket_psubscribe",
    };
    for index in 0..args.len() {
        let name = channel(main, args, index, directive)?;
        location
            .settings
            .subscriptions
            .push(Subscription { kind, name });
    }
    serve(location, Service::WebSocket, directive)
}

/// Argument `index`: a channel or pattern, with variables.
fn channel(
    main: &mut Main,
    args: &Args<'_>,
    index: usize,
    directive: &str,
) -> Result<Template, Complaint> {
    let name = args.complex(index)?;
    let is_pattern = directive == "websocket_psubscribe";
    match names::judge(name.text(), name.has_variables(), is_pattern) {
        Some(Fault::Refused(mend)) => return Err(args.refuse(index, mend)),
        Some(Fault::Doubtful(what)) => {
            let (shown, place) = (String::from_utf8_lossy(name.text()), args.place());
            main.warnings.push(format!(
                "\"{shown}\" in \"{directive}\" directive {what} in {place}"
            ));
        }
        None => {}
    }
    Ok(main.template(name))
}

fn origin(args: &Args<'_>) -> Result<&'static Policy, Complaint> {
    let mut values = Vec::new();
    for index in 0..args.len() {
        values.push(args.text(index)?);
    }
    // The first value that is wrong by itself is to blame, else all of them together.
    let wrong = values
        .iter()
        .position(|value| Policy::parse(&[value]).is_err());
    let policy = Policy::parse(&values).map_err(|cause| args.refuse(wrong.unwrap_or(0), cause))?;
    // Configurations are few and live as long as nginx.
    Ok(Box::leak(Box::new(policy)))
}

fn subprotocols(args: &Args<'_>) -> Result<&'static [String], Complaint> {
    let mut names = Vec::new();
    for index in 0..args.len() {
        let name = args.text(index)?;
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(args.refuse(index, "a subprotocol must be a token (RFC 9110, 5.6.2)"));
        }
        names.push(name.to_owned());
    }
    Ok(Vec::leak(names))
}

/// The close code of argument 1, if it is there.
///
/// 1000 tells most clients to stay away, and the others mean faults: 1001, 1012, 1013 bring them back.
/// Codes of 4000 and more are the application's own; clients that know no 1012 take them.
fn code(args: &Args<'_>, is_given: bool) -> Result<CloseCode, Complaint> {
    if !is_given {
        return Ok(CloseCode::SERVICE_RESTART);
    }
    let number = args.text(1)?.parse().ok();
    let fitting = number.filter(|code| matches!(code, 1001 | 1012 | 1013 | 4000..=4999));
    fitting
        .and_then(CloseCode::new)
        .ok_or_else(|| args.refuse(1, "it must be 1001, 1012, 1013, or from 4000 to 4999"))
}

fn positive(args: &Args<'_>) -> Result<u64, Complaint> {
    match args.size(0)? {
        0 => Err(args.refuse(0, "it must be at least 1 byte")),
        size => Ok(size),
    }
}

fn fraction(args: &Args<'_>) -> Result<(u64, u64), Complaint> {
    let text = args.text(0)?;
    let parsed = match text.split_once('/') {
        None => text
            .parse()
            .ok()
            .filter(|&part| part == 0)
            .map(|part| (part, 1)),
        Some((part, whole)) => part.parse().ok().zip(whole.parse().ok()),
    };
    parsed.filter(|&(part, whole)| part < whole).ok_or_else(|| {
        args.refuse(
            0,
            "it must be 0, or a part of \"worker_connections\" such as \"1/16\"",
        )
    })
}

/// False: off.
fn auto_or_off(args: &Args<'_>) -> Result<bool, Complaint> {
    args.one_of(0, &[("auto", true), ("off", false)])
}

/// A number within `range`.
fn small(args: &Args<'_>, range: RangeInclusive<u8>) -> Result<u8, Complaint> {
    let number = args
        .text(0)?
        .parse()
        .ok()
        .filter(|number| range.contains(number));
    number.ok_or_else(|| {
        args.refuse(
            0,
            format!("it must be from {} to {}", range.start(), range.end()),
        )
    })
}
