//! Requests, as the outside has them.

use std::fmt::Arguments;
use std::io;

use super::sockets::Level;
use crate::answer::Text;
use crate::settings::{Location, Main, Template};

/// What a request is by itself. The handle is valid until its end is told; the hub keeps it only
/// while it is parked.
pub trait HttpRequest: Copy + 'static {
    /// True for `GET`.
    fn is_get(&self) -> bool;

    /// True for `HEAD`.
    fn is_head(&self) -> bool;

    /// True for `POST`.
    fn is_post(&self) -> bool;

    /// False for a subrequest.
    fn is_main(&self) -> bool;

    /// True while nginx runs the request once more for `post_action`.
    fn is_post_action(&self) -> bool;

    /// The status that `error_page`, which has led here, puts in place of the one that a handler
    /// sends: the error's, or N of `=N`. `=` alone leaves it to the handler.
    fn error_status(&self) -> Option<u16>;

    /// Major and minor version, as in `HTTP/1.1`.
    fn http_version(&self) -> (usize, usize);

    /// True if the request has a body of at least one byte, also one that was dropped already.
    fn has_body(&self) -> bool;

    /// True if the client came over TLS.
    fn is_tls(&self) -> bool;

    /// The header lines in order, names as the client wrote them.
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The authority of the target, `HOST[:PORT]`, if it has one: then `Host` is to be ignored (RFC
    /// 9112, 3.2.2). Over HTTP/2 and HTTP/3 it is `:authority`. A subrequest has its main request's.
    fn authority(&self) -> Option<&[u8]>;

    /// The query string, without its question mark.
    fn query(&self) -> &[u8];

    /// The query string of the request line: [`HttpRequest::query`] may have been rewritten.
    fn first_query(&self) -> &[u8];

    /// True if the request has a body, but not all of it is here once its arrival is told: it was
    /// discarded before, by another location or for a 413, or reading it failed; or this is a
    /// subrequest of a request whose body nobody has read.
    fn lacks_its_body(&self) -> bool;

    /// Number of bytes of the whole body.
    fn body_length(&self) -> usize;

    /// The whole body, from memory or from its file.
    ///
    /// # Errors
    /// Reading the file failed.
    fn body(&self) -> io::Result<Vec<u8>>;

    /// Writes a line to the connection's log, which adds client and request.
    fn log(&self, level: Level, text: Arguments<'_>);

    /// As [`HttpRequest::log`], at `warn`, or at `error` where the log shows no `warn`: nginx's default.
    /// For lines that an operator should see and that are few.
    fn log_to_operator(&self, text: Arguments<'_>);
}

/// A request, and what the configuration says of it.
pub trait Request: HttpRequest {
    /// How the location that handles the request is set.
    fn location(&self) -> &'static Location;

    /// How the whole worker is set.
    fn main(&self) -> &'static Main;

    /// The value of a name with variables for this request.
    ///
    /// # Errors
    /// Out of memory, or a variable's own failure; the cause is logged.
    fn evaluate(&self, template: Template) -> Result<Text, EvaluationFailed>;
}

/// Evaluating a template failed.
#[derive(Debug)]
pub struct EvaluationFailed;
