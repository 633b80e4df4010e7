//! Query arguments of a request, as `$websocket_arg_NAME` has them.

use std::borrow::Cow;

use crate::outside::Request;

/// Whether a value has no control characters, and so cannot split a line of HTTP, a log or a
/// header.
pub fn is_fit(value: &[u8]) -> bool {
    !value.iter().any(u8::is_ascii_control)
}

/// A query argument whose variable is empty because the value has a control character: a channel
/// name built from it would not be the one that the client asked for. Checks the query as the
/// client sent it, and as a rewrite left it.
pub fn unfit_argument(request: &impl Request) -> Option<&'static [u8]> {
    // A subrequest's query is not what the client wrote.
    let first = if request.is_main() {
        request.first_query()
    } else {
        b""
    };
    let queries = [request.query(), first];
    let names = &request.main().arguments;
    let unfit = |query: &[u8], name: &[u8]| {
        // Only an encoded character can be one: nginx refuses plain ones.
        query.contains(&b'%') && argument(query, name).is_some_and(|value| !is_fit(&value))
    };
    let is_unfit = |name: &&Vec<u8>| queries.iter().any(|query| unfit(query, name));
    names.iter().find(is_unfit).map(Vec::as_slice)
}

/// The first query argument `name`, percent-decoded; `+` is kept.
pub fn argument<'a>(query: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let value = query.split(|&b| b == b'&').find_map(|pair| {
        let (key, rest) = pair.split_at_checked(name.len())?;
        let value = match rest {
            [] => rest,
            [b'=', value @ ..] => value,
            _ => return None,
        };
        // Nearly always the name is written as in nginx.conf.
        (key == name || key.eq_ignore_ascii_case(name)).then_some(value)
    })?;
    Some(decode(value))
}

/// Percent-decodes. A `%` without two hexadecimal digits is kept.
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
