//! Configuration of the whole `http` block.

use std::sync::Arc;

use proto::redis::{Address as ServerAddress, Server, url};

use super::Process;
use super::mention::{Mention, Numbers};
use crate::nginx::directive::{Args, Complaint};
use crate::nginx::peer::Address;

/// A Redis server that some location names; a worker has two links to each.
pub struct Broker {
    /// As parsed from the URL.
    pub server: Arc<Server>,
    /// Where it was found when the configuration was read, at least one.
    pub addresses: Vec<Address>,
}

/// Values of the `http` block; `None` is "not set".
#[derive(Default)]
pub struct Main {
    /// Distinct servers, in the order of their first mention.
    pub brokers: Vec<Broker>,
    /// `websocket_memory`, bytes.
    pub memory: Option<u64>,
    /// `websocket_reserve`, as a fraction of `worker_connections`.
    pub reserve: Option<(u64, u64)>,
    /// `websocket_max_pending`.
    pub max_pending: Option<u64>,
    /// `websocket_io_uring`, where `http` has one of its own.
    pub io_uring: Option<bool>,
    /// The log asks for what is known only when a client leaves.
    pub logs_the_end: bool,
    /// The log, or anything else, asks for a client's channel.
    pub names_channels: bool,
    /// Each NAME of a `$websocket_arg_NAME` that the configuration has.
    pub arguments: Vec<Vec<u8>>,
    /// Some location serves WebSocket: without one, the module does nothing at all.
    pub used: bool,
    /// What nginx.conf says in locations and above, in its order.
    pub mentions: Vec<Mention>,
    /// The place of each in `mentions`.
    pub numbers: Numbers,
    /// Lines at `warn` for `nginx -t`, see [`Main::take_warnings`].
    pub warnings: Vec<String>,
}

impl Main {
    /// Whether a worker is needed.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Bytes a worker may hold for all its clients.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(256 << 20)
    }

    /// Connections out of `total` that stay free for HTTP.
    pub fn reserved(&self, total: usize) -> usize {
        let (part, whole) = self.reserve.unwrap_or((1, 16));
        (total as u64 * part / whole) as usize
    }

    /// Handshakes that may wait for Redis at a time.
    pub fn max_pending(&self) -> usize {
        usize::try_from(self.max_pending.unwrap_or(1000)).unwrap_or(usize::MAX)
    }

    /// Whether to use io_uring: what `http` says, or the top level, or the default.
    pub fn io_uring(&self, process: Option<&Process>) -> bool {
        let process = process.and_then(|process| process.io_uring);
        self.io_uring.or(process).unwrap_or(true)
    }

    /// The number of the server that argument 0 names; the same URL has the same number.
    ///
    /// # Errors
    /// The URL is malformed, or its host does not resolve.
    pub fn broker(&mut self, args: &Args<'_>) -> Result<u16, Complaint> {
        let server = url::parse(args.text(0)?).map_err(|error| {
            Complaint::Said(format!("{error} in \"websocket_redis\" directive"))
        })?;
        if let Some(known) = self
            .brokers
            .iter()
            .position(|broker| *broker.server == server)
        {
            return Ok(known as u16);
        }
        let place = match &server.address {
            ServerAddress::Unix(path) => format!("unix:{}", path.display()),
            ServerAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            ServerAddress::Tcp { host, port } => format!("{host}:{port}"),
        };
        let addresses = args
            .resolve(0, &place)
            .map_err(|complaint| match complaint {
                // The value may hold a password.
                Complaint::Value(_, cause) => {
                    Complaint::Said(format!("{cause} in \"websocket_redis\" directive"))
                }
                other => other,
            })?;
        self.brokers.push(Broker {
            server: Arc::new(server),
            addresses,
        });
        Ok((self.brokers.len() - 1) as u16)
    }
}
