//! Why a client is refused, and the answer it gets.

use std::fmt;

use proto::websocket::handshake::Refusal;

use crate::answer::Response;

/// Why a client is refused. Each reason has its own counter in `websocket_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The RFC does not allow this handshake.
    Handshake(Refusal),
    /// `websocket_origin`.
    Origin,
    /// The channel's name, and what is wrong with it, such as "is empty".
    Channel(&'static str),
    /// A subrequest.
    Subrequest,
    /// `error_page` led here, to show an error of this status.
    ErrorPage(u16),
    /// Out of memory, or another failure of the module.
    Internal,
    /// `websocket_max_pending`.
    Pending,
    /// `websocket_reserve`.
    Reserve,
    /// `websocket_memory`.
    Memory,
    /// The worker is about to exit.
    Exiting,
    /// Redis is away.
    BrokerAway,
    /// Redis did not confirm in time.
    BrokerSlow,
    /// Redis's ACL forbids a channel.
    Forbidden,
}

impl Refused {
    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Refused::Handshake(refusal) => refusal.status(),
            Refused::Origin | Refused::Forbidden => 403,
            Refused::Channel(_) | Refused::Subrequest => 400,
            // "error_page 403 =200" turns any answer into a 200, but a 200 is no WebSocket.
            Refused::ErrorPage(status) if status < 300 => 500,
            Refused::ErrorPage(status) => status,
            Refused::Internal => 500,
            Refused::Pending
            | Refused::Reserve
            | Refused::Memory
            | Refused::Exiting
            | Refused::BrokerAway => 503,
            Refused::BrokerSlow => 504,
        }
    }

    /// The answer to a request with this query. If the request itself is wrong, a line of text
    /// tells how to fix it.
    pub fn response(self, query: &[u8]) -> Response {
        let mut response = Response::status(self.status());
        response.content_type = "text/plain";
        response.body = self.text(query).into_bytes();
        let headers: &[(&'static str, &str)] = match self {
            Refused::Handshake(Refusal::NotUpgrade) => &[("Upgrade", "websocket")],
            Refused::Handshake(Refusal::Version) => {
                &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
            }
            Refused::Handshake(Refusal::Method) => &[("Allow", "GET")],
            _ => &[],
        };
        response
            .headers
            .extend(headers.iter().map(|(name, value)| (*name, (*value).into())));
        response
    }

    /// For the author of the client. It contains nothing of the request.
    fn text(self, query: &[u8]) -> String {
        let text = match self {
            Refused::Handshake(Refusal::NotUpgrade) if is_socket_io(query) => {
                "This is no Socket.IO server: connect to it by a plain WebSocket, not by a Socket.IO \
                 client."
            }
            Refused::Handshake(refusal) => mend(refusal),
            Refused::Channel(cause) => return format!("The channel's name {cause}.\n"),
            _ => return String::new(),
        };
        format!("{text}\n")
    }
}

/// What a client should do instead.
fn mend(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotUpgrade => {
            "A WebSocket is wanted here: a request with \"Upgrade: websocket\" and \"Connection: \
             Upgrade\". A proxy on the way must pass both on."
        }
        Refusal::Http2 => "A WebSocket begins over HTTP/1.1, not over HTTP/2 or HTTP/3.",
        Refusal::OldHttp => {
            "A WebSocket begins over HTTP/1.1. A proxy on the way must use it: nginx by \
             \"proxy_http_version 1.1\"."
        }
        Refusal::Method => "A WebSocket begins with GET.",
        Refusal::Body => "A request for a WebSocket has no body.",
        Refusal::Version => "\"Sec-WebSocket-Version\" must be 13.",
        Refusal::Key => {
            "\"Sec-WebSocket-Key\" must be there once, and be the base64 of 16 random bytes."
        }
        Refusal::Origin => "\"Origin\" must not be there twice.",
        Refusal::Subprotocol => "\"Sec-WebSocket-Protocol\" must be a list of tokens.",
        Refusal::Extensions => "\"Sec-WebSocket-Extensions\" is malformed.",
    }
}

/// Whether this is Engine.IO's long polling, with which a Socket.IO client begins.
fn is_socket_io(query: &[u8]) -> bool {
    let mut pairs = query.split(|&byte| byte == b'&');
    let is_polling = pairs.clone().any(|pair| pair == b"transport=polling");
    is_polling && pairs.any(|pair| pair.starts_with(b"EIO="))
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Handshake(refusal) => return refusal.fmt(f),
            Refused::Channel(cause) => return write!(f, "channel {cause}"),
            Refused::ErrorPage(status) => {
                return write!(f, "\"error_page\" shows an error of status {status} by it");
            }
            Refused::Origin => "origin is not allowed by \"websocket_origin\"",
            Refused::Subrequest => "a subrequest cannot become a WebSocket",
            Refused::Internal => "internal error",
            Refused::Pending => "as many as \"websocket_max_pending\" allows wait for redis",
            Refused::Reserve => "the free worker_connections are kept by \"websocket_reserve\"",
            Refused::Memory => "clients hold more than \"websocket_memory\"",
            Refused::Exiting => "worker is exiting",
            Refused::BrokerAway => "redis is away",
            Refused::BrokerSlow => "redis has not confirmed the subscription in time",
            Refused::Forbidden => "redis forbids the channel",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_io_is_known_by_its_polling() {
        for (query, is_it) in [
            ("EIO=4&transport=polling&t=abc", true),
            ("transport=polling&EIO=3", true),
            ("EIO=4&transport=websocket", false),
            ("EIO=4", false),
            ("transport=polling", false),
            ("xEIO=4&transport=polling", false),
            ("", false),
        ] {
            assert_eq!(is_socket_io(query.as_bytes()), is_it, "{query}");
        }
    }
}
