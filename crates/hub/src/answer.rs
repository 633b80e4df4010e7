//! What the hub answers to requests, and the effects it asks for.

use std::borrow::Cow;

use fanout::ClientId;
use proto::websocket::deflate::Agreed;
use smallvec::SmallVec;

/// The evaluated value of a name with variables. A short one needs no heap.
pub type Text = SmallVec<[u8; 48]>;

/// Response headers: name, value.
pub type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// What a 101 says besides `Connection` (RFC 6455, 4.2.2).
#[derive(Debug)]
pub struct Switching {
    /// `Sec-WebSocket-Accept`.
    pub accept: [u8; 28],
    /// `Sec-WebSocket-Protocol`.
    pub subprotocol: Option<&'static str>,
    /// `Sec-WebSocket-Extensions`.
    pub extensions: Option<Agreed>,
}

impl Switching {
    /// The headers of the 101, except `Connection`.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'_, [u8]>)> {
        let extensions = self
            .extensions
            .map(|agreed| agreed.to_string().into_bytes());
        let subprotocol = self.subprotocol.map(str::as_bytes);
        let headers = [
            ("Upgrade", Some(Cow::Borrowed(&b"websocket"[..]))),
            (
                "Sec-WebSocket-Accept",
                Some(Cow::Borrowed(&self.accept[..])),
            ),
            ("Sec-WebSocket-Protocol", subprotocol.map(Cow::Borrowed)),
            ("Sec-WebSocket-Extensions", extensions.map(Cow::Owned)),
        ];
        let headers = headers.into_iter();
        headers.filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A plain HTTP answer. If `error_page` lists its status (300 or above), the page replaces it.
#[derive(Debug, Default)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Further headers: name, value.
    pub headers: Headers,
    /// `Content-Type`, with a body.
    pub content_type: &'static str,
    /// May be empty.
    pub body: Vec<u8>,
}

impl Response {
    /// A status with no headers and no body of its own.
    pub fn status(status: u16) -> Response {
        Response {
            status,
            ..Response::default()
        }
    }
}

/// What the hub decided about a request.
#[derive(Debug)]
pub enum Outcome {
    /// Answer at once.
    Respond(Response),
    /// The handshake succeeds; the client is in the table.
    Accept(ClientId, Switching),
    /// The hub answers later, with the effect `Answer` or `Accept`.
    Park(u64),
}

/// What a method of the hub wants done after its borrow has ended.
#[derive(Debug)]
pub enum Effect {
    /// Sends the 101 of a parked handshake, whose client is already in the table.
    Accept(ClientId, Switching),
    /// Reads from a client whose turn has come.
    Read(ClientId),
    /// Frees the request of a client unless something else still uses it.
    Detach(ClientId),
    /// Closes a client's connection and frees its place in the table.
    Close(ClientId),
    /// Answers a parked request.
    Answer(u64, Response),
}
