//! What the hub answers to requests, and what it leaves to be done.

use std::borrow::Cow;

use fanout::ClientId;
use proto::websocket::deflate::Agreed;
use smallvec::SmallVec;

/// The value of a name with variables; a short one is not on the heap.
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
    /// The headers of the 101, `Connection` aside.
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

/// A plain HTTP answer. Where `error_page` names its status of 300 or more, it replaces the answer.
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
    /// A status without headers or body of its own.
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
    /// The handshake succeeds; the client has its place.
    Accept(ClientId, Switching),
    /// The hub answers later, by the effects `Answer` or `Accept`.
    Park(u64),
}

/// What a method of the hub wants done once its borrow has ended.
#[derive(Debug)]
pub enum Effect {
    /// Sends the 101 of a parked handshake, whose client already has its place.
    Accept(ClientId, Switching),
    /// Reads from a client whose turn has come.
    Read(ClientId),
    /// Frees the request of a client, if nothing else uses it any more.
    Detach(ClientId),
    /// Ends a client's connection; its place is free afterwards.
    Close(ClientId),
    /// Answers a parked request.
    Answer(u64, Response),
}
