//! `$websocket_…`: for `log_format`, maps and channel names.

use std::borrow::Cow;

use crate::nginx::variable::{Name, Variable};
use crate::nginx::{Request, process};

/// A client's channels, kept for it only where nginx.conf names this variable.
pub const CHANNEL: &str = "websocket_channel";

/// The beginning of the names of query arguments.
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
            let channel = r.summary()?.channel;
            (!channel.is_empty()).then_some(Cow::Owned(channel))
        },
    },
    Variable {
        name: Name::Always("websocket_close_code"),
        get: |r, _| {
            r.summary()
                .filter(|s| s.close_code > 0)
                .map(|s| text(s.close_code.into()))
        },
    },
    Variable {
        name: Name::Always("websocket_messages_in"),
        get: |r, _| r.summary().map(|s| text(s.messages_in)),
    },
    Variable {
        name: Name::Always("websocket_messages_out"),
        get: |r, _| r.summary().map(|s| text(s.messages_out)),
    },
    Variable {
        name: Name::Always("websocket_bytes_in"),
        get: |r, _| r.summary().map(|s| text(s.bytes_in)),
    },
    Variable {
        name: Name::Always("websocket_bytes_out"),
        get: |r, _| r.summary().map(|s| text(s.bytes_out)),
    },
    Variable {
        name: Name::Always("websocket_duration"),
        get: |r, _| {
            r.summary().map(|s| {
                let (seconds, ms) = (s.duration_ms / 1000, s.duration_ms % 1000);
                Cow::Owned(format!("{seconds}.{ms:03}").into_bytes())
            })
        },
    },
];

/// Variables whose final value is known only when the client leaves: a log that asks for one keeps
/// the request until then.
pub const KNOWN_AT_THE_END: [&str; 6] = [
    "websocket_close_code",
    "websocket_messages_in",
    "websocket_messages_out",
    "websocket_bytes_in",
    "websocket_bytes_out",
    "websocket_duration",
];

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

/// Whether nothing can be split by it, be it a line of HTTP, a log's or a header.
fn is_fit(value: &[u8]) -> bool {
    !value.iter().any(u8::is_ascii_control)
}

/// An argument of the request whose variable is empty because it has a control character: a name
/// made of it is not what the client asked for. As the client sent it, or as a rewrite left it.
pub fn unfit_argument(request: Request) -> Option<&'static [u8]> {
    // What a subrequest asks for is not what the client wrote.
    let first = if request.is_main() {
        request.first_query()
    } else {
        b""
    };
    let queries = [request.query(), first];
    let names = &request.main().arguments;
    let unfit = |query: &[u8], name: &[u8]| {
        // Only what was encoded can have one: nginx takes none that is not.
        query.contains(&b'%') && argument(query, name).is_some_and(|value| !is_fit(&value))
    };
    let is_unfit = |name: &&Vec<u8>| queries.iter().any(|query| unfit(query, name));
    names.iter().find(is_unfit).map(Vec::as_slice)
}

/// The first query argument `name`, percent-decoded, `+` as it is.
fn argument<'a>(query: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let value = query.split(|&b| b == b'&').find_map(|pair| {
        let (key, rest) = pair.split_at_checked(name.len())?;
        let value = match rest {
            [] => rest,
            [b'=', value @ ..] => value,
            _ => return None,
        };
        // Nearly always it is written as nginx.conf has it.
        (key == name || key.eq_ignore_ascii_case(name)).then_some(value)
    })?;
    Some(decode(value))
}

/// Percent-decodes; a `%` without two hexadecimal digits stays as it is.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |at: usize| text.get(at).and_then(|&b| char::from(b).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_percent_decoded() {
        let get = |query: &str, name: &str| {
            argument(query.as_bytes(), name.as_bytes()).map(Cow::into_owned)
        };
        assert_eq!(get("channel=foo", "channel"), Some(b"foo".to_vec()));
        assert_eq!(
            get("a=1&channel=b%C3%BC%20r+%", "channel"),
            Some("bü r+%".into())
        );
        assert_eq!(get("channel", "channel"), Some(vec![]));
        assert_eq!(get("Channel=%4", "channel"), Some(b"%4".to_vec()));
        assert_eq!(get("channels=foo", "channel"), None);
        assert_eq!(get("", "channel"), None);
    }

    #[test]
    fn control_characters_make_an_argument_unfit() {
        for code in 0..=u8::MAX {
            let query = format!("channel=a%{code:02x}b");
            let value = argument(query.as_bytes(), b"channel").expect("a value");
            assert_eq!(*value, [b'a', code, b'b']);
            assert_eq!(is_fit(&value), code >= 0x20 && code != 0x7f, "{code:#x}");
        }
        assert!(is_fit(b""));
        assert!(!is_fit(b"as nginx would never let through\n"));
    }
}
