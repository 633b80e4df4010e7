//! A test's own Redis, and connections to it that speak RESP themselves.

use super::ports;
use super::process::{self, Signal};
use super::settings;
use super::wait::{patience, until, until_some};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running redis-server. It is killed when this is dropped.
pub struct Redis {
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
    server: Option<Child>,
}

impl Redis {
    /// Starts a Redis on a free port of 127.0.0.1, without persistence.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a Redis with more arguments for redis-server.
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

    /// The port it listens on. It is the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `websocket_redis` for this Redis.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The path of the Unix socket on which it also listens.
    pub fn socket(&self) -> String {
        self.dir
            .path()
            .join("redis.sock")
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// A directory that exists as long as this Redis.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Kills it (SIGKILL).
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

    /// Stops it (SIGSTOP): connections stay open, but nothing is answered.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues it after [`Redis::stop`].
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Publishes. Returns the number of links that received the message.
    #[track_caller]
    pub fn publish(&self, channel: impl AsRef<[u8]>, message: impl AsRef<[u8]>) -> i64 {
        self.session().publish(channel, message)
    }

    /// Runs one command on a separate connection.
    #[track_caller]
    pub fn command(&self, parts: &[&str]) -> Reply {
        self.session().command(parts)
    }

    /// Opens a connection.
    #[track_caller]
    pub fn session(&self) -> Session {
        Session::connect(self.port).expect("a connection to Redis")
    }

    /// `CLIENT LIST` with only the module's links, recognized by their name.
    pub fn links(&self) -> Vec<String> {
        let list = self.command(&["CLIENT", "LIST"]).text();
        let is_ours = |line: &&str| line.contains(" name=ngx_websocket");
        list.lines().filter(is_ours).map(str::to_owned).collect()
    }

    /// How many of Redis's connections are subscribed to this channel.
    #[track_caller]
    pub fn subscribers(&self, channel: &str) -> i64 {
        match self.command(&["PUBSUB", "NUMSUB", channel]) {
            Reply::Array(reply) => reply[1].integer(),
            other => panic!("{other:?}"),
        }
    }

    /// Polls until this many of Redis's connections are subscribed to this channel.
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

/// A reply from Redis.
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
    /// Its text.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("{other:?} instead of text"),
        }
    }

    /// Its number.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(n) => *n,
            other => panic!("{other:?} instead of an integer"),
        }
    }
}

/// A blocking connection to a Redis.
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

    /// Runs one command and returns its reply.
    ///
    /// # Panics
    /// If Redis is gone or returns an error.
    #[track_caller]
    pub fn command(&mut self, parts: &[&str]) -> Reply {
        let reply = self.try_command(parts).expect("Redis' reply");
        assert!(!matches!(reply, Reply::Error(_)), "{parts:?}: {reply:?}");
        reply
    }

    /// Runs one command at a Redis that may be gone or return an error.
    pub fn try_command(&mut self, parts: &[&str]) -> io::Result<Reply> {
        self.write(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())?;
        self.read()
    }

    /// Publishes. Returns the number of links that received the message.
    #[track_caller]
    pub fn publish(&mut self, channel: impl AsRef<[u8]>, message: impl AsRef<[u8]>) -> i64 {
        self.write(&[b"PUBLISH", channel.as_ref(), message.as_ref()])
            .expect("a command sent");
        self.read().expect("Redis' reply").integer()
    }

    /// Publishes all messages in one write. Redis processes them in one go, in order.
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

    /// Subscribes. [`Session::push`] returns the messages.
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
