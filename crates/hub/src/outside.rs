//! The seam: what a hub asks of the process around it.
//!
//! nginx answers in the module; a simulation answers in `tests/sim`. The hub is compiled once for
//! each, so a call through the seam costs what a direct call costs.

use std::fmt::Arguments;
use std::io;

pub use fanout::ClientId;

use crate::answer::Text;
use crate::session::Session;
use crate::settings::{Location, Main, Template};

/// Severity of a line in the log, as in nginx's `error_log` directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// nginx cannot start with this configuration.
    Emerg,
    /// A bug of ours, or a limit of the machine that nobody should meet.
    Alert,
    /// Trouble of our own, with its cause.
    Error,
    /// An operator should look at it.
    Warn,
    /// A change of state, one line each way.
    Notice,
    /// A client's mistake.
    Info,
}

/// Outcome of a read from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now; an event will say when.
    Again,
    /// The other side has sent its FIN (or its TLS close_notify).
    Eof,
    /// The connection is broken; the cause is logged.
    Failed,
}

/// Outcome of a write to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken: the socket may take more.
    Bytes(usize),
    /// Nothing now; an event will say when.
    Again,
    /// The connection is broken; the cause is logged.
    Failed,
}

/// Which peer an event is about; chosen by the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(pub u32);

/// What [`Peer::advance`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet usable; wait for its next event.
    Pending,
    /// It has just become usable.
    Opened,
    /// It is usable, and was before.
    Open,
    /// It failed, by this cause.
    Failed(String),
}

/// Most that a connection over TLS takes hold of at a time: one record. What it was offered when it
/// said [`Sent::Again`] must be offered again, unchanged.
pub const RECORD: usize = 16 * 1024;

/// The process around a hub.
pub trait Outside: 'static {
    /// A request.
    type Request: Request;
    /// The connection of a client.
    type Io: Io;
    /// Where clients and their sessions are kept.
    type Clients: Clients<Session, Request = Self::Request, Io = Self::Io>;
    /// An outgoing connection.
    type Peer: Peer;

    /// Milliseconds of a monotonic clock.
    fn now(&self) -> u64;

    /// A graceful quit (reload, SIGQUIT) is under way.
    fn is_exiting(&self) -> bool;

    /// After so many milliseconds of a graceful quit all connections are cut, if that is set.
    fn shutdown_timeout(&self) -> Option<u64>;

    /// How many connections this process may have, and how many of them are free.
    fn connections(&self) -> (usize, usize);

    /// The process's id and its number among its like, from 0.
    fn process(&self) -> (i32, usize);

    /// 128 bits that nobody can guess.
    ///
    /// # Errors
    /// The system has no generator.
    fn random(&self) -> io::Result<[u8; 16]>;

    /// Writes a line to the log of the process.
    fn log(&self, level: Level, text: Arguments<'_>);

    /// Begins to connect to a server of [`Main::brokers`]: to its first address with `attempt` 0, to
    /// each of its addresses in turn. The connection's events carry `id`.
    ///
    /// # Errors
    /// The cause, for the log.
    fn connect(&mut self, broker: usize, attempt: usize, id: PeerId) -> Result<Self::Peer, String>;

    /// Sends are put together ([`Outside::send_each`]), and pay only from some sockets on.
    fn sends_together(&self) -> bool;

    /// Writes the same bytes to each socket that is not negative. `short` is told of each that did
    /// not take all of them, by its place in `sockets`. The result is how many sockets, from the first
    /// on, have been written to: the others are to be offered again.
    fn send_each(&mut self, sockets: &[i32], bytes: &[u8], short: impl FnMut(usize, Sent))
    -> usize;

    /// A parked request goes on as a client: its end need not be told by its number any more.
    fn unpark(&self, request: Self::Request, number: u64);
}

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

/// All clients of a worker, each with an `S`.
pub trait Clients<S>: Default {
    /// What a client was before.
    type Request;
    /// Its connection.
    type Io;

    /// Gives the client behind `request` a place.
    fn insert(&mut self, request: Self::Request, state: S) -> ClientId;

    /// The client's connection and state.
    fn get(&mut self, id: ClientId) -> Option<(Self::Io, &mut S)>;

    /// Takes the client's state out; its id may be another's from here on. The connection is not
    /// touched.
    fn remove(&mut self, id: ClientId) -> Option<S>;

    /// Number of clients.
    fn len(&self) -> usize;

    /// There are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of all clients.
    fn ids(&self) -> impl Iterator<Item = ClientId>;
}

/// The connection of a client. Valid while the client has its place.
pub trait Io {
    /// Reads what the socket has, at most `buf.len()` bytes.
    fn recv(&self, buf: &mut [u8]) -> Received;

    /// Writes; over TLS at most one [`RECORD`] a call. After [`Sent::Again`] the caller waits by
    /// [`Io::want_write`].
    fn send(&self, bytes: &[u8]) -> Sent;

    /// The descriptor if frames may be written to it directly; `None` over TLS.
    fn plain_fd(&self) -> Option<i32>;

    /// True if reads would find something, or have not yet found nothing.
    fn is_readable(&self) -> bool;

    /// Its socket has something that no event has been handled for yet: input, or room for more
    /// after it was full. A system call.
    fn has_news(&self) -> bool;

    /// The same, of room alone: for one who is not read.
    fn has_room_again(&self) -> bool;

    /// Bytes that the kernel holds for the client: not yet sent, or not yet acknowledged.
    fn unacknowledged(&self) -> u64;

    /// The read event comes once more in the next round of the event loop.
    fn read_again(&self);

    /// The write event comes in the next round of the event loop.
    fn write_again(&self);

    /// Waits for readability. False: the event could not be set, the connection is of no use.
    #[must_use]
    fn want_read(&self) -> bool;

    /// Waits for writability after a short write. False: the event could not be set.
    #[must_use]
    fn want_write(&self) -> bool;

    /// No more will be written: TLS close_notify, then `shutdown(SHUT_WR)`. Reads go on, raw.
    fn shutdown(&self);

    /// The connection is about to be closed though its client may not read. What it has not taken
    /// would stay in the kernel for minutes, beyond every limit: it is dropped after `patience_ms`
    /// without progress (`TCP_USER_TIMEOUT`).
    fn abandon(&self, patience_ms: i32);

    /// The process exits after a graceful quit that took too long. The connection is not used again.
    fn close_at_exit(&self);

    /// Reads and drops what the socket has, after [`Io::shutdown`], at most `most` bytes.
    fn discard(&self, buf: &mut [u8], most: usize) -> Received;

    /// True once the client's request has been freed.
    fn is_detached(&self) -> bool;

    /// `TCP_NOTSENT_LOWAT`: how much unsent the kernel takes. 0 leaves the system's.
    fn set_notsent_lowat(&self, bytes: usize);

    /// The kernel sizes the buffer for what is not read yet no more by itself: it stays as it is, or
    /// shrinks to `most` bytes (`SO_RCVBUF`).
    fn bound_receive_buffer(&self, most: usize);

    /// Writes a line to the connection's log, which adds client and request.
    fn log(&self, level: Level, text: Arguments<'_>);
}

/// An outgoing connection. Dropping it closes it.
pub trait Peer {
    /// Moves the connection on, from its read and write events, until it is open.
    fn advance(&mut self) -> Progress;

    /// It may be read and written.
    fn is_open(&self) -> bool;

    /// Reads what the socket has, at most `buf.len()` bytes.
    fn recv(&self, buf: &mut [u8]) -> Received;

    /// False once the socket is known to be empty: its read event says when to go on.
    fn is_readable(&self) -> bool;

    /// Writes; after [`Sent::Again`] the write event says when to go on.
    fn send(&self, bytes: &[u8]) -> Sent;

    /// The read event comes once more in the next round of the event loop.
    fn read_again(&self);
}
