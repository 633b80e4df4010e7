//! The seam: what a hub asks of the process around it.
//!
//! In the module, nginx answers; in `tests/sim`, a simulation does. The hub is compiled once for
//! each, so a call through the seam costs no more than a direct call.

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
    /// The table of clients and their sessions.
    type Clients: Clients<Session, Request = Self::Request, Io = Self::Io>;
    /// An outgoing connection.
    type Peer: Peer;

    /// Milliseconds of a monotonic clock.
    fn now(&self) -> u64;

    /// A graceful quit (reload, SIGQUIT) is under way.
    fn is_exiting(&self) -> bool;

    /// Milliseconds after the start of a graceful quit at which all connections are cut, if that is
    /// set.
    fn shutdown_timeout(&self) -> Option<u64>;

    /// How many connections this process may have, and how many of them are free.
    fn connections(&self) -> (usize, usize);

    /// The process id, and the number of this worker, from 0.
    fn process(&self) -> (i32, usize);

    /// 128 bits that nobody can guess.
    ///
    /// # Errors
    /// The system has no generator.
    fn random(&self) -> io::Result<[u8; 16]>;

    /// Writes a line to the process's log.
    fn log(&self, level: Level, text: Arguments<'_>);

    /// Starts to connect to a server of [`Main::brokers`](crate::settings::Main::brokers): to its first address with `attempt` 0,
    /// to the next address with each further attempt, in a circle. The connection's events carry
    /// `id`.
    ///
    /// # Errors
    /// The cause, for the log.
    fn connect(&mut self, broker: usize, attempt: usize, id: PeerId) -> Result<Self::Peer, String>;

    /// Sends are batched ([`Outside::send_each`]). This pays only from a certain number of sockets
    /// on.
    fn sends_together(&self) -> bool;

    /// Writes the same bytes to each socket that is not negative. `short` is called for each socket
    /// that did not take all of them, with its index in `sockets`. Returns how many sockets,
    /// counted from the first, have been written to; the others must be offered the bytes again.
    fn send_each(&mut self, sockets: &[i32], bytes: &[u8], short: impl FnMut(usize, Sent))
    -> usize;

    /// A parked request becomes a client: its end need not be reported by its number any more.
    fn unpark(&self, request: Self::Request, number: u64);
}
