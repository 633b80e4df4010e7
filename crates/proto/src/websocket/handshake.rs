//! The client's opening handshake (RFC 6455, 4.2), checked in one pass over the request's headers.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest as _, Sha1};

use super::extension::{self, Offer};
use super::list;

/// The GUID of RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The last character of a key contains four unused bits. RFC 6455's own example (4.1,
/// `AQIDBAUGBwgJCgsMDQ4PEC==`) does not leave them zero.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/0.9
    V09,
    /// HTTP/1.0
    V10,
    /// HTTP/1.1
    V11,
    /// HTTP/2
    V2,
    /// HTTP/3
    V3,
}

/// What a handshake depends on besides the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// Whether the method is GET.
    pub method_is_get: bool,
    /// The HTTP version.
    pub version: HttpVersion,
    /// Whether a body is announced, by length or as chunked.
    pub has_body: bool,
}

/// A handshake that is acceptable by the RFC.
#[derive(Clone, Debug)]
pub struct Handshake<'a> {
    key: &'a [u8],
    origin: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    subprotocols: Vec<&'a [u8]>,
    extensions: Vec<&'a [u8]>,
}

/// Checks a request. `headers` are its header lines in order, with names in any case and values
/// with the blanks around them. Lists may be spread over several lines.
///
/// The first error in this order is returned: the method, HTTP/2, 3 or 1.0, no upgrade, a body, the
/// version, the key, then the other headers. So a GET without `Upgrade` is [`Refusal::NotUpgrade`],
/// and a POST is [`Refusal::Method`] in every HTTP version: `error_page 405` may redirect it.
///
/// # Errors
/// Why the request is not an acceptable handshake.
pub fn check<'a>(
    line: &RequestLine,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Handshake<'a>, Refusal> {
    if !line.method_is_get {
        return Err(Refusal::Method);
    }
    match line.version {
        HttpVersion::V2 | HttpVersion::V3 => return Err(Refusal::Http2),
        HttpVersion::V09 | HttpVersion::V10 => return Err(Refusal::OldHttp),
        HttpVersion::V11 => {}
    }
    let mut seen = Seen::default();
    for (name, value) in headers {
        seen.note(name, list::trim(value));
    }
    seen.judge(line.has_body)
}

impl<'a> Handshake<'a> {
    /// The value of `Sec-WebSocket-Accept` (RFC 6455, 4.2.2).
    pub fn accept(&self) -> [u8; 28] {
        let digest = Sha1::new()
            .chain_update(self.key)
            .chain_update(GUID)
            .finalize();
        let mut accept = [0; 28];
        let written = STANDARD.encode_slice(digest, &mut accept);
        debug_assert_eq!(written, Ok(28));
        accept
    }

    /// The subprotocols that the client offers, preferred ones first. They are tokens.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a [u8]> {
        self.subprotocols
            .iter()
            .flat_map(|line| list::elements(line))
    }

    /// The extensions that the client offers, preferred ones first.
    pub fn extensions(&self) -> impl Iterator<Item = Offer<'a>> {
        self.extensions
            .iter()
            .flat_map(|line| extension::offers(line))
            .flatten()
    }

    /// `Origin`. Browsers always send it.
    pub fn origin(&self) -> Option<&'a [u8]> {
        self.origin
    }

    /// `Host`: the first one if there are several.
    pub fn host(&self) -> Option<&'a [u8]> {
        self.host
    }
}

/// Why a request is not an acceptable handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// HTTP/2 or HTTP/3, where `Upgrade` does not exist (RFC 9113, 8.2.2).
    Http2,
    /// A method other than GET.
    Method,
    /// HTTP/1.0 or older, where `Upgrade` must be ignored (RFC 9110, 7.8).
    OldHttp,
    /// No `Upgrade: websocket`, or no `Connection: upgrade`, without which it has no effect.
    NotUpgrade,
    /// A request body.
    Body,
    /// `Sec-WebSocket-Version` is not 13, is missing or occurs twice.
    Version,
    /// `Sec-WebSocket-Key` is missing, occurs twice or is not the base64 of 16 bytes.
    Key,
    /// Several `Origin` lines: it is unclear which one to check.
    Origin,
    /// `Sec-WebSocket-Protocol` has an element that is not a token.
    Subprotocol,
    /// `Sec-WebSocket-Extensions` is malformed.
    Extensions,
}

impl Refusal {
    /// The HTTP status of the response. It comes with a header: for [`Refusal::NotUpgrade`]
    /// `Upgrade: websocket`, for [`Refusal::Version`] `Sec-WebSocket-Version: 13`, for
    /// [`Refusal::Method`] `Allow: GET`.
    pub fn status(self) -> u16 {
        match self {
            Self::Http2
            | Self::OldHttp
            | Self::Body
            | Self::Key
            | Self::Origin
            | Self::Subprotocol
            | Self::Extensions => 400,
            Self::Method => 405,
            Self::NotUpgrade | Self::Version => 426,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http2 => "client sent WebSocket request over HTTP/2 or HTTP/3",
            Self::Method => "client sent WebSocket request with a method other than GET",
            Self::OldHttp => "client sent WebSocket request over HTTP older than 1.1",
            Self::NotUpgrade => "client sent request without upgrade to WebSocket",
            Self::Body => "client sent WebSocket request with a body",
            Self::Version => "client sent no valid \"Sec-WebSocket-Version\" header",
            Self::Key => "client sent no valid \"Sec-WebSocket-Key\" header",
            Self::Origin => "client sent duplicate \"Origin\" header",
            Self::Subprotocol => "client sent invalid \"Sec-WebSocket-Protocol\" header",
            Self::Extensions => "client sent invalid \"Sec-WebSocket-Extensions\" header",
        })
    }
}

impl std::error::Error for Refusal {}

/// The headers that a handshake uses.
#[derive(Clone, Copy)]
enum Header {
    Host,
    Origin,
    Upgrade,
    Connection,
    Key,
    Version,
    Protocol,
    Extensions,
}

impl Header {
    /// No two names have the same length, so most headers are skipped by length alone.
    fn of(name: &[u8]) -> Option<Self> {
        let (header, is_it) = match name.len() {
            4 => (Self::Host, is(name, b"host")),
            6 => (Self::Origin, is(name, b"origin")),
            7 => (Self::Upgrade, is(name, b"upgrade")),
            10 => (Self::Connection, is(name, b"connection")),
            17 => (Self::Key, is(name, b"sec-websocket-key")),
            21 => (Self::Version, is(name, b"sec-websocket-version")),
            22 => (Self::Protocol, is(name, b"sec-websocket-protocol")),
            24 => (Self::Extensions, is(name, b"sec-websocket-extensions")),
            _ => return None,
        };
        is_it.then_some(header)
    }
}

/// Whether `name` is `lower`, ignoring case. The length is constant and the loop does not stop at
/// the first difference, so the compiler compares whole vectors.
fn is<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH]) -> bool {
    let Ok(name) = <&[u8; LENGTH]>::try_from(name) else {
        return false;
    };
    let pairs = name.iter().zip(lower);
    pairs.fold(0, |differ, (a, b)| differ | (a.to_ascii_lowercase() ^ b)) == 0
}

/// A header that may occur only once.
#[derive(Clone, Copy, Debug, Default)]
enum Single<'a> {
    #[default]
    Missing,
    One(&'a [u8]),
    Several,
}

impl<'a> Single<'a> {
    fn note(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Missing => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}

#[derive(Default)]
struct Seen<'a> {
    connection: bool,
    upgrade: bool,
    version: Single<'a>,
    key: Single<'a>,
    origin: Single<'a>,
    host: Option<&'a [u8]>,
    subprotocols: Vec<&'a [u8]>,
    extensions: Vec<&'a [u8]>,
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) {
        match Header::of(name) {
            None => {}
            Some(Header::Host) => {
                self.host.get_or_insert(value);
            }
            Some(Header::Origin) => self.origin.note(value),
            Some(Header::Upgrade) => self.upgrade |= list::contains(value, "websocket"),
            Some(Header::Connection) => self.connection |= list::contains(value, "upgrade"),
            Some(Header::Key) => self.key.note(value),
            Some(Header::Version) => self.version.note(value),
            Some(Header::Protocol) => self.subprotocols.push(value),
            Some(Header::Extensions) => self.extensions.push(value),
        }
    }

    fn judge(self, has_body: bool) -> Result<Handshake<'a>, Refusal> {
        if !(self.upgrade && self.connection) {
            return Err(Refusal::NotUpgrade);
        }
        if has_body {
            return Err(Refusal::Body);
        }
        let Single::One(b"13") = self.version else {
            return Err(Refusal::Version);
        };
        let key = match self.key {
            Single::One(key) if is_key(key) => key,
            _ => return Err(Refusal::Key),
        };
        let origin = match self.origin {
            Single::Missing => None,
            Single::One(origin) => Some(origin),
            Single::Several => return Err(Refusal::Origin),
        };
        let Self {
            host,
            subprotocols,
            extensions,
            ..
        } = self;
        if !subprotocols
            .iter()
            .flat_map(|line| list::elements(line))
            .all(list::is_token)
        {
            return Err(Refusal::Subprotocol);
        }
        if extensions
            .iter()
            .flat_map(|line| extension::offers(line))
            .any(|offer| offer.is_none())
        {
            return Err(Refusal::Extensions);
        }
        Ok(Handshake {
            key,
            origin,
            host,
            subprotocols,
            extensions,
        })
    }
}

fn is_key(value: &[u8]) -> bool {
    value.len() == 24 && KEY.decode_slice(value, &mut [0; 18]) == Ok(16)
}
