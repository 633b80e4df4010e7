//! The seam: what a hub asks of the process around it.
//!
//! nginx answers in the module; a simulation answers in `tests/sim`. The hub is compiled once for
//! each, so a call through the seam costs what a direct call costs.

use std::fmt::Arguments;
use std::io;

pub mod requests;
pub mod sockets;

pub use fanout::ClientId;

pub use requests::{EvaluationFailed, HttpRequest, Request};
pub use sockets::{Clients, Io, Level, Peer, PeerId, Progress, RECORD, Received, Sent};

use crate::session::Session;

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
