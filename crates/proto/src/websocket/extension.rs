//! Extensions that a client offers (RFC 6455, 9). [`deflate`](super::deflate) answers its own. All
//! are parsed, since a malformed one must fail the handshake (9.1).

use super::list::{elements, is_token, trim};

/// One extension that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    name: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> Offer<'a> {
    /// Parses `name; parameter; parameter=value; parameter="value"`. `None` if it is malformed.
    pub(super) fn parse(element: &'a [u8]) -> Option<Self> {
        let (name, parameters) = split_at_first(element, b';');
        let offer = Self {
            name,
            parameters: parameters.unwrap_or_default(),
        };
        let well_formed = is_token(name)
            && parameters.is_none_or(|all| !all.is_empty())
            && offer
                .parameters()
                .all(|(name, value)| is_token(name) && value.is_none_or(is_token));
        well_formed.then_some(offer)
    }

    /// The extension's name.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The parameters in order, with their unquoted values if they have one.
    pub fn parameters(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let all =
            (!self.parameters.is_empty()).then(|| self.parameters.split(|&byte| byte == b';'));
        all.into_iter().flatten().map(|parameter| {
            let (name, value) = split_at_first(parameter, b'=');
            (name, value.map(unquoted))
        })
    }
}

/// The offers of one `Sec-WebSocket-Extensions` line, in order of preference. A malformed offer is
/// `None`.
// A quoted value must be a token when unquoted (RFC 6455, 9.1), so it contains no comma.
pub(super) fn offers(line: &[u8]) -> impl Iterator<Item = Option<Offer<'_>>> {
    elements(line).map(Offer::parse)
}

fn split_at_first(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == separator) {
        Some(at) => (trim(&text[..at]), Some(trim(&text[at + 1..]))),
        None => (trim(text), None),
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parameters = [(&'static str, Option<&'static str>)];

    #[test]
    fn browsers_offers_are_read() {
        let cases: [(&str, &str, &Parameters); 4] = [
            ("permessage-deflate", "permessage-deflate", &[]),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate",
                &[("client_max_window_bits", None)],
            ),
            (
                "permessage-deflate;server_no_context_takeover ;\tclient_max_window_bits = 12",
                "permessage-deflate",
                &[
                    ("server_no_context_takeover", None),
                    ("client_max_window_bits", Some("12")),
                ],
            ),
            ("x; a=\"b\"; c", "x", &[("a", Some("b")), ("c", None)]),
        ];
        for (line, name, parameters) in cases {
            let offer = Offer::parse(line.as_bytes()).expect(line);
            assert_eq!(offer.name(), name.as_bytes(), "{line}");
            let want: Vec<_> = parameters
                .iter()
                .map(|(n, v)| (n.as_bytes(), v.map(str::as_bytes)))
                .collect();
            assert_eq!(offer.parameters().collect::<Vec<_>>(), want, "{line}");
        }
    }

    #[test]
    fn malformed_offers_are_told() {
        for line in [
            "a b",
            "a;",
            "a; ;b",
            "a; b=",
            "a; b=\"\"",
            "a; b=\"c d\"",
            "; a",
            "a; =b",
            "a=b",
        ] {
            assert_eq!(Offer::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn several_offers_keep_their_order() {
        let names: Vec<_> = offers(b"a, ,b;c=1,")
            .map(|offer| offer.unwrap().name())
            .collect();
        assert_eq!(names, [b"a", b"b"]);
    }
}
