//! Sockets and log lines, as the outside provides them.

use std::fmt::Arguments;

use fanout::ClientId;

/// Severity of a log line, as in nginx's `error_log` directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// nginx cannot start with this configuration.
    Emerg,
    /// A bug of the module, or a machine limit that should never be reached.
    Alert,
    /// A failure on our side, with its cause.
    Error,
    /// An operator should look at it.
    Warn,
    /// A change of state, one line for each direction.
    Notice,
    /// A client's mistake.
    Info,
}

/// The outcome of a read from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing now. An event follows when there is input.
    Again,
    /// The peer sent its FIN (or TLS close_notify).
    Eof,
    /// The connection is broken; the cause is logged.
    Failed,
}

/// The outcome of a write to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// This many bytes were taken. The socket may take more.
    Bytes(usize),
    /// Nothing now. An event follows when there is space.
    Again,
    /// The connection is broken; the cause is logged.
    Failed,
}

/// The peer that an event belongs to. Chosen by the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(pub u32);

/// The result of [`Peer::advance`].
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet usable; wait for its next event.
    Pending,
    /// It has just become usable.
    Opened,
    /// It was usable before.
    Open,
    /// It failed, for this reason.
    Failed(String),
}

/// Most that a TLS connection commits to at a time: one record. Bytes that were offered when it
/// returned [`Sent::Again`] must be offered again, unchanged.
pub const RECORD: usize = 16 * 1024;

/// All clients of a worker, each with a state `S`.
pub trait Clients<S>: Default {
    /// The request that a client began as.
    type Request;
    /// Its connection.
    type Io;

    /// Adds the client behind `request`.
    fn insert(&mut self, request: Self::Request, state: S) -> ClientId;

    /// The client's connection and state.
    fn get(&mut self, id: ClientId) -> Option<(Self::Io, &mut S)>;

    /// Removes the client and returns its state. Its id may be reused at once. The connection is
    /// not touched.
    fn remove(&mut self, id: ClientId) -> Option<S>;

    /// Number of clients.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of all clients.
    fn ids(&self) -> impl Iterator<Item = ClientId>;
}

/// The connection of a client. Valid while the client is in the table.
pub trait Io {
    /// Reads what the socket has, at most `buf.len()` bytes.
    fn recv(&self, buf: &mut [u8]) -> Received;

    /// Writes; over TLS at most one [`RECORD`] per call. After [`Sent::Again`] the caller calls
    /// [`Io::want_write`] and waits.
    fn send(&self, bytes: &[u8]) -> Sent;

    /// The descriptor if frames may be written to it directly; `None` over TLS.
    fn plain_fd(&self) -> Option<i32>;

    /// True if a read would find something, or if none has found the socket empty yet.
    fn is_readable(&self) -> bool;

    /// Whether the socket has something that no event has reported yet: input, or free space after
    /// it was full. Makes a system call.
    fn has_news(&self) -> bool;

    /// The same for free space alone, for a client that is not being read.
    fn has_room_again(&self) -> bool;

    /// Bytes that the kernel holds for the client: not yet sent, or not yet acknowledged.
    fn unacknowledged(&self) -> u64;

    /// Repeats the read event in the next round of the event loop.
    fn read_again(&self);

    /// Triggers the write event in the next round of the event loop.
    fn write_again(&self);

    /// Waits for readability. False: the event could not be set, and the connection is unusable.
    #[must_use]
    fn want_read(&self) -> bool;

    /// Waits for writability after a short write. False: the event could not be set.
    #[must_use]
    fn want_write(&self) -> bool;

    /// Ends writing: TLS close_notify, then `shutdown(SHUT_WR)`. Reads continue, without TLS.
    fn shutdown(&self);

    /// The connection is about to be closed, though its client may not be reading. Data that the
    /// client has not taken would stay in the kernel for minutes, outside every limit. The kernel
    /// drops it after `patience_ms` without progress (`TCP_USER_TIMEOUT`).
    fn abandon(&self, patience_ms: i32);

    /// The process exits after a graceful quit that took too long. The connection is not used
    /// again.
    fn close_at_exit(&self);

    /// Reads and drops what the socket has, at most `most` bytes, after [`Io::shutdown`].
    fn discard(&self, buf: &mut [u8], most: usize) -> Received;

    /// True once the client's request has been freed.
    fn is_detached(&self) -> bool;

    /// Sets `TCP_NOTSENT_LOWAT`: how many unsent bytes the kernel takes. 0 keeps the system's
    /// value.
    fn set_notsent_lowat(&self, bytes: usize);

    /// Stops the kernel from enlarging the receive buffer: it keeps its size, or shrinks to `most`
    /// bytes (`SO_RCVBUF`).
    fn bound_receive_buffer(&self, most: usize);

    /// Writes a line to the connection's log, which adds client and request.
    fn log(&self, level: Level, text: Arguments<'_>);
}

/// An outgoing connection. Dropping it closes it.
pub trait Peer {
    /// Continues connecting, from its read and write events, until it is open.
    fn advance(&mut self) -> Progress;

    /// Whether it may be read and written.
    fn is_open(&self) -> bool;

    /// Reads what the socket has, at most `buf.len()` bytes.
    fn recv(&self, buf: &mut [u8]) -> Received;

    /// False once the socket is known to be empty. Its read event then says when to read again.
    fn is_readable(&self) -> bool;

    /// Writes. After [`Sent::Again`] the write event says when to continue.
    fn send(&self, bytes: &[u8]) -> Sent;

    /// Repeats the read event in the next round of the event loop.
    fn read_again(&self);
}
