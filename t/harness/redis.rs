//! A Redis of the test's own, and connections to it that speak RESP by themselves.

use super::ports;
use super::process::{self, Signal};
use super::settings;
use super::wait::{patience, until, until_some};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running redis-server; killed at the end.
pub struct Redis {
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
    server: Option<Child>,
}

impl Redis {
    /// Starts one on a free port of 127.0.0.1, without persistence.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more arguments of redis-server.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        let mut redis = Self {
            dir,
            port: 0,
            arguments,
            server: None,
        };
        for _ in 0..5 {
            redis.port = ports::free();
            if redis.try_run() {
                return redis;
            }
        }
        panic!("redis-server does not start: {}", redis.log());
    }

    /// The port it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `websocket_redis` for it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The Unix socket it listens on, too.
    pub fn socket(&self) -> String {
        self.dir
            .path()
            .join("redis.sock")
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// A directory that lives as long as it.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Starts it again, on the same port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        assert!(
            self.try_run(),
            "redis-server does not restart: {}",
            self.log()
        );
    }

    /// Stops it (SIGSTOP): connections stay, nothing is answered.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Publishes; returns the number of links that received it.
    #[track_caller]
    pub fn publish(&self, channel: impl AsRef<[u8]>, message: impl AsRef<[u8]>) -> i64 {
        self.session().publish(channel, message)
    }

    /// One command on a connection of its own.
    #[track_caller]
    pub fn command(&self, parts: &[&str]) -> Reply {
        self.session().command(parts)
    }

    /// A connection.
    #[track_caller]
    pub fn session(&self) -> Session {
        Session::connect(self.port).expect("a connection to Redis")
    }

    /// `CLIENT LIST`, the module's links only (by the name they give themselves).
    pub fn links(&self) -> Vec<String> {
        let list = self.command(&["CLIENT", "LIST"]).text();
        let is_ours = |line: &&str| line.contains(" name=ngx_websocket");
        list.lines().filter(is_ours).map(str::to_owned).collect()
    }

    /// How many of Redis' connections are subscribed to this channel.
    #[track_caller]
    pub fn subscribers(&self, channel: &str) -> i64 {
        match self.command(&["PUBSUB", "NUMSUB", channel]) {
            Reply::Array(reply) => reply[1].integer(),
            other => panic!("{other:?}"),
        }
    }

    /// Polls until that many of Redis' connections are subscribed to this channel.
    #[track_caller]
    pub fn until_subscribers(&self, channel: &str, n: i64) {
        until(&format!("{n} links subscribe {channel}"), || {
            self.subscribers(channel) == n
        });
    }

    fn signal(&self, signal: Signal) {
        if let Some(server) = &self.server {
            process::signal(server.id(), signal);
        }
    }

    fn try_run(&mut self) -> bool {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log file");
        let mut server = Command::new(settings::redis())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--unixsocket",
                &self.socket(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--dir", self.dir.path().to_str().unwrap()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server");
        let is_up = until_some("Redis answers or ends", || {
            if matches!(server.try_wait(), Ok(Some(_))) {
                return Some(false);
            }
            let mut session = Session::connect(self.port).ok()?;
            session.try_command(&["PING"]).ok().map(|_| true)
        });
        if is_up {
            self.server = Some(server);
        }
        is_up
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` or a bulk string.
    Text(String),
    /// `:1`
    Integer(i64),
    /// `-ERR`
    Error(String),
    /// `*2`
    Array(Vec<Reply>),
    /// A null.
    Null,
}

impl Reply {
    /// The text of it.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("{other:?} instead of text"),
        }
    }

    /// The number of it.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(n) => *n,
            other => panic!("{other:?} instead of an integer"),
        }
    }
}

/// A connection to a Redis, blocking.
pub struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    /// Connects to a port of 127.0.0.1.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience()))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// One command and its reply.
    ///
    /// # Panics
    /// When Redis is gone or says no.
    #[track_caller]
    pub fn command(&mut self, parts: &[&str]) -> Reply {
        let reply = self.try_command(parts).expect("Redis' reply");
        assert!(!matches!(reply, Reply::Error(_)), "{parts:?}: {reply:?}");
        reply
    }

    /// One command to a Redis that may be gone or say no.
    pub fn try_command(&mut self, parts: &[&str]) -> io::Result<Reply> {
        self.write(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())?;
        self.read()
    }

    /// Publishes; returns the number of links that received it.
    #[track_caller]
    pub fn publish(&mut self, channel: impl AsRef<[u8]>, message: impl AsRef<[u8]>) -> i64 {
        self.write(&[b"PUBLISH", channel.as_ref(), message.as_ref()])
            .expect("a command sent");
        self.read().expect("Redis' reply").integer()
    }

    /// Publishes all in one write: Redis works them off in one go, in order.
    #[track_caller]
    pub fn publish_all<C: AsRef<[u8]>, M: AsRef<[u8]>>(&mut self, messages: &[(C, M)]) {
        let mut wire = Vec::new();
        for (channel, message) in messages {
            encode(&mut wire, &[b"PUBLISH", channel.as_ref(), message.as_ref()]);
        }
        self.stream
            .get_mut()
            .write_all(&wire)
            .expect("commands sent");
        for _ in messages {
            self.read().expect("Redis' reply").integer();
        }
    }

    /// Subscribes; messages come by [`Session::push`].
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) {
        self.command(&["SUBSCRIBE", channel]);
    }

    /// The next pushed message: channel and payload.
    #[track_caller]
    pub fn push(&mut self) -> (String, String) {
        match self.read().expect("a push") {
            Reply::Array(parts) => match &parts[..] {
                [_, channel, payload] => (channel.text(), payload.text()),
                [_, _, channel, payload] => (channel.text(), payload.text()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?} instead of a push"),
        }
    }

    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut wire = Vec::new();
        encode(&mut wire, parts);
        self.stream.get_mut().write_all(&wire)
    }

    fn read(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line);
        let Some(rest) = line.get(1..).and_then(|rest| rest.strip_suffix("\r\n")) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let number = || {
            rest.parse::<i64>()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(match &line[..1] {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" | "*" if number()? < 0 => Reply::Null,
            "$" => {
                let mut bulk = vec![0; number()? as usize + 2];
                self.stream.read_exact(&mut bulk)?;
                bulk.truncate(bulk.len() - 2);
                Reply::Text(String::from_utf8_lossy(&bulk).into_owned())
            }
            "*" => Reply::Array(
                (0..number()?)
                    .map(|_| self.read())
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

fn encode(wire: &mut Vec<u8>, parts: &[&[u8]]) {
    wire.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        wire.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        wire.extend_from_slice(part);
        wire.extend_from_slice(b"\r\n");
    }
}
