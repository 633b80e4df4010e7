//! Sockets and lines of the log, as the outside has them.

use std::fmt::Arguments;

use fanout::ClientId;

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
