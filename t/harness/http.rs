//! Just enough HTTP/1.1 to send what a test needs, valid or not, and to read the response.

use super::stream::Stream;
use super::wait::patience;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// The key of RFC 6455, 1.3, and its required answer.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// `Sec-WebSocket-Accept` for [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request under construction. Its lines are sent in order, as they are.
#[derive(Clone, Debug)]
pub struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// `METHOD target HTTP/1.1` with a `Host`.
    pub fn new(method: &str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), "localhost".to_owned())];
        Self {
            line: format!("{method} {target} HTTP/1.1"),
            headers,
            body: Vec::new(),
        }
    }

    /// A GET with `Connection: close`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target).header("Connection", "close")
    }

    /// A POST with `Connection: close`.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        let request = Self::new("POST", target).header("Connection", "close");
        Self {
            body: body.clone(),
            ..request.header("Content-Length", &body.len().to_string())
        }
    }

    /// A valid WebSocket handshake.
    pub fn upgrade(target: &str) -> Self {
        Self::new("GET", target)
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
    }

    /// Replaces the request line.
    pub fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes all header lines with this name.
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Makes this the only header line with this name.
    pub fn with(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    /// Adds these bytes after the headers.
    pub fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    /// The bytes on the wire.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
        wire
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
    /// The body; empty after a 101.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first header line with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name));
        line.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// Sends a request on a separate connection and reads the response.
///
/// # Panics
/// If there is no response.
#[track_caller]
pub fn send(address: SocketAddr, request: &Request) -> Response {
    try_send(address, request).unwrap_or_else(|e| panic!("{}: {e}", request.line))
}

/// Like [`send`], for servers that may be gone.
pub fn try_send(address: SocketAddr, request: &Request) -> io::Result<Response> {
    let mut stream = Stream::plain(address)?;
    stream.set_read_timeout(patience());
    stream.write_all(&request.wire())?;
    let mut rest = Vec::new();
    if request.line.starts_with("HEAD ") {
        return read_head(&mut stream, &mut rest);
    }
    read(&mut stream, &mut rest)
}

/// Reads one response. `rest` contains bytes already read, and keeps those after the response.
pub fn read(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<Response> {
    let head = loop {
        if let Some(end) = find(rest, b"\r\n\r\n") {
            break rest.drain(..end + 4).collect::<Vec<u8>>();
        }
        if more(stream, rest)? == 0 {
            let seen = String::from_utf8_lossy(rest).into_owned();
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("ends in {seen:?}"),
            ));
        }
    };
    let mut response = parse_head(&head)?;
    if response.status != 101 && response.status != 204 {
        response.body = read_body(stream, rest, &response)?;
    }
    Ok(response)
}

/// The head of a response, including its empty line.
pub fn parse_head(head: &[u8]) -> io::Result<Response> {
    let text = String::from_utf8_lossy(head);
    let bad = || io::Error::new(io::ErrorKind::InvalidData, text.clone().into_owned());
    let mut lines = text.split("\r\n").take_while(|line| !line.is_empty());
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .ok_or_else(bad)?;
    let status = status
        .get(..3)
        .and_then(|code| code.parse().ok())
        .ok_or_else(bad)?;
    let headers = lines
        .map(|line| {
            line.split_once(':')
                .map(|(n, v)| (n.to_owned(), v.trim().to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(bad)?;
    Ok(Response {
        status,
        headers,
        body: Vec::new(),
    })
}

fn read_head(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<Response> {
    loop {
        if let Some(end) = find(rest, b"\r\n\r\n") {
            return parse_head(&rest.drain(..end + 4).collect::<Vec<u8>>());
        }
        if more(stream, rest)? == 0 {
            let seen = String::from_utf8_lossy(rest).into_owned();
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("ends in {seen:?}"),
            ));
        }
    }
}

fn read_body(stream: &mut impl Read, rest: &mut Vec<u8>, head: &Response) -> io::Result<Vec<u8>> {
    if head
        .header("Transfer-Encoding")
        .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    {
        return read_chunks(stream, rest);
    }
    let length = head
        .header("Content-Length")
        .and_then(|v| v.parse::<usize>().ok());
    while length.is_none_or(|length| rest.len() < length) {
        if more(stream, rest)? == 0 {
            break;
        }
    }
    let end = length.unwrap_or(rest.len()).min(rest.len());
    Ok(rest.drain(..end).collect())
}

fn read_chunks(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(end) = find(rest, b"\r\n") {
                break rest.drain(..end + 2).collect::<Vec<u8>>();
            }
            if more(stream, rest)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let size = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        let size = usize::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        while rest.len() < size + 2 {
            if more(stream, rest)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        body.extend(rest.drain(..size + 2).take(size));
        if size == 0 {
            return Ok(body);
        }
    }
}

fn more(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 16 * 1024];
    let n = stream.read(&mut piece)?;
    rest.extend_from_slice(&piece[..n]);
    Ok(n)
}

/// The position of `needle` in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}
