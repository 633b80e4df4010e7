//! Requests, as the outside provides them.

use std::fmt::Arguments;
use std::io;

use super::sockets::Level;
use crate::answer::Text;
use crate::settings::{Location, Main, Template};

/// A request by itself. The handle is valid until the request's end is reported; the hub keeps it
/// only while the request is parked.
pub trait HttpRequest: Copy + 'static {
    /// True for `GET`.
    fn is_get(&self) -> bool;

    /// True for `HEAD`.
    fn is_head(&self) -> bool;

    /// True for `POST`.
    fn is_post(&self) -> bool;

    /// False for a subrequest.
    fn is_main(&self) -> bool;

    /// True while nginx runs the request again for `post_action`.
    fn is_post_action(&self) -> bool;

    /// The status that `error_page`, which has led here, puts in place of the handler's: the
    /// error's, or N of `=N`. A bare `=` leaves the status to the handler.
    fn error_status(&self) -> Option<u16>;

    /// Major and minor version, as in `HTTP/1.1`.
    fn http_version(&self) -> (usize, usize);

    /// True if the request has a body of at least one byte, even one that was already discarded.
    fn has_body(&self) -> bool;

    /// True if the client came over TLS.
    fn is_tls(&self) -> bool;

    /// The header lines in order, names as the client wrote them.
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The authority of the target, `HOST[:PORT]`, if it has one: then `Host` must be ignored (RFC
    /// 9112, 3.2.2). Over HTTP/2 and HTTP/3 it is `:authority`. A subrequest has its main
    /// request's.
    fn authority(&self) -> Option<&[u8]>;

    /// The query string, without its question mark.
    fn query(&self) -> &[u8];

    /// The query string of the request line. [`HttpRequest::query`] may have been rewritten.
    fn first_query(&self) -> &[u8];

    /// True if the request has a body but not all of it is here when its arrival is reported: it
    /// was discarded earlier, by another location or for a 413; or reading it failed; or this is a
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

    /// As [`HttpRequest::log`], but at `warn`, or at `error` if the log does not show `warn`
    /// (nginx's default). For rare lines that an operator should see.
    fn log_to_operator(&self, text: Arguments<'_>);
}

/// A request together with its configuration.
pub trait Request: HttpRequest {
    /// The settings of the location that handles the request.
    fn location(&self) -> &'static Location;

    /// The settings of the whole worker.
    fn main(&self) -> &'static Main;

    /// Evaluates a name with variables for this request.
    ///
    /// # Errors
    /// Out of memory, or an error of a variable; the cause is logged.
    fn evaluate(&self, template: Template) -> Result<Text, EvaluationFailed>;
}

/// Evaluating a template failed.
#[derive(Debug)]
pub struct EvaluationFailed;
