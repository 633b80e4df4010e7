//! nginx as the outside of a hub: the module `nginx` does what the hub asks for.

use std::fmt::Arguments;
use std::io;

use hub::outside::{Level, Outside, PeerId, Sent};
use proto::redis::{Address as ServerAddress, Server};

use crate::nginx::io::send_plain;
use crate::nginx::peer::{Address, Peer};
use crate::nginx::ring::Ring;
use crate::nginx::ssl::PeerTls;
use crate::nginx::{self, log, process};

/// The hub of an nginx worker.
pub type Hub = hub::Hub<Nginx>;

/// An nginx worker process.
pub struct Nginx {
    servers: Vec<Place>,
    /// For large fan-outs, where the system has io_uring and the configuration allows it.
    ring: Option<Ring>,
}

/// The addresses of a Redis server, and its TLS settings.
struct Place {
    server: &'static Server,
    addresses: &'static [Address],
    tls: Option<PeerTls>,
}

/// From this number of sockets on, one system call of io_uring is cheaper than one call per socket.
const RING_FROM: usize = 16;

impl Nginx {
    /// The outside of this process. Logs how fan-outs are sent.
    pub fn new(main: &'static crate::conf::Main, io_uring: bool) -> Nginx {
        let (ring, how) = match io_uring.then(Ring::open) {
            None => (None, "one by one".to_owned()),
            Some(Ok(ring)) => (Some(ring), "by io_uring".to_owned()),
            Some(Err(cause)) => (None, format!("one by one, there is no io_uring: {cause}")),
        };
        log::cycle(Level::Notice, format_args!("websocket sends {how}"));
        let servers = main.settings.brokers.iter().zip(&main.addresses);
        let servers = servers.map(|(server, addresses)| Place {
            server,
            addresses,
            tls: None,
        });
        let servers = servers.collect();
        Nginx { servers, ring }
    }
}

impl Place {
    /// The TLS settings; `None` without TLS.
    fn tls(&mut self) -> Result<Option<&PeerTls>, String> {
        if self.server.tls && self.tls.is_none() {
            let host = match &self.server.address {
                ServerAddress::Tcp { host, .. } => host.as_str(),
                ServerAddress::Unix(_) => "localhost",
            };
            self.tls = Some(PeerTls::new(host, !self.server.insecure)?);
        }
        Ok(self.tls.as_ref())
    }
}

impl Outside for Nginx {
    type Request = nginx::Request;
    type Io = nginx::Io;
    type Clients = nginx::Clients<Hub>;
    type Peer = Peer<Hub>;

    #[inline]
    fn now(&self) -> u64 {
        process::now()
    }

    #[inline]
    fn is_exiting(&self) -> bool {
        process::is_exiting()
    }

    fn shutdown_timeout(&self) -> Option<u64> {
        process::shutdown_timeout()
    }

    fn connections(&self) -> (usize, usize) {
        process::connections()
    }

    fn process(&self) -> (i32, usize) {
        (process::pid(), process::worker())
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        process::random()
    }

    fn log(&self, level: Level, text: Arguments<'_>) {
        log::cycle(level, text);
    }

    fn connect(&mut self, broker: usize, attempt: usize, id: PeerId) -> Result<Peer<Hub>, String> {
        let place = &mut self.servers[broker];
        let address = &place.addresses[attempt % place.addresses.len()];
        place
            .tls()
            .and_then(|tls| Peer::connect(address, tls, id))
            .map_err(|cause| format!("{cause} while connecting to {}", address.name))
    }

    #[inline]
    fn sends_together(&self) -> bool {
        self.ring.is_some()
    }

    #[inline]
    fn send_each(
        &mut self,
        sockets: &[i32],
        bytes: &[u8],
        mut short: impl FnMut(usize, Sent),
    ) -> usize {
        match &mut self.ring {
            Some(ring) if sockets.len() >= RING_FROM => {
                let sockets = &sockets[..sockets.len().min(ring.capacity())];
                match ring.send_each(sockets, bytes, short) {
                    Ok(()) => sockets.len(),
                    Err((tried, cause)) => {
                        self.lose_ring(&cause);
                        tried
                    }
                }
            }
            _ => {
                for (place, &socket) in sockets.iter().enumerate() {
                    if socket >= 0 {
                        match send_plain(socket, bytes) {
                            Sent::Bytes(count) if count == bytes.len() => {}
                            sent => short(place, sent),
                        }
                    }
                }
                sockets.len()
            }
        }
    }

    fn unpark(&self, request: nginx::Request, number: u64) {
        request.unwatch_parked::<Hub>(number);
    }
}

impl Nginx {
    #[cold]
    fn lose_ring(&mut self, cause: &io::Error) {
        self.ring = None;
        log::cycle(
            Level::Error,
            format_args!("websocket sends one by one from here on, io_uring failed: {cause}"),
        );
    }
}
