//! The check of `Origin`: whose pages may connect (RFC 6455, 10.2; RFC 6454).
//!
//! It keeps a foreign page from using its visitor's cookies here. A request without `Origin` does
//! not come from a browser and passes under every policy.

use std::net::Ipv6Addr;

/// Which origins may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Origins whose host and port are those of the request.
    #[default]
    Same,
    /// All origins.
    Any,
    /// Origins that match one of these patterns.
    List(Vec<Pattern>),
}

/// One of the origins that a [`Policy::List`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(PatternKind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternKind {
    Same,
    /// `null`: sandboxed pages, `data:` URLs and, in some browsers, `file:` URLs.
    Null,
    /// `file://`: applications that show their own files as pages.
    File,
    Matching {
        scheme: Option<String>,
        host: Host,
        port: Port,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Exactly(String),
    /// All hosts with this suffix, which begins with a dot.
    Under(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// The default port of the origin's scheme, which is not written.
    Default,
    Exactly(u16),
    Any,
}

impl Policy {
    /// Parses `same`, `any`, or a list of patterns, which may include `same`.
    ///
    /// A pattern is `[SCHEME://]HOST[:PORT]`. Without a scheme it matches `http` and `https`. A
    /// host of `*.example.com` matches all names under `example.com`, at any depth, but not
    /// `example.com` itself. Without a port it matches the scheme's default port, and `:*` any
    /// port. `null` and `file://` match these literal origins.
    ///
    /// # Errors
    /// What is wrong, as the end of a configuration's error line.
    pub fn parse(values: &[&str]) -> Result<Self, String> {
        match values {
            [] => Err("no origin is given".to_owned()),
            ["same"] => Ok(Self::Same),
            ["any"] => Ok(Self::Any),
            _ => values
                .iter()
                .map(|value| Pattern::parse(value))
                .collect::<Result<_, _>>()
                .map(Self::List),
        }
    }

    /// Whether a request may connect. `host` is its target: the authority of an absolute-form
    /// target, else `Host` (RFC 9112, 3.2.2). `tls`: whether it came over TLS.
    ///
    /// The request's own origin is the one with the same host and port. A `Host` without a port
    /// means 443 over TLS. Without TLS it means the default port of the origin's scheme, since TLS
    /// may end at a proxy in front.
    pub fn allows(&self, origin: Option<&[u8]>, host: Option<&[u8]>, tls: bool) -> bool {
        let (Some(origin), false) = (origin, *self == Self::Any) else {
            return true;
        };
        let is_same = || Origin::parse(origin).is_some_and(|origin| origin.is_same(host, tls));
        match self {
            Self::Any => true,
            Self::Same => is_same(),
            Self::List(patterns) => patterns.iter().any(|pattern| match &pattern.0 {
                PatternKind::Same => is_same(),
                PatternKind::Null => origin == b"null",
                PatternKind::File => origin.eq_ignore_ascii_case(FILE.as_bytes()),
                PatternKind::Matching { scheme, host, port } => {
                    Origin::parse(origin).is_some_and(|origin| {
                        origin.has_scheme(scheme.as_deref())
                            && host.is(origin.host)
                            && origin.is_at(*port)
                    })
                }
            }),
        }
    }
}

/// The origin of files in browsers that do not send `null`.
const FILE: &str = "file://";

impl Pattern {
    fn parse(value: &str) -> Result<Self, String> {
        if value == "same" {
            return Ok(Self(PatternKind::Same));
        }
        if value == "any" {
            return Err("\"any\" must stand alone".to_owned());
        }
        if value == "null" {
            return Ok(Self(PatternKind::Null));
        }
        if value.eq_ignore_ascii_case(FILE) {
            return Ok(Self(PatternKind::File));
        }
        if let Some(mend) = never_sent(value) {
            return Err(mend);
        }
        Self::read(value).ok_or_else(|| {
            "it must be \"same\", \"any\", \"null\", \"file://\" or like \"https://example.com\", \
             \"*.example.com\" or \"http://localhost:*\""
                .to_owned()
        })
    }

    fn read(value: &str) -> Option<Self> {
        let (scheme, rest) = match value.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, value),
        };
        if scheme
            .as_deref()
            .is_some_and(|scheme| !is_scheme(scheme.as_bytes()))
        {
            return None;
        }
        let (host, port) = split_port(rest.as_bytes())?;
        let port = match port {
            None => Port::Default,
            Some(b"*") => Port::Any,
            Some(digits) => Port::Exactly(port_number(digits)?),
        };
        let host = Host::parse(std::str::from_utf8(host).ok()?)?;
        Some(Self(PatternKind::Matching { scheme, host, port }))
    }
}

/// Values that would parse as a pattern but that no browser sends. Returns how to correct them.
fn never_sent(value: &str) -> Option<String> {
    let lower = value.to_ascii_lowercase();
    if lower == "*" {
        return Some("it must be \"any\" to allow all origins".to_owned());
    }
    if lower == "none" {
        return Some(
            "it must name an origin: a request without \"Origin\" passes anyway, and the origin \
             of sandboxed pages is \"null\""
                .to_owned(),
        );
    }
    // Hosts are compared ignoring case, so these would be taken for hosts.
    if ["same", "any", "null"].contains(&&*lower) {
        return Some(format!("it must be \"{lower}\", in lower case"));
    }
    if ["all", "on", "off", "true", "false", "self"].contains(&&*lower) {
        return Some("it must be \"same\", \"any\", or name an origin".to_owned());
    }
    for (wrong, right) in [("ws://", "http://"), ("wss://", "https://")] {
        if let Some(rest) = lower.strip_prefix(wrong) {
            return Some(format!(
                "it must be \"{right}{rest}\": an origin is the page's address, not the WebSocket's"
            ));
        }
    }
    None
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if let Some(inner) = text.strip_prefix('[') {
            // Browsers write addresses in the one short form of RFC 5952. Operators may not.
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Exactly(format!("[{address}]")));
        }
        match text.strip_prefix('*') {
            Some(suffix) => {
                is_name(suffix.strip_prefix('.')?).then(|| Self::Under(suffix.to_owned()))
            }
            None => is_name(&text).then_some(Self::Exactly(text)),
        }
    }

    fn is(&self, host: &[u8]) -> bool {
        match self {
            Self::Exactly(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Under(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .is_some_and(|at| at > 0 && host[at..].eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }
}

/// The value of `Origin` (RFC 6454, 7). `null` is not parsed.
struct Origin<'a> {
    scheme: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let at = value.windows(3).position(|three| three == b"://")?;
        let (scheme, rest) = (&value[..at], &value[at + 3..]);
        let (host, port) = split_port(rest)?;
        let port = match port {
            Some(digits) => Some(port_number(digits)?),
            None => None,
        };
        is_scheme(scheme).then_some(Self { scheme, host, port })
    }

    fn default_port(&self) -> Option<u16> {
        if self.scheme.eq_ignore_ascii_case(b"https") {
            Some(443)
        } else if self.scheme.eq_ignore_ascii_case(b"http") {
            Some(80)
        } else {
            None
        }
    }

    fn is_same(&self, host: Option<&[u8]>, tls: bool) -> bool {
        let Some((host, port)) = host.and_then(split_port) else {
            return false;
        };
        let Some(default) = self.default_port() else {
            return false;
        };
        let port = match port {
            Some(digits) => port_number(digits),
            None => Some(if tls { 443 } else { default }),
        };
        host.eq_ignore_ascii_case(self.host) && port == Some(self.port.unwrap_or(default))
    }

    fn has_scheme(&self, wanted: Option<&str>) -> bool {
        match wanted {
            Some(scheme) => self.scheme.eq_ignore_ascii_case(scheme.as_bytes()),
            None => self.default_port().is_some(),
        }
    }

    fn is_at(&self, wanted: Port) -> bool {
        match wanted {
            Port::Any => true,
            Port::Default => self.port.is_none() || self.port == self.default_port(),
            Port::Exactly(port) => self.port.or(self.default_port()) == Some(port),
        }
    }
}

/// `HOST[:PORT]`. An IPv6 address is in brackets and keeps them. The host is not empty.
fn split_port(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let name_len = match text {
        [b'[', ..] => text.iter().position(|&byte| byte == b']')? + 1,
        _ => text
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(name_len);
    match (host, rest) {
        ([], _) => None,
        (_, []) => Some((host, None)),
        (_, [b':', port @ ..]) => Some((host, Some(port))),
        _ => None,
    }
}

fn port_number(digits: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `parse` would accept a sign.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// RFC 3986, 3.1.
fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// A host name or IPv4 address. Names beyond ASCII are written as `xn--` in an origin.
fn is_name(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(policy: &Policy, origin: &str, host: &str, tls: bool) -> bool {
        policy.allows(Some(origin.as_bytes()), Some(host.as_bytes()), tls)
    }

    #[test]
    fn same_compares_host_and_port() {
        for (origin, host, tls, want) in [
            ("http://example.com", "example.com", false, true),
            ("http://example.com:80", "example.com", false, true),
            ("http://example.com", "example.com:80", false, true),
            ("https://example.com", "example.com", true, true),
            ("https://example.com", "example.com:443", true, true),
            ("HTTP://Example.COM", "eXample.com", false, true),
            ("http://[::1]:8080", "[::1]:8080", false, true),
            ("http://[::1]", "[::1]", false, true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", false, true),
            // TLS ended at a proxy in front.
            ("https://example.com", "example.com", false, true),
            ("https://example.com:8443", "example.com:8443", false, true),
            // A page without TLS can come from anyone on the network path.
            ("http://example.com", "example.com", true, false),
            ("https://example.com", "example.com:80", false, false),
            ("http://example.com:8080", "example.com", false, false),
            ("http://example.com", "example.com:8080", false, false),
            ("http://example.org", "example.com", false, false),
            ("http://www.example.com", "example.com", false, false),
            ("http://example.com.evil.org", "example.com", false, false),
            ("http://[::1]", "[::2]", false, false),
            ("null", "null", false, false),
            ("null", "example.com", false, false),
            ("", "example.com", false, false),
            ("example.com", "example.com", false, false),
            ("http://", "", false, false),
            ("http://example.com/", "example.com", false, false),
            ("http://user@example.com", "example.com", false, false),
            ("http://example.com:", "example.com", false, false),
            ("http://example.com:+80", "example.com", false, false),
            ("http://example.com:65616", "example.com", false, false),
            (
                "chrome-extension://example.com",
                "example.com",
                false,
                false,
            ),
            ("file://", "example.com", false, false),
            ("http://a http://b", "a", false, false),
        ] {
            assert_eq!(
                allows(&Policy::Same, origin, host, tls),
                want,
                "{origin} {host} tls={tls}"
            );
        }
        assert!(!Policy::Same.allows(Some(b"http://example.com"), None, false));
    }

    #[test]
    fn no_origin_passes_under_every_policy() {
        for values in [&["same"][..], &["any"], &["https://example.com"]] {
            let policy = Policy::parse(values).unwrap();
            assert!(
                policy.allows(None, Some(b"example.com"), false),
                "{values:?}"
            );
        }
    }

    #[test]
    fn any_lets_everything_in() {
        for origin in ["null", "http://x", "not an origin", ""] {
            assert!(
                allows(&Policy::Any, origin, "example.com", true),
                "{origin}"
            );
        }
    }

    #[track_caller]
    fn judges(pattern: &str, origin: &str, want: bool) {
        let policy = Policy::parse(&[pattern]).unwrap();
        let got = allows(&policy, origin, "here", false);
        assert_eq!(got, want, "{pattern} {origin}");
    }

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, origin, want) in [
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://example.com:443", true),
            ("https://example.com", "HTTPS://EXAMPLE.com", true),
            ("HTTPS://Example.Com", "https://example.com", true),
            ("https://example.com", "http://example.com", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://example.com", "https://example.com.evil.org", false),
            ("https://example.com", "https://evil-example.com", false),
            ("https://example.com:443", "https://example.com", true),
            ("https://example.com:8443", "https://example.com:8443", true),
            ("https://example.com:8443", "https://example.com", false),
            ("https://example.com:*", "https://example.com", true),
            ("https://example.com:*", "https://example.com:1", true),
            ("example.com", "http://example.com", true),
            ("example.com", "https://example.com", true),
            ("example.com", "https://example.com:8443", false),
            ("example.com", "ftp://example.com", false),
            ("example.com:8080", "http://example.com:8080", true),
            ("example.com:80", "http://example.com", true),
            ("*.example.com", "https://www.example.com", true),
            ("*.example.com", "https://a.b.example.com", true),
            ("*.example.com", "https://A.EXAMPLE.com", true),
            ("*.example.com", "https://example.com", false),
            ("*.example.com", "https://.example.com", false),
            ("*.example.com", "https://evilexample.com", false),
            ("*.example.com", "https://www.example.com:81", false),
            (
                "https://*.example.com:*",
                "https://www.example.com:81",
                true,
            ),
            ("https://*.example.com", "http://www.example.com", false),
        ] {
            judges(pattern, origin, want);
        }
    }

    #[test]
    fn local_and_odd_origins_match_as_documented() {
        for (pattern, origin, want) in [
            ("http://localhost:*", "http://localhost:3000", true),
            ("[0:0:0:0:0:0:0:1]:*", "http://[::1]:3000", true),
            (
                "chrome-extension://abcdef",
                "chrome-extension://abcdef",
                true,
            ),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("capacitor://localhost:*", "capacitor://localhost", true),
            ("example.com", "null", false),
            ("null", "null", true),
            ("null", "NULL", false),
            ("null", "http://null", false),
            ("null", "file://", false),
            ("null", "", false),
            ("http://null", "http://null", true),
            ("http://null", "null", false),
            ("file://", "file://", true),
            ("FILE://", "file://", true),
            ("file://", "FILE://", true),
            ("file://", "null", false),
            ("file://", "file:///", false),
            ("file://", "file://host", false),
            ("file://host", "file://", false),
        ] {
            judges(pattern, origin, want);
        }
    }

    #[test]
    fn a_list_lets_in_what_any_of_its_patterns_does() {
        let values = ["same", "null", "https://example.com", "*.example.org"];
        let policy = Policy::parse(&values).unwrap();
        for (origin, want) in [
            ("null", true),
            ("file://", false),
            ("http://here", true),
            ("https://example.com", true),
            ("http://a.example.org", true),
            ("http://elsewhere", false),
        ] {
            assert_eq!(allows(&policy, origin, "here", false), want, "{origin}");
        }
    }

    #[test]
    fn bad_patterns_are_named() {
        for value in [
            "",
            "https://",
            "https://example.com/",
            "https://example.com:x",
            "example.com:",
            "example.com:99999",
            "*example.com",
            "*.",
            "a.*.com",
            "null://",
            "1x://a",
            "a b",
            "[::1",
            "[zz]",
            "münchen.de",
            "user@a",
            "a..b",
        ] {
            let message = Policy::parse(&[value]).expect_err(value);
            assert!(message.contains("it must be"), "{message}");
        }
        for values in [&["same", "any"][..], &["any", "any"], &["a", "any"]] {
            let message = Policy::parse(values).unwrap_err();
            assert_eq!(message, "\"any\" must stand alone", "{values:?}");
        }
        assert!(Policy::parse(&[]).is_err());
    }

    #[test]
    fn what_no_browser_sends_is_told_with_what_it_sends() {
        for (value, mend) in [
            ("wss://example.com", "it must be \"https://example.com\""),
            ("WSS://Example.com:8443", "\"https://example.com:8443\""),
            ("ws://localhost:*", "it must be \"http://localhost:*\""),
            ("*", "it must be \"any\" to allow all origins"),
            ("none", "the origin of sandboxed pages is \"null\""),
            ("None", "a request without \"Origin\" passes anyway"),
            ("Null", "it must be \"null\", in lower case"),
            ("SAME", "it must be \"same\", in lower case"),
            ("Any", "it must be \"any\", in lower case"),
            ("off", "it must be \"same\", \"any\", or name an origin"),
            ("all", "it must be \"same\", \"any\", or name an origin"),
        ] {
            for values in [&[value][..], &["same", value], &[value, "same"]] {
                let message = Policy::parse(values).expect_err(value);
                assert!(message.contains(mend), "{value}: {message}");
            }
        }
    }
}
