//! The directives: where each is allowed, how many arguments it takes, and how they become its
//! value.
//!
//! Each setting of the hub and of the process has its row, so a forgotten one does not compile. A
//! test compares README's table with this one.

use std::ffi::CStr;
use std::ops::RangeInclusive;

use fanout::NameKind;
use hub::settings::{
    Drain, Fraction, Gap, LocationSetting, MainSetting, Service, ServiceDirective, Subscription,
    Template, Words,
};
use proto::websocket::close::CloseCode;
use proto::websocket::deflate::{LEVELS, WINDOW_BITS};
use proto::websocket::origin::Policy;

use super::location::Location;
use super::main::Main;
use super::names::{self, Fault};
use super::nginx_conf::NginxConf;
use super::process::{Process, ProcessSetting};
use crate::nginx::args::{Args, Complaint, Obeyed};
use crate::nginx::directive::{
    Context::{Any, Http, Location as InLocation, Main as TopLevel},
    Directive, Set,
    Takes::{self, Many, One, OneOrTwo},
};

type SetLocation = fn(&mut Location, &mut Main, &Args<'_>) -> Obeyed;

type SetMain = fn(&mut Main, &Args<'_>) -> Obeyed;

/// A table with a row for each of these directives.
macro_rules! table {
    ($($directives:ident: $row:path),+ $(,)?) => {{
        let mut rows = [const { unused() }; 0 $(+ $directives::ALL.len())+];
        let mut at = 0;
        $(
            let mut next = 0;
            while next < $directives::ALL.len() {
                rows[at] = $row($directives::ALL[next]);
                (at, next) = (at + 1, next + 1);
            }
        )+
        rows
    }};
}

/// All directives of the `http` block and below.
pub const DIRECTIVES: [Directive<NginxConf>;
    ServiceDirective::ALL.len()
        + LocationSetting::ALL.len()
        + MainSetting::ALL.len()
        + ProcessSetting::ALL.len()] = table!(
    ServiceDirective: service,
    LocationSetting: location,
    MainSetting: main,
    ProcessSetting: process_in_http,
);

/// All directives outside of `http`.
pub const PROCESS_DIRECTIVES: [Directive<NginxConf>; ProcessSetting::ALL.len()] =
    table!(ProcessSetting: process);

/// The initial value of a row.
const fn unused() -> Directive<NginxConf> {
    http(c"", |_, _| Ok(()))
}

const fn http(name: &'static CStr, set: SetMain) -> Directive<NginxConf> {
    Directive {
        name,
        context: Http,
        takes: One,
        set: Set::Main(set),
    }
}

const fn service(directive: ServiceDirective) -> Directive<NginxConf> {
    use ServiceDirective as D;
    let (takes, set): (Takes, SetLocation) = match directive {
        D::Subscribe => (Many, |l, main, a| subscribe(l, main, a, NameKind::Channel)),
        D::PSubscribe => (Many, |l, main, a| subscribe(l, main, a, NameKind::Pattern)),
        D::Publish => (One, publish),
        D::Echo => (Takes::None, |l, _, _| echo(l)),
        D::Publisher => (One, publisher),
        D::Status => (Takes::None, |l, _, _| status(l)),
    };
    Directive {
        name: directive.name(),
        context: InLocation,
        takes,
        set: Set::Location(set),
    }
}

const fn location(setting: LocationSetting) -> Directive<NginxConf> {
    use LocationSetting as S;
    let (takes, set): (Takes, SetLocation) = match setting {
        S::Redis => (One, |l, main, a| {
            put(&mut l.settings.redis, main.broker(a)?)
        }),
        S::Envelope => (One, |l, _, a| put(&mut l.settings.envelope, word(a)?)),
        S::Frame => (One, |l, _, a| put(&mut l.settings.frame, word(a)?)),
        S::Origin => (Many, |l, _, a| put(&mut l.settings.origin, origin(a)?)),
        S::Subprotocol => (Many, |l, _, a| {
            put(&mut l.settings.subprotocols, subprotocols(a)?)
        }),
        S::MaxMessage => (One, |l, _, a| {
            put(&mut l.settings.max_message, positive(a)?)
        }),
        S::MaxFrame => (One, |l, _, a| put(&mut l.settings.max_frame, positive(a)?)),
        S::SendQueue => (One, |l, _, a| put(&mut l.settings.send_queue, a.size(0)?)),
        S::Slow => (One, |l, _, a| put(&mut l.settings.slow, word(a)?)),
        S::Notsent => (One, |l, _, a| put(&mut l.settings.notsent, length(a)?)),
        S::PingInterval => (One, |l, _, a| {
            put(&mut l.settings.ping_interval, a.time(0)?)
        }),
        S::Timeout => (One, |l, _, a| put(&mut l.settings.timeout, a.time(0)?)),
        S::Gap => (OneOrTwo, |l, _, a| put(&mut l.settings.gap, gap(a)?)),
        S::Drain => (OneOrTwo, |l, _, a| put(&mut l.settings.drain, drain(a)?)),
        S::Detach => (One, |l, _, a| put(&mut l.settings.detach, word(a)?)),
        S::Deflate => (One, |l, _, a| put(&mut l.settings.deflate, word(a)?)),
        S::DeflateLevel => (One, |l, _, a| {
            put(&mut l.settings.deflate_level, small(a, LEVELS)?)
        }),
        S::DeflateMinLength => (One, |l, _, a| {
            put(&mut l.settings.deflate_min_length, length(a)?)
        }),
        S::DeflateWindow => (One, |l, _, a| {
            put(&mut l.settings.deflate_window, small(a, WINDOW_BITS)?)
        }),
        S::DeflateTakeover => (One, |l, _, a| {
            put(&mut l.settings.deflate_takeover, takeover(a)?)
        }),
    };
    Directive {
        name: setting.name(),
        context: Any,
        takes,
        set: Set::Location(set),
    }
}

const fn main(setting: MainSetting) -> Directive<NginxConf> {
    let set: SetMain = match setting {
        MainSetting::Memory => |main, a| put(&mut main.settings.memory, positive(a)?),
        MainSetting::Reserve => |main, a| put(&mut main.settings.reserve, fraction(a)?),
        MainSetting::MaxPending => |main, a| put(&mut main.settings.max_pending, count(a)?),
    };
    http(setting.name(), set)
}

const fn process(setting: ProcessSetting) -> Directive<NginxConf> {
    Directive {
        name: setting.name(),
        context: TopLevel,
        takes: One,
        set: Set::Process(set_process(setting)),
    }
}

const fn process_in_http(setting: ProcessSetting) -> Directive<NginxConf> {
    let set: SetMain = match setting {
        ProcessSetting::IoUring => {
            |main, a| set_process(ProcessSetting::IoUring)(&mut main.process, a)
        }
    };
    http(setting.name(), set)
}

const fn set_process(setting: ProcessSetting) -> fn(&mut Process, &Args<'_>) -> Obeyed {
    match setting {
        ProcessSetting::IoUring => |process, a| put(&mut process.io_uring, word(a)?),
    }
}

fn put<T>(slot: &mut Option<T>, value: T) -> Obeyed {
    match slot.replace(value) {
        Some(_) => Err(Complaint::Duplicate),
        None => Ok(()),
    }
}

fn publish(location: &mut Location, main: &mut Main, args: &Args<'_>) -> Obeyed {
    let name = channel(main, args, 0, "websocket_publish")?;
    put(&mut location.settings.publish, name)?;
    serve(location, Service::WebSocket, "websocket_publish")
}

fn echo(location: &mut Location) -> Obeyed {
    if std::mem::replace(&mut location.settings.echo, true) {
        return Err(Complaint::Duplicate);
    }
    serve(location, Service::WebSocket, "websocket_echo")
}

fn publisher(location: &mut Location, main: &mut Main, args: &Args<'_>) -> Obeyed {
    let name = channel(main, args, 0, "websocket_publisher")?;
    put(&mut location.settings.publisher, name)?;
    serve(location, Service::Publisher, "websocket_publisher")
}

fn status(location: &mut Location) -> Obeyed {
    if location.settings.service == Some(Service::Status) {
        return Err(Complaint::Duplicate);
    }
    serve(location, Service::Status, "websocket_status")
}

fn serve(location: &mut Location, service: Service, directive: &str) -> Obeyed {
    let served = location.settings.serve(service);
    served.map_err(|cause| Complaint::Said(format!("\"{directive}\" directive {cause}")))
}

fn subscribe(location: &mut Location, main: &mut Main, args: &Args<'_>, kind: NameKind) -> Obeyed {
    let directive = match kind {
        NameKind::Channel => "websocket_subscribe",
        NameKind::Pattern => "websocket_psubscribe",
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

/// Parses argument `index`: a channel or pattern, with variables.
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
    // The first value that is wrong by itself is reported, otherwise all of them together.
    let wrong = values
        .iter()
        .position(|value| Policy::parse(&[value]).is_err());
    let policy = Policy::parse(&values).map_err(|cause| args.refuse(wrong.unwrap_or(0), cause))?;
    // Configurations are few and live as long as nginx does.
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

/// The close code in argument 1, if there is one.
///
/// 1000 tells most clients to stay away, and other codes mean faults; 1001, 1012 and 1013 make
/// clients reconnect. Codes from 4000 on are the application's own, for clients that do not know
/// 1012.
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

fn gap(args: &Args<'_>) -> Result<Gap, Complaint> {
    match (
        args.one_of(0, &[("close", true), ("keep", false)])?,
        args.len() > 1,
    ) {
        (true, with_code) => Ok(Gap::Close(code(args, with_code)?)),
        (false, false) => Ok(Gap::Keep),
        (false, true) => Err(args.refuse(1, "only \"close\" takes a code")),
    }
}

fn drain(args: &Args<'_>) -> Result<Drain, Complaint> {
    Ok(Drain {
        over: args.time(0)?,
        code: code(args, args.len() > 1)?,
    })
}

/// Bits of a window, 0 for "off".
fn takeover(args: &Args<'_>) -> Result<u8, Complaint> {
    match args.bytes(0) {
        b"off" => Ok(0),
        _ => small(args, WINDOW_BITS),
    }
}

/// A size that fits the address space.
fn length(args: &Args<'_>) -> Result<usize, Complaint> {
    whole(args, args.size(0)?)
}

fn count(args: &Args<'_>) -> Result<usize, Complaint> {
    whole(args, args.number(0)?)
}

fn whole(args: &Args<'_>, number: u64) -> Result<usize, Complaint> {
    usize::try_from(number).map_err(|_| args.refuse(0, "it is too large"))
}

fn word<T: Words>(args: &Args<'_>) -> Result<T, Complaint> {
    args.one_of(0, T::WORDS)
}

fn positive(args: &Args<'_>) -> Result<u64, Complaint> {
    match args.size(0)? {
        0 => Err(args.refuse(0, "it must be at least 1 byte")),
        size => Ok(size),
    }
}

fn fraction(args: &Args<'_>) -> Result<Fraction, Complaint> {
    let text = args.text(0)?;
    let parsed = match text.split_once('/') {
        None => text
            .parse()
            .ok()
            .filter(|&part| part == 0)
            .map(|part| (part, 1)),
        Some((part, whole)) => part.parse().ok().zip(whole.parse().ok()),
    };
    match parsed {
        Some((part, whole)) if part < whole => Ok(Fraction { part, whole }),
        _ => Err(args.refuse(
            0,
            "it must be 0, or a part of \"worker_connections\" such as \"1/16\"",
        )),
    }
}

/// A number in `range`.
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
