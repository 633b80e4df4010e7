//! A TCP proxy between nginx and Redis that holds, delays, splits and cuts the traffic.

use super::wait::until;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// A running proxy on a port of 127.0.0.1.
pub struct Proxy {
    port: u16,
    rules: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Rules>,
    changed: Condvar,
}

#[derive(Default)]
struct Rules {
    hold_commands: bool,
    hold_replies: bool,
    reply_delay: Duration,
    reply_piece: Option<usize>,
    refuse: bool,
    over: bool,
    accepted: usize,
    commands: Vec<u8>,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    /// Starts a proxy that forwards everything to a port of 127.0.0.1.
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Shared::default());
        let shared = Arc::clone(&rules);
        thread::spawn(move || accept(&listener, upstream, &shared));
        Self { port, rules }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `websocket_redis` for this proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Holds what nginx sends to Redis, or releases it.
    pub fn hold_commands(&self, on: bool) {
        self.set(|rules| rules.hold_commands = on);
    }

    /// Holds what Redis sends to nginx, or releases it.
    pub fn hold_replies(&self, on: bool) {
        self.set(|rules| rules.hold_replies = on);
    }

    /// Delays each piece of what Redis sends, and splits it into pieces of at most `bytes`.
    pub fn slow_replies(&self, delay: Duration, bytes: usize) {
        self.set(|rules| (rules.reply_delay, rules.reply_piece) = (delay, Some(bytes)));
    }

    /// Closes connections as soon as they are accepted, or serves again.
    pub fn refuse(&self, on: bool) {
        self.set(|rules| rules.refuse = on);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.set(|rules| {
            for socket in rules.sockets.drain(..) {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
    }

    /// Sends these bytes to nginx on all connections, as if Redis had sent them.
    pub fn inject(&self, bytes: &[u8]) {
        self.set(|rules| {
            // Sockets are stored in pairs: nginx's, then Redis's.
            for mut socket in rules.sockets.iter().step_by(2) {
                let _ = socket.write_all(bytes);
            }
        });
    }

    /// The number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.rules.rules.lock().unwrap().accepted
    }

    /// What nginx has sent so far, held or not.
    pub fn commands(&self) -> String {
        String::from_utf8_lossy(&self.rules.rules.lock().unwrap().commands).into_owned()
    }

    /// Waits until nginx has sent this command for this name, held or not.
    #[track_caller]
    pub fn until_command(&self, command: &str, name: &str) {
        until(&format!("nginx sends {command} {name}"), || {
            let commands = self.commands().to_ascii_uppercase();
            let after = commands
                .split(&format!("\r\n{command}\r\n"))
                .skip(1)
                .collect::<Vec<_>>();
            after
                .iter()
                .any(|rest| rest.contains(&format!("\r\n{}\r\n", name.to_ascii_uppercase())))
        });
    }

    fn set(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.rules.lock().unwrap());
        self.rules.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.set(|rules| rules.over = true);
        // The accepting thread checks `over` only after the next connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Commands,
    Replies,
}

fn accept(listener: &TcpListener, upstream: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { return };
        let mut rules = shared.rules.lock().unwrap();
        if rules.over {
            return;
        }
        rules.accepted += 1;
        if rules.refuse {
            continue;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else {
            continue;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        for (from, to, way) in [
            (&client, &server, Way::Commands),
            (&server, &client, Way::Replies),
        ] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let shared = Arc::clone(shared);
            thread::spawn(move || pass(from, to, way, &shared));
        }
        rules.sockets.extend([client, server]);
    }
}

/// Reads in a separate thread, so that held bytes are recorded all the same.
fn pass(mut from: TcpStream, mut to: TcpStream, way: Way, shared: &Arc<Shared>) {
    let (pieces, arrived) = mpsc::channel::<Vec<u8>>();
    let writer = Arc::clone(shared);
    thread::spawn(move || {
        for bytes in arrived {
            let (piece, delay) = wait_for_leave(bytes.len(), way, &writer);
            for part in bytes.chunks(piece) {
                thread::sleep(delay);
                if to.write_all(part).is_err() {
                    return;
                }
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buf = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        if way == Way::Commands {
            let mut rules = shared.rules.lock().unwrap();
            rules.commands.extend_from_slice(&buf[..n]);
        }
        if pieces.send(buf[..n].to_vec()).is_err() {
            return;
        }
    }
}

/// Waits while this direction is held. Returns the size and the delay of the pieces of `length`
/// bytes.
fn wait_for_leave(length: usize, way: Way, shared: &Shared) -> (usize, Duration) {
    let rules = shared.rules.lock().unwrap();
    let is_held = |rules: &mut Rules| match way {
        Way::Commands => rules.hold_commands && !rules.over,
        Way::Replies => rules.hold_replies && !rules.over,
    };
    let rules = shared.changed.wait_while(rules, is_held).unwrap();
    match way {
        Way::Commands => (length, Duration::ZERO),
        Way::Replies => (rules.reply_piece.unwrap_or(length), rules.reply_delay),
    }
}
