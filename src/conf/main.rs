//! Configuration of the whole `http` block.

use std::sync::Arc;

use proto::redis::{Address as ServerAddress, url};

use hub::settings::{self, Template};

use super::mention::{Mention, Numbers};
use super::process::{IoUring, Process};
use crate::nginx::args::{Args, Complaint};
use crate::nginx::complex::ComplexValue;
use crate::nginx::peer::Address;

/// Redis's own port. A parsed URL names its port, so nginx never uses this default.
const PORT: u16 = 6379;

/// Values of the `http` block; `None` is "not set".
#[derive(Default)]
pub struct Main {
    /// The settings that the hub needs.
    pub settings: settings::Main,
    /// The addresses of each broker, resolved when the configuration was read; at least one each.
    pub addresses: Vec<Vec<Address>>,
    /// The names with variables, by the numbers of their templates.
    pub templates: Vec<ComplexValue>,
    /// Settings of the process that were made in `http`.
    pub process: Process,
    /// Some location serves WebSocket. Without one, the module does nothing at all.
    pub used: bool,
    /// The module's directives in nginx.conf, in order.
    pub mentions: Vec<Mention>,
    /// The index of each in `mentions`.
    pub numbers: Numbers,
    /// Lines for `nginx -t` at level `warn`, see [`Main::take_warnings`].
    pub warnings: Vec<String>,
}

impl Main {
    /// Whether a worker is needed.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Adds a name with variables, to be evaluated for requests.
    pub fn template(&mut self, value: ComplexValue) -> Template {
        self.templates.push(value);
        Template {
            text: value.text(),
            has_variables: value.has_variables(),
            number: self.templates.len() - 1,
        }
    }

    /// Whether to use io_uring if the system has it: set in `http`, or at the top level.
    pub fn io_uring(&self, process: Option<&Process>) -> bool {
        let above = process.and_then(|process| process.io_uring);
        let io_uring = self.process.io_uring.or(above);
        Process { io_uring }.io_uring() == IoUring::Auto
    }

    /// The number of the server that argument 0 names. The same URL always gets the same number.
    ///
    /// # Errors
    /// The URL is malformed, or its host does not resolve.
    pub fn broker(&mut self, args: &Args<'_>) -> Result<u16, Complaint> {
        let server = url::parse(args.text(0)?).map_err(|error| {
            Complaint::Said(format!("{error} in \"websocket_redis\" directive"))
        })?;
        let mut brokers = self.settings.brokers.iter();
        if let Some(known) = brokers.position(|broker| **broker == server) {
            return Ok(known as u16);
        }
        let place = match &server.address {
            ServerAddress::Unix(path) => format!("unix:{}", path.display()),
            ServerAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            ServerAddress::Tcp { host, port } => format!("{host}:{port}"),
        };
        let addresses = args
            .resolve(0, &place, PORT)
            .map_err(|complaint| match complaint {
                // The value may contain a password.
                Complaint::Value(_, cause) => {
                    Complaint::Said(format!("{cause} in \"websocket_redis\" directive"))
                }
                other => other,
            })?;
        self.addresses.push(addresses);
        self.settings.brokers.push(Arc::new(server));
        Ok((self.settings.brokers.len() - 1) as u16)
    }
}
