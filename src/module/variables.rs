//! `$websocket_…`: for `log_format`, maps and channel names.

use std::borrow::Cow;

use hub::outside::HttpRequest as _;
use hub::session::Summary;
use hub::upgrade::{argument, is_fit};

use super::outside::Hub;
use crate::nginx::Request;
use crate::nginx::process;
use crate::nginx::variable::{Name, Variable, Variables};

impl Variables for Hub {
    fn variables() -> &'static [Variable] {
        &TABLE
    }
}

/// A client's channels. They are kept only if nginx.conf uses this variable.
pub const CHANNEL: &str = "websocket_channel";

/// The prefix of the variables for query arguments.
pub const ARGUMENT: &str = "websocket_arg_";

/// All variables of the module.
pub static TABLE: [Variable; 9] = [
    Variable {
        name: Name::Once("websocket_id"),
        get: |_, _| id().map(Cow::Owned),
    },
    Variable {
        name: Name::Prefix(ARGUMENT),
        get: |r, name| {
            let value = argument(r.query(), name)?;
            Some(if is_fit(&value) {
                value
            } else {
                Cow::Borrowed(b"")
            })
        },
    },
    Variable {
        name: Name::Always(CHANNEL),
        get: |r, _| {
            let channel = summary(r)?.channel;
            (!channel.is_empty()).then_some(Cow::Owned(channel))
        },
    },
    Variable {
        name: Name::Always("websocket_close_code"),
        get: |r, _| {
            summary(r)
                .filter(|s| s.close_code > 0)
                .map(|s| text(s.close_code.into()))
        },
    },
    Variable {
        name: Name::Always("websocket_messages_in"),
        get: |r, _| summary(r).map(|s| text(s.messages_in)),
    },
    Variable {
        name: Name::Always("websocket_messages_out"),
        get: |r, _| summary(r).map(|s| text(s.messages_out)),
    },
    Variable {
        name: Name::Always("websocket_bytes_in"),
        get: |r, _| summary(r).map(|s| text(s.bytes_in)),
    },
    Variable {
        name: Name::Always("websocket_bytes_out"),
        get: |r, _| summary(r).map(|s| text(s.bytes_out)),
    },
    Variable {
        name: Name::Always("websocket_duration"),
        get: |r, _| {
            summary(r).map(|s| {
                let (seconds, ms) = (s.duration_ms / 1000, s.duration_ms % 1000);
                Cow::Owned(format!("{seconds}.{ms:03}").into_bytes())
            })
        },
    },
];

/// Variables whose final value is known only when the client leaves. A log that uses one keeps the
/// request until then.
pub const KNOWN_AT_THE_END: [&str; 6] = [
    "websocket_close_code",
    "websocket_messages_in",
    "websocket_messages_out",
    "websocket_bytes_in",
    "websocket_bytes_out",
    "websocket_duration",
];

/// The figures of a request's client.
fn summary(request: &Request) -> Option<Summary> {
    request.summary::<Hub>()
}

fn text(number: u64) -> Cow<'static, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}

/// 128 random bits in hexadecimal: nobody can guess another client's reply channel.
fn id() -> Option<Vec<u8>> {
    let bits = process::random().ok()?;
    Some(
        bits.iter()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect(),
    )
}
