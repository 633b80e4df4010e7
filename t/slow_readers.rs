//! Readers that stop, among many that go on: what they cost the worker and the kernel, and what
//! their policy does. The others miss nothing, and publishing stays as cheap as before.

use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use t::settings::{Flavor, flavor};
use t::{
    Client, Conf, Crowd, Frame, Nginx, Raw, Redis, Request, Stream, Transport, frames, http,
    kernel, process, until,
};

/// `websocket_send_queue`: less than a tenth of what is published.
const SEND_QUEUE: u64 = 256 << 10;
/// `websocket_notsent`.
const NOTSENT: u64 = 64 << 10;
/// Bytes of a message: more than a TLS record holds.
const MESSAGE: usize = 20_000;

/// AddressSanitizer keeps freed memory, pads the rest, and slows everything down.
fn is_asan() -> bool {
    flavor() == Flavor::Asan
}

fn numbered(number: usize) -> String {
    format!("{number:.<MESSAGE$}")
}

fn number(text: &str) -> usize {
    assert_eq!(text.len(), MESSAGE, "a whole message");
    let number = text.trim_end_matches('.').parse();
    number.expect("a message's number")
}

// --- readers that stop ----------------------------------------------------------------------------

/// Where a reader stops.
#[derive(Clone, Copy, Debug)]
enum Stop {
    InFrame,
    /// Over TLS, inside a frame that continues in the next record.
    BetweenRecords,
    InRecord,
}

/// A socket that hands out TLS records one by one, so that a reader can stop inside one.
struct Records {
    tcp: TcpStream,
    /// Bytes taken from the socket, which are read first.
    held: Vec<u8>,
    /// Bytes of the current record that are still in the socket.
    left: usize,
}

impl Records {
    /// Takes the header of the next record from the socket. Returns the length of the rest.
    fn head(&mut self) -> io::Result<usize> {
        assert_eq!((self.held.len(), self.left), (0, 0), "between records");
        self.held.resize(5, 0);
        self.tcp.read_exact(&mut self.held)?;
        self.left = u16::from_be_bytes([self.held[3], self.held[4]]).into();
        Ok(self.left)
    }

    /// Takes the header and half of the next record.
    fn half(&mut self) -> io::Result<()> {
        let half = self.head()? / 2;
        self.held.resize(5 + half, 0);
        self.tcp.read_exact(&mut self.held[5..])?;
        self.left -= half;
        Ok(())
    }
}

impl Read for Records {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() && self.left == 0 {
            self.head()?;
        }
        if self.held.is_empty() {
            let most = buf.len().min(self.left);
            let n = self.tcp.read(&mut buf[..most])?;
            self.left -= n;
            return Ok(n);
        }
        let n = buf.len().min(self.held.len());
        buf[..n].copy_from_slice(&self.held[..n]);
        self.held.drain(..n);
        Ok(n)
    }
}

impl Write for Records {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.tcp.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Records>>),
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(tcp) => tcp.read(buf),
            Wire::Tls(tls) => tls.read(buf),
        }
    }
}

/// A reader with small buffers that stops where the test wants it to.
struct Reader {
    wire: Wire,
    unread: Vec<u8>,
    stop: Stop,
    port: u16,
}

impl Reader {
    #[track_caller]
    fn accepted(nginx: &Nginx, target: &str, stop: Stop) -> Self {
        let stream = match stop {
            Stop::InFrame => Stream::plain_narrow(nginx.http(), 8 * 1024),
            Stop::BetweenRecords | Stop::InRecord => Stream::tls_narrow(nginx.https(), 8 * 1024),
        };
        let stream = stream.expect("a connection to nginx");
        let port = stream.socket().local_addr().expect("an address").port();
        let wire = match stream {
            Stream::Plain(tcp) => Wire::Plain(tcp),
            Stream::Tls(tls) => {
                let StreamOwned { conn, sock: tcp } = *tls;
                let (held, left) = (Vec::new(), 0);
                let records = Records { tcp, held, left };
                Wire::Tls(Box::new(StreamOwned::new(conn, records)))
            }
        };
        let unread = Vec::new();
        let mut reader = Self {
            wire,
            unread,
            stop,
            port,
        };
        reader.send(&Request::upgrade(target).wire());
        let response = http::read(&mut reader.wire, &mut reader.unread);
        assert_eq!(response.expect("a response").status, 101);
        reader
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8]) {
        let sent = match &mut self.wire {
            Wire::Plain(tcp) => tcp.write_all(bytes),
            Wire::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        sent.expect("bytes sent");
    }

    /// Reads up to the point where it stops.
    #[track_caller]
    fn stop(&mut self) {
        while self.unread.is_empty() {
            self.read(5_000).expect("the beginning of a message");
        }
        if let Wire::Tls(tls) = &mut self.wire {
            // What rustls already has of the record is read first.
            let mut rest = vec![0; 1 << 14];
            let n = tls.conn.reader().read(&mut rest).unwrap_or_default();
            self.unread.extend_from_slice(&rest[..n]);
        }
        assert!(Frame::parse(&self.unread).is_none(), "{:?}", self.stop);
        if let (Stop::InRecord, Wire::Tls(tls)) = (self.stop, &mut self.wire) {
            tls.sock.half().expect("half a record");
        }
    }

    /// The next frame. `None` when the connection has ended.
    fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.unread) {
                self.unread.drain(..length);
                return Some(frame);
            }
            self.read(64 * 1024).ok().filter(|&n| n > 0)?;
        }
    }

    fn read(&mut self, most: usize) -> io::Result<usize> {
        let before = self.unread.len();
        self.unread.resize(before + most, 0);
        let read = self.wire.read(&mut self.unread[before..]);
        self.unread
            .truncate(before + read.as_ref().map_or(0, |&n| n));
        read
    }

    /// Reads up to the message of this number. The messages must be whole and in ascending order.
    /// Returns how many there were.
    #[track_caller]
    fn catch_up(&mut self, last: usize) -> usize {
        let mut heard = vec![];
        while heard.last() != Some(&last) {
            let frame = self.frame().expect("the connection stays");
            heard.push(number(&frame.text()));
        }
        assert!(
            heard.is_sorted_by(|a, b| a < b),
            "{:?}: {heard:?}",
            self.stop
        );
        self.send(&frames::ping("in step").wire());
        assert_eq!(self.frame(), Some(frames::pong("in step")));
        heard.len()
    }
}

// --- what they cost -------------------------------------------------------------------------------

/// Kernel memory in bytes of nginx's side of the connection from that port, as `ss` reports it:
/// data received, sent and in flight, and memory set aside for more.
#[track_caller]
fn kernel_bytes(nginx: &Nginx, port: u16) -> u64 {
    let served = [nginx.http().port(), nginx.https().port()];
    let held = kernel::memory(&format!(
        "( sport = :{} or sport = :{} ) and dport = :{port}",
        served[0], served[1]
    ));
    u64::try_from(held.iter().sum::<i64>()).unwrap_or(0)
}

/// What the kernel may hold for a stopped reader: `websocket_notsent` and one more write (a
/// message, or what TLS makes of it), twice as the kernel counts whole buffers, and what is in
/// flight towards the 8 KiB of the reader's buffer.
const KERNEL: u64 = 2 * (NOTSENT + MESSAGE as u64) + (32 << 10);

/// What the logs may hold for all stopped readers. They share one log, which is as long as the
/// limit lets the reader furthest behind lag. Each may also keep the message it is inside of, and
/// the newest message is added.
const fn log_bytes(stopped: u64) -> u64 {
    SEND_QUEUE + (stopped + 2) * (MESSAGE as u64 + 4)
}

/// How much the worker may grow: by the logs, by a TLS record of 16 KiB for each reader, sealed and
/// not yet taken, with its buffers, by 4 MiB of buffers kept for the next clients that lag
/// (`SPARE_BYTES` of `crates/fanout`), however many readers there are, and by half a MiB that the
/// heap may not give back.
const fn worker_bytes(stopped: u64) -> u64 {
    log_bytes(stopped) + stopped * (32 << 10) + (4 << 20) + (512 << 10)
}

// --- one in ten stops -----------------------------------------------------------------------------

/// Ten readers that will stop, over ws and wss.
#[track_caller]
fn stopping(nginx: &Nginx) -> Vec<Reader> {
    let stops = [Stop::InFrame, Stop::BetweenRecords, Stop::InRecord];
    let reader = |n: usize| Reader::accepted(nginx, "/ws", stops[n % 3]);
    (0..10).map(reader).collect()
}

/// Ninety clients that read, and ten that stop.
struct Scene {
    redis: Redis,
    nginx: Nginx,
    crowd: Crowd,
    secure: Vec<Raw>,
    stopped: Vec<Reader>,
    messages: usize,
}

impl Scene {
    fn new(policy: &str) -> Self {
        let redis = Redis::start();
        // Stopped readers are to meet their policy, not the timeout for silence.
        let limits = format!(
            "websocket_slow {policy}; websocket_send_queue {SEND_QUEUE}; \
             websocket_notsent {NOTSENT}; websocket_ping_interval 0; websocket_timeout 0;"
        );
        let conf = Conf::with(&redis)
            .http(&limits)
            .location("/ws", "websocket_subscribe a b;")
            .location("/status", "websocket_status;");
        let nginx = Nginx::start(conf);
        let crowd = Crowd::accepted(&nginx, 80, |_| "/ws".to_owned());
        let raw = |_| Raw::accepted(&nginx, Transport::Wss, "/ws");
        let secure = (0..10).map(raw).collect();
        Self {
            crowd,
            secure,
            stopped: stopping(&nginx),
            redis,
            nginx,
            messages: if is_asan() { 60 } else { 400 },
        }
    }

    /// Ten readers stop in the first message. Each message is published when all others have
    /// received the one before it. Returns how much the worker has grown since the first.
    #[track_caller]
    fn play(&mut self) -> u64 {
        let mut publisher = self.redis.session();
        let mut before = 0;
        for at in 0..self.messages {
            publisher.publish(["a", "b"][at % 2], numbered(at));
            self.crowd.until("the others have heard it", |all| {
                all.iter().all(|member| member.messages.len() == 1)
            });
            for member in self.crowd.members() {
                assert!(member.messages[0] == numbered(at).as_bytes(), "{at}");
            }
            self.crowd.forget();
            for client in &mut self.secure {
                assert_eq!(number(&client.frame().text()), at);
            }
            if at == 0 {
                self.stopped.iter_mut().for_each(Reader::stop);
                before = process::anonymous_bytes(self.nginx.worker());
            }
        }
        process::anonymous_bytes(self.nginx.worker()).saturating_sub(before)
    }

    fn status(&self) -> serde_json::Value {
        self.nginx.get("/status").json()
    }

    fn kernel_bytes(&self) -> Vec<u64> {
        let of = |reader: &Reader| kernel_bytes(&self.nginx, reader.port);
        self.stopped.iter().map(of).collect()
    }

    /// They cost what the limits say, however much was published.
    #[track_caller]
    fn is_within_the_limits(&self, grown: u64) {
        let (kernel, logs) = (self.kernel_bytes(), &self.status()["memory"]["logs"]);
        println!("worker {grown}, logs {logs}, kernel {kernel:?}");
        assert!(kernel.iter().all(|&bytes| bytes <= KERNEL), "{kernel:?}");
        let stopped = self.stopped.len() as u64;
        let logs = logs.as_u64().expect("a number");
        assert!(logs <= log_bytes(stopped), "logs: {logs}");
        let most = worker_bytes(stopped);
        assert!(is_asan() || grown <= most, "grown by {grown} bytes");
    }

    /// Waits until no client is behind and nothing is held.
    #[track_caller]
    fn until_calm(&self) {
        until("nothing is held", || {
            let status = self.status();
            status["lagging"] == 0 && status["memory"]["logs"] == 0
        });
    }

    /// A reader that goes on gets what its policy left. What it lost is counted.
    #[track_caller]
    fn catch_up(mut self) {
        let kernel = self.kernel_bytes();
        assert!(kernel.iter().all(|&bytes| bytes > 0), "{kernel:?}");
        let (last, messages) = (self.messages - 1, self.messages);
        let heard = self.stopped.iter_mut().map(|reader| reader.catch_up(last));
        let heard: Vec<usize> = heard.collect();
        assert!(heard.iter().all(|&heard| heard < messages), "{heard:?}");
        self.until_calm();
        let kernel = self.kernel_bytes();
        assert!(kernel.iter().all(|&bytes| bytes <= 16 << 10), "{kernel:?}");
        let counters = &self.status()["counters"];
        let lost: usize = heard.iter().map(|heard| messages - heard).sum();
        assert_eq!(
            (&counters["skipped"], &counters["slow_closed"]),
            (&lost.into(), &0.into())
        );
        self.redis.publish("a", "to all");
        self.crowd.until("all hear the next", |all| {
            all.iter().all(|member| member.texts() == ["to all"])
        });
        for reader in &mut self.stopped {
            assert_eq!(reader.frame(), Some(frames::text("to all")));
        }
    }
}

#[test]
fn one_in_ten_stops_and_loses_the_oldest() {
    let mut scene = Scene::new("drop_oldest");
    let grown = scene.play();
    scene.is_within_the_limits(grown);
    scene.catch_up();
}

#[test]
fn one_in_ten_stops_and_keeps_the_latest() {
    let mut scene = Scene::new("latest");
    let grown = scene.play();
    scene.is_within_the_limits(grown);
    scene.catch_up();
}

#[test]
fn one_in_ten_stops_and_is_closed() {
    let mut scene = Scene::new("close");
    let grown = scene.play();
    scene.is_within_the_limits(grown);
    let counters = &scene.status()["counters"];
    assert_eq!(
        (&counters["skipped"], &counters["slow_closed"]),
        (&0.into(), &10.into())
    );
    until("they are gone", || scene.status()["connections"] == 90);
    scene.until_calm();
    // What they were sent before consists of whole messages, and none up to there is missing.
    for reader in &mut scene.stopped {
        let mut heard = 0;
        while let Some(frame) = reader.frame() {
            if frame.opcode == frames::CLOSE {
                assert_eq!(frame.close_code(), Some(1008));
                break;
            }
            assert_eq!(number(&frame.text()), heard);
            heard += 1;
        }
        assert!(heard < scene.messages, "{:?}", reader.stop);
    }
}

/// The kernel does not keep data for long for closed clients that do not read it.
#[test]
fn what_closed_readers_never_read_leaves_the_kernel() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_send_queue 100k;"));
    let stuck =
        Transport::BOTH.map(|transport| Raw::accepted_narrow(&nginx, transport, "/ws?channel=foo"));
    let held = || -> u64 {
        let ports = stuck.iter().map(|raw| raw.stream().socket().local_addr());
        ports
            .map(|address| kernel_bytes(&nginx, address.expect("an address").port()))
            .sum()
    };
    let mut publisher = redis.session();
    until("both are closed", || {
        publisher.publish("foo", "x".repeat(100_000));
        nginx.count_log("closed with 1008") == 2
    });
    assert!(held() > 0);
    until("the kernel has dropped what they did not read", || {
        held() == 0
    });
}

/// Memory held for stopped readers is available to others once they are gone, however they go.
#[test]
fn what_stopped_readers_held_comes_back() {
    let mut scene = Scene::new("drop_oldest");
    let sizes = (0..4).map(|round| {
        if round > 0 {
            scene.stopped.clear();
            scene.until_calm();
            scene.stopped = stopping(&scene.nginx);
        }
        let grown = scene.play();
        scene.is_within_the_limits(grown);
        process::anonymous_bytes(scene.nginx.worker())
    });
    let sizes: Vec<u64> = sizes.collect();
    println!("after each round: {sizes:?}");
    assert!(is_asan() || sizes[3] <= sizes[1] + (512 << 10), "{sizes:?}");
}

// --- many that never read -------------------------------------------------------------------------

/// Processor time that a process has used, in nanoseconds.
fn cpu_nanoseconds(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("schedstat");
    let used = stat.split(' ').next().expect("a figure");
    used.parse().expect("a number")
}

/// Publishes messages of 2 KB to fifty clients that never read and one that does. Returns the
/// processor time that the worker took per message.
fn cost_of_publishing(directives: &str, messages: usize) -> u64 {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http(directives));
    let narrow = |n: usize| Raw::accepted_narrow(&nginx, Transport::BOTH[n % 2], "/ws?channel=foo");
    let _stuck: Vec<Raw> = (0..50).map(narrow).collect();
    let mut reader = Client::connect(&nginx, "/ws?channel=foo");
    let mut publisher = redis.session();
    let before = cpu_nanoseconds(nginx.worker());
    for at in 0..messages {
        let message = format!("{at:.<2000}");
        publisher.publish("foo", &message);
        assert!(reader.text() == message, "{at}");
        if at % 500 == 0 {
            assert_eq!(nginx.get("/plain").text(), "plain");
        }
    }
    let used = cpu_nanoseconds(nginx.worker()) - before;
    println!("{directives} {messages} messages: {} us", used / 1000);
    used
}

/// Four times the messages take four times the work. If what is held were searched or moved for
/// each message, they would take sixteen times the work or more.
#[test]
fn publishing_to_fifty_that_never_read_costs_each_message_the_same() {
    let messages = if is_asan() { 500 } else { 2_000 };
    for directives in [
        "websocket_send_queue 64m;",
        "websocket_send_queue 1m;",
        "websocket_send_queue 1m; websocket_slow drop_oldest;",
        "websocket_send_queue 1m; websocket_slow latest;",
    ] {
        let few = cost_of_publishing(directives, messages);
        let many = cost_of_publishing(directives, 4 * messages);
        assert!(many < 10 * few, "{directives}: {few} ns, then {many} ns");
    }
}
