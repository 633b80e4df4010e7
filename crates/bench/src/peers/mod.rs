//! The servers that are measured. One file for each: how to configure, start and reach it.
mod bare;
pub mod hub;
mod lua;
mod module;
mod nchan;
mod nginx;

use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use crate::cpu;
use crate::load::Via;
use crate::net;
use crate::process::Process;
use crate::reference::Writes;
use crate::scenario::Kind;

/// The path where subscribers connect.
pub const SUBSCRIBE: &str = "/ws";
/// The path where subscribers connect and agree on permessage-deflate.
pub const DEFLATE: &str = "/deflate";
/// The path that echoes messages.
pub const ECHO: &str = "/echo";
/// The path where every nginx answers a GET with [`PLAIN_BODY`].
pub const PLAIN: &str = "/plain";
/// See [`PLAIN`].
pub const PLAIN_BODY: &str = "plain";
/// The path where the module publishes what clients send.
pub const PUBLISH: &str = "/publish";
/// The path where the module publishes what is posted.
pub const POST: &str = "/post";

/// What servers need to start.
pub struct Lab {
    /// A directory for configurations and logs.
    pub directory: PathBuf,
    /// The address of the Redis that all servers share.
    pub redis: SocketAddrV4,
    /// The process of that Redis.
    pub redis_pid: Pid,
    /// The module, built for Debian's nginx.
    pub module: PathBuf,
    /// An earlier build of the module.
    pub before: Option<PathBuf>,
    /// This program.
    pub program: PathBuf,
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The scenario's bare loop, with libc's calls.
    Bare,
    /// The same loop as if it were another server. The distance of its ratio from 1 is noise.
    Control,
    /// The same loop with inline system calls. It shows how much of another server's ratio this
    /// alone accounts for.
    InPlace,
    /// The module, sending with `send(2)`.
    Module,
    /// The module, sending with io_uring.
    ModuleUring,
    /// An earlier build of the module, sending with `send(2)`. Only if `--before` names one.
    Before,
    /// The same, sending with io_uring.
    BeforeUring,
    /// lua-resty-websocket and lua-resty-redis.
    Lua,
    /// Nchan with Redis.
    Nchan,
    /// A hub of tokio-tungstenite.
    Tungstenite,
    /// A hub of fastwebsockets.
    Fastwebsockets,
}

impl Peer {
    /// All servers that are compared with a bare loop, in the order of the report.
    pub const ALL: &[Self] = &[
        Self::Control,
        Self::InPlace,
        Self::Module,
        Self::ModuleUring,
        Self::Before,
        Self::BeforeUring,
        Self::Nchan,
        Self::Lua,
        Self::Tungstenite,
        Self::Fastwebsockets,
    ];

    /// Whether it is a build of the module.
    pub fn is_module(self) -> bool {
        matches!(
            self,
            Self::Module | Self::ModuleUring | Self::Before | Self::BeforeUring
        )
    }

    /// The name for `--peer` and for directories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Control => "control",
            Self::InPlace => "in-place",
            Self::Module => "module",
            Self::ModuleUring => "module-uring",
            Self::Before => "before",
            Self::BeforeUring => "before-uring",
            Self::Lua => "lua",
            Self::Nchan => "nchan",
            Self::Tungstenite => "tungstenite",
            Self::Fastwebsockets => "fastwebsockets",
        }
    }

    /// The name for the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Control => "bare loop again",
            Self::InPlace => "bare loop, calls in place",
            Self::Module => "module, `send`",
            Self::ModuleUring => "module, io_uring",
            Self::Before => "module before, `send`",
            Self::BeforeUring => "module before, io_uring",
            Self::Lua => "lua-resty",
            Self::Nchan => "Nchan",
            Self::Tungstenite => "tokio-tungstenite",
            Self::Fastwebsockets => "fastwebsockets",
        }
    }

    /// Whether it can serve such a load.
    pub fn can(self, kind: &Kind) -> bool {
        match self {
            Self::ModuleUring | Self::BeforeUring => matches!(kind, Kind::Fanout { .. }),
            Self::Nchan => !matches!(kind, Kind::Echo { .. }),
            // Each client needs two of the 20,000 descriptors of a process.
            Self::Lua => kind.descriptors() < 9_000,
            _ => true,
        }
    }

    /// Starts it on its core and waits until it listens. A bare loop writes as `against` says.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(self, lab: &Lab, against: Writes) -> Result<Server> {
        cpu::on_core(cpu::SERVER, || match self {
            Self::Bare | Self::Control => bare::start(lab, self.name(), "serve", against),
            Self::InPlace => bare::start(lab, self.name(), "serve-in-place", against),
            Self::Module => module::start(lab, self.name(), &lab.module, "off"),
            Self::ModuleUring => module::start(lab, self.name(), &lab.module, "auto"),
            Self::Before => module::start(lab, self.name(), lab.before()?, "off"),
            Self::BeforeUring => module::start(lab, self.name(), lab.before()?, "auto"),
            Self::Lua => lua::start(lab, self.name()),
            Self::Nchan => nchan::start(lab, self.name()),
            Self::Tungstenite | Self::Fastwebsockets => hub::start(lab, self.name()),
        })
        .with_context(|| self.title())
    }
}

/// A running server. It ends when this is dropped.
pub struct Server {
    /// The process whose CPU time and memory count.
    pub pid: Pid,
    /// Where clients connect.
    pub address: SocketAddrV4,
    /// Where clients connect with TLS.
    pub tls: Option<SocketAddrV4>,
    /// How its subscribers get messages.
    pub via: Via,
    // Kept only so that they end when this is dropped.
    processes: Vec<Process>,
}

impl Lab {
    fn before(&self) -> Result<&Path> {
        self.before.as_deref().context("--before names no module")
    }

    /// Starts this program as a server. The arguments are `words`, an address, Redis's address and
    /// a channel.
    fn start_ourselves(&self, name: &str, [what, how]: [&str; 2]) -> Result<Server> {
        let address = net::free_address()?;
        let via = self.by_redis(name);
        let Via::Redis { channel, .. } = &via else {
            unreachable!("by_redis")
        };
        let (here, redis) = (address.to_string(), self.redis.to_string());
        let arguments = [what, how, &here, &redis, channel];
        let mut process = Process::start(&self.program, &arguments, self.log(name))?;
        process.until(|| TcpStream::connect(address).is_ok())?;
        Ok(Server {
            pid: process.pid(),
            address,
            tls: None,
            via,
            processes: vec![process],
        })
    }

    /// For servers that subscribe to Redis themselves: each has its own channel, so that the others
    /// do not receive its messages.
    fn by_redis(&self, name: &str) -> Via {
        Via::Redis {
            address: self.redis,
            channel: format!("bench:{name}"),
        }
    }

    /// The channel to which the module publishes what clients send.
    pub fn published(&self) -> &'static str {
        "bench:published"
    }

    /// The servers' certificate. Nobody verifies it.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    /// The certificate's key.
    pub fn key(&self) -> PathBuf {
        self.directory.join("key.pem")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }
}
