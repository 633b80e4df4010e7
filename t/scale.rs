//! Many clients and many channels that come and go: nothing is lost, and each costs what
//! docs/scale.md says. The ignored tests have the size of that page and print its figures:
//!
//!     scripts/test e2e -- --release --test scale -- --ignored --nocapture --test-threads 1

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use t::settings::{Build, Flavor, build, flavor};
use t::{Client, Conf, Nginx, Redis, Reply, Session, ports, process, until};

/// A message of 128 bytes.
fn numbered(number: usize) -> String {
    format!("{number:.<128}")
}

/// Only the build that operators run has the documented size.
fn memory_is_measurable() -> bool {
    flavor() == Flavor::Debian && build() == Build::Release
}

/// AddressSanitizer slows everything down.
fn many(number: usize) -> usize {
    if flavor() == Flavor::Asan {
        number / 10
    } else {
        number
    }
}

// --- clients --------------------------------------------------------------------------------------

/// A process with clients. `t/scale_clients.rs` tells what it can be asked.
struct Clients {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Clients {
    /// Starts clients of the server at this address, with source addresses of this number.
    fn start(address: SocketAddr, source: usize) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_scale_clients"))
            .args([address.to_string(), source.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program scale_clients");
        let answers = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, answers }
    }

    #[track_caller]
    fn ask(&mut self, what: &str) {
        let input = self.process.stdin.as_mut().expect("its input");
        writeln!(input, "{what}").expect("the clients are there");
    }

    /// Waits until the request is done. Returns when the last message had arrived.
    #[track_caller]
    fn answer(&mut self) -> Duration {
        let mut said = String::new();
        self.answers.read_line(&mut said).expect("a line");
        let time = said.trim_end().strip_prefix("done ");
        let time = time.unwrap_or_else(|| panic!("the clients said {said:?}"));
        Duration::from_nanos(time.parse().expect("a time"))
    }
}

impl Drop for Clients {
    /// The process exits when its input ends.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The clients that listen to a server, which may be several processes.
struct Audience {
    servers: Vec<u32>,
    crowds: Vec<Clients>,
    published: usize,
}

impl Audience {
    fn new(servers: Vec<u32>, crowds: Vec<Clients>) -> Self {
        let published = 0;
        Self {
            servers,
            crowds,
            published,
        }
    }

    /// Asks all processes at once. Returns when the last message had arrived at any client.
    #[track_caller]
    fn all(&mut self, what: impl Fn(usize) -> String) -> Duration {
        for (n, crowd) in self.crowds.iter_mut().enumerate() {
            crowd.ask(&what(n));
        }
        let times = self.crowds.iter_mut().map(Clients::answer);
        times.max().expect("clients")
    }

    /// Adds this many clients per process. "{}" in the target is a different number for each
    /// client.
    #[track_caller]
    fn join(&mut self, each: usize, target: &str) {
        self.all(|n| format!("join {each} {} {target}", n * each));
    }

    /// Runs `publish` while all listen. It must make each client hear this many messages. Returns
    /// how long it took until the last one arrived.
    #[track_caller]
    fn hear(&mut self, messages: usize, publish: impl FnOnce()) -> Duration {
        for crowd in &mut self.crowds {
            crowd.ask(&format!("hear {messages}"));
        }
        let begun = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
        publish();
        let times = self.crowds.iter_mut().map(Clients::answer);
        times.max().expect("clients").saturating_sub(begun)
    }

    /// Publishes one message for all. Returns how long it took to the last of them.
    #[track_caller]
    fn broadcast(&mut self, publisher: &mut Session, channel: &str) -> Duration {
        let message = numbered(self.published);
        self.published += 1;
        self.hear(1, || {
            publisher.publish(channel, message);
        })
    }

    /// Memory of the servers in bytes.
    fn bytes(&self) -> u64 {
        let servers = self.servers.iter();
        servers.map(|&pid| process::proportional_bytes(pid)).sum()
    }

    /// How much the servers have grown since.
    fn grown(&self, since: u64) -> u64 {
        self.bytes().saturating_sub(since)
    }

    /// Processor time that the servers have used.
    fn cpu(&self) -> Duration {
        let of = |pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat"));
            let stat = stat.expect("schedstat");
            let used = stat.split(' ').next().expect("a figure");
            Duration::from_nanos(used.parse().expect("a number"))
        };
        self.servers.iter().map(of).sum()
    }
}

// --- the scene ------------------------------------------------------------------------------------

/// An nginx with some workers, and as many processes with clients.
struct Scene {
    audience: Audience,
    nginx: Nginx,
    redis: Redis,
}

impl Scene {
    fn new(workers: usize, directives: &str) -> Self {
        // The bare loops connect from another loopback address.
        let redis = Redis::start_with(&["--protected-mode", "no"]);
        let silence = "websocket_ping_interval 0; websocket_timeout 0;";
        let conf = Conf::push(&redis)
            .http(silence)
            .server(directives)
            .workers(workers)
            .worker_connections(16_384)
            .reuseport();
        let nginx = Nginx::start(conf);
        // What is created for the first clients must exist before memory is compared.
        let mut first = Clients::start(nginx.http(), 200);
        first.ask("join 100 0 /ws?channel=first-{}");
        first.answer();
        drop(first);
        let crowds = (1..=workers).map(|n| Clients::start(nginx.http(), n));
        let scene = Self {
            audience: Audience::new(nginx.workers(), crowds.collect()),
            nginx,
            redis,
        };
        scene.until_nobody_listens("first-*");
        scene
    }

    /// Waits until the workers have left these channels, some time after their last client.
    #[track_caller]
    fn until_nobody_listens(&self, pattern: &str) {
        until(&format!("{pattern} is left"), || {
            self.redis.command(&["PUBSUB", "CHANNELS", pattern]) == Reply::Array(Vec::new())
        });
    }
}

/// Memory of the kernel's slabs, which contains what idle sockets take, at both of their ends.
fn kernel_bytes() -> u64 {
    let read = |path| std::fs::read_to_string(path).expect("a file of /proc");
    let slabs = read("/proc/meminfo");
    let line = slabs.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.expect("Slab").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

// --- many clients of one channel ------------------------------------------------------------------

/// The cost of subscribers of one channel.
struct Subscribers {
    joined: Duration,
    bytes_each: u64,
    kernel_bytes_each: u64,
    /// How long messages took to reach the last client, in ascending order.
    to_last: Vec<Duration>,
}

#[track_caller]
fn subscribers(workers: usize, each: usize, messages: usize) -> Subscribers {
    let mut scene = Scene::new(workers, "");
    let clients = (workers * each) as u64;
    let (audience, mut publisher) = (&mut scene.audience, scene.redis.session());
    let (before, kernel) = (audience.bytes(), kernel_bytes());
    let begun = Instant::now();
    audience.join(each, "/ws?channel=foo");
    let joined = begun.elapsed();
    let bytes_each = audience.grown(before) / clients;
    let kernel_bytes_each = kernel_bytes().saturating_sub(kernel) / clients;
    let to_last = (0..messages).map(|_| audience.broadcast(&mut publisher, "foo"));
    let mut to_last: Vec<Duration> = to_last.collect();
    to_last.sort_unstable();
    audience.all(|_| format!("leave {each}"));
    scene.until_nobody_listens("foo");
    Subscribers {
        joined,
        bytes_each,
        kernel_bytes_each,
        to_last,
    }
}

#[test]
fn six_thousand_over_two_workers_hear_each_message() {
    let found = subscribers(2, many(3_000), 20);
    let bytes = found.bytes_each;
    assert!(!memory_is_measurable() || bytes < 650, "{bytes} bytes each");
}

#[test]
#[ignore = "takes a minute and most of a machine"]
fn sixty_thousand_over_four_workers() {
    let found = subscribers(4, 15_000, 40);
    println!(
        "60,000 subscribers of 4 workers: joined in {:?}; {} bytes each, {} more in the kernel for \
         both ends; to the last {:?} (median), {:?} (worst)",
        found.joined,
        found.bytes_each,
        found.kernel_bytes_each,
        found.to_last[20],
        found.to_last[39],
    );
}

// --- the cost of a delivery -----------------------------------------------------------------------

/// Loops that do nothing but `send`: as many as the workers they are compared with, with as many
/// clients. Dropping this ends them.
struct BareLoops {
    loops: Vec<Child>,
    audience: Audience,
}

impl BareLoops {
    /// `program` is the program of `crates/bench`.
    #[track_caller]
    fn start(program: &Path, redis: &Redis, number: usize) -> Self {
        let (mut loops, mut crowds) = (Vec::new(), Vec::new());
        let redis = format!("127.0.0.1:{}", redis.port());
        for n in 0..number {
            let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
            let child = Command::new(program)
                .args([
                    "serve-in-place",
                    "per-delivery",
                    &address.to_string(),
                    &redis,
                    "bare",
                ])
                .spawn();
            loops.push(child.expect("the program bench"));
            until("the loop listens", || TcpStream::connect(address).is_ok());
            crowds.push(Clients::start(address, 101 + n));
        }
        let audience = Audience::new(loops.iter().map(Child::id).collect(), crowds);
        Self { loops, audience }
    }
}

impl Drop for BareLoops {
    fn drop(&mut self) {
        for child in &mut self.loops {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends turns of `messages` to the module's clients and, if there are any, to as many clients of
/// bare loops. Returns nanoseconds of the servers' processor time per delivery, as medians of all
/// turns.
#[track_caller]
fn delivery(workers: usize, each: usize, messages: usize) -> (u64, Option<u64>) {
    let mut scene = Scene::new(workers, "");
    let program = std::env::var_os("WS_BARE_LOOP");
    let start = |program: OsString| BareLoops::start(Path::new(&program), &scene.redis, workers);
    let mut bare = program.map(start);
    let mut publisher = scene.redis.session();
    let mut turn = |audience: &mut Audience, channel: &str, messages: usize| {
        let begun = audience.cpu();
        for _ in 0..messages {
            audience.broadcast(&mut publisher, channel);
        }
        let used = (audience.cpu() - begun).as_nanos() as u64;
        used / (messages * workers * each) as u64
    };
    let mut audiences = vec![("foo", &mut scene.audience)];
    audiences.extend(bare.iter_mut().map(|bare| ("bare", &mut bare.audience)));
    let mut costs = vec![Vec::new(); audiences.len()];
    for (channel, audience) in &mut audiences {
        audience.join(each, "/ws?channel=foo");
        // The kernel acknowledges the first 16 packets of a connection at once, later ones not.
        turn(audience, channel, 18);
    }
    for _ in 0..15 {
        for ((channel, audience), costs) in audiences.iter_mut().zip(&mut costs) {
            costs.push(turn(audience, channel, messages));
        }
    }
    costs.iter_mut().for_each(|costs| costs.sort_unstable());
    (costs[0][7], costs.get(1).map(|costs| costs[7]))
}

/// `WS_BARE_LOOP` may name the program of `crates/bench` for a comparison.
#[test]
#[ignore = "takes some minutes and most of a machine"]
fn a_delivery_to_ten_and_to_sixty_thousand() {
    for (workers, each, messages) in [
        (1, 10, 500),
        (1, 100, 100),
        (1, 1_000, 20),
        (1, 10_000, 4),
        (4, 15_000, 2),
    ] {
        let (module, bare) = delivery(workers, each, messages);
        println!(
            "{} subscribers of {workers} workers: {module} ns of processor per delivery, {bare:?} \
             of bare loops",
            workers * each
        );
    }
}

// --- many channels --------------------------------------------------------------------------------

/// Each client has a channel of its own and hears what is published there. Returns the bytes per
/// client and channel, and how long a round of messages to all took to reach the last.
#[track_caller]
fn a_channel_each(workers: usize, each: usize) -> (u64, Duration) {
    let mut scene = Scene::new(workers, "");
    let clients = workers * each;
    let (audience, mut publisher) = (&mut scene.audience, scene.redis.session());
    let before = audience.bytes();
    audience.join(each, "/ws?channel=channel-{}");
    let grown = audience.grown(before) / clients as u64;
    let channels: Vec<String> = (0..clients).map(|n| format!("channel-{n}")).collect();
    let mut took = Duration::ZERO;
    for round in 0..3 {
        let message = numbered(round);
        took = audience.hear(1, || {
            for channels in channels.chunks(1_000) {
                let messages: Vec<_> = channels.iter().map(|name| (name, &message)).collect();
                publisher.publish_all(&messages);
            }
        });
    }
    audience.all(|_| format!("leave {each}"));
    scene.until_nobody_listens("channel-*");
    (grown, took)
}

#[test]
fn five_thousand_clients_with_a_channel_each() {
    let (bytes, _) = a_channel_each(2, many(2_500));
    assert!(!memory_is_measurable() || bytes < 1_600, "{bytes} bytes");
}

#[test]
#[ignore = "takes a minute and most of a machine"]
fn a_hundred_thousand_clients_with_a_channel_each() {
    let (bytes, took) = a_channel_each(7, 14_286);
    println!("100,002 clients and channels, 7 workers: {bytes} bytes each, a round took {took:?}");
}

/// The cost of a client of a thousand channels, in bytes.
#[derive(Debug)]
struct Thousand {
    /// The first client, channels included.
    first: u64,
    /// Each client with the same channels, one of them a thousand times.
    equal: u64,
    /// Each client with one channel of its own and 999 that others have.
    unequal: u64,
}

#[track_caller]
fn a_thousand_channels(equal: usize, unequal: usize) -> Thousand {
    let names = |from: usize| -> String { (from..1_000).map(|n| format!(" name-{n}")).collect() };
    let mut scene = Scene::new(
        1,
        &format!(
            "location /all {{ websocket_subscribe {}; }}\n\
             location /own {{ websocket_subscribe $websocket_arg_own {}; }}",
            names(0),
            names(1)
        ),
    );
    let (audience, mut publisher) = (&mut scene.audience, scene.redis.session());
    let mut published = 0;
    let mut grown = |clients: usize, target: &str| {
        let before = audience.bytes();
        audience.join(clients, target);
        let grown = audience.grown(before) / clients as u64;
        // All clients get the messages of ten channels that all of them have.
        let message = |n: usize| (format!("name-{}", 1 + n * 100), numbered(published + n));
        let messages: Vec<_> = (0..10).map(message).collect();
        audience.hear(10, || publisher.publish_all(&messages));
        published += 10;
        grown
    };
    Thousand {
        first: grown(1, "/all"),
        equal: grown(equal, "/all"),
        unequal: grown(unequal, "/own?own=own-{}"),
    }
}

#[test]
fn clients_of_a_thousand_channels_share_what_is_equal() {
    let found = a_thousand_channels(100, 100);
    println!("{found:?}");
    if memory_is_measurable() {
        // 48 bytes per feed and channel.
        assert!(found.unequal < 48 * 1_000, "{found:?}");
        assert!(found.equal < 4_000, "{found:?}");
        assert!(found.first < 1 << 20, "{found:?}");
    }
}

#[test]
#[ignore = "prints figures"]
fn clients_of_a_thousand_channels() {
    println!("{:?}", a_thousand_channels(1_000, 500));
}

/// Each client has a thousand channels of its own, all with one worker. Returns the bytes per
/// channel.
#[track_caller]
fn a_thousand_channels_each(clients: usize) -> u64 {
    let names = (0..1_000).map(|n| format!(" own-$websocket_arg_own-{n}"));
    let names: String = names.collect();
    let location = format!("location /own {{ websocket_subscribe {names}; }}");
    let mut scene = Scene::new(1, &location);
    let (audience, mut publisher) = (&mut scene.audience, scene.redis.session());
    let before = audience.bytes();
    audience.join(clients, "/own?own={}");
    let grown = audience.grown(before) / (clients * 1_000) as u64;
    audience.hear(10, || {
        for (number, channel) in (0..1_000).step_by(100).enumerate() {
            let name = |client| format!("own-{client}-{channel}");
            let messages: Vec<_> = (0..clients).map(|n| (name(n), numbered(number))).collect();
            publisher.publish_all(&messages);
        }
    });
    grown
}

#[test]
fn ten_thousand_channels_of_ten_clients() {
    let bytes = a_thousand_channels_each(10);
    assert!(!memory_is_measurable() || bytes < 600, "{bytes} bytes");
}

#[test]
#[ignore = "prints figures"]
fn a_hundred_thousand_channels_of_a_hundred_clients() {
    let bytes = a_thousand_channels_each(100);
    println!("100,000 channels of 100 clients, one worker: {bytes} bytes each");
}

// --- storms ---------------------------------------------------------------------------------------

/// While messages go to those who stay, `at_once` clients come and go in a process of their own.
/// Returns how many came and went, how long that took, and how much larger the workers are at the
/// end than at any time in the first half.
#[track_caller]
fn storm(workers: usize, each: usize, turns: usize, at_once: usize) -> (usize, Duration, u64) {
    let mut scene = Scene::new(workers, "");
    let (audience, mut publisher) = (&mut scene.audience, scene.redis.session());
    audience.join(each, "/ws?channel=foo");
    let mut storm = Clients::start(scene.nginx.http(), 100);
    let (half, begun) = (at_once / 2, Instant::now());
    let mut most = 0;
    for turn in 0..turns {
        // Half connect to the channel with the messages, half to channels that come and go with
        // them.
        storm.ask(&format!("join {half} 0 /ws?channel=foo"));
        storm.ask(&format!("join {half} {} /ws?channel=bar-{{}}", turn * half));
        storm.ask(&format!("leave {}", 2 * half));
        for _ in 0..5 {
            audience.broadcast(&mut publisher, "foo");
        }
        (0..3).for_each(|_| {
            storm.answer();
        });
        if turn < turns / 2 {
            most = audience.bytes().max(most);
        }
    }
    let took = begun.elapsed();
    drop(storm);
    let grown = audience.grown(most);
    audience.broadcast(&mut publisher, "foo");
    scene.until_nobody_listens("bar-*");
    (turns * at_once, took, grown)
}

#[test]
fn who_stays_hears_all_while_two_thousand_come_and_go() {
    let (_, _, grown) = storm(2, many(1_000), 10, 200);
    assert!(
        !memory_is_measurable() || grown < 512 << 10,
        "grown by {grown}"
    );
}

#[test]
#[ignore = "takes a minute"]
fn who_stays_hears_all_while_a_hundred_thousand_come_and_go() {
    let (came, took, grown) = storm(2, 2_000, 100, 1_000);
    println!("{came} came and went in {took:?}; the workers have grown by {grown} bytes");
}

// --- several Redises ------------------------------------------------------------------------------

/// The channel's name decides which Redis has it, as docs/scale.md shows.
#[test]
fn channels_are_split_over_two_redises() {
    let redises = [Redis::start(), Redis::start()];
    let location = |conf: Conf, name: &str, redis: &Redis| {
        let subscribe = "websocket_subscribe $websocket_arg_channel;";
        let directives = format!("internal; websocket_redis {}; {subscribe}", redis.url());
        conf.location(&format!("= /ws-{name}"), &directives)
    };
    let map = "map $websocket_arg_channel $redis { ~^[a-m] one; default two; }";
    let conf = Conf::new().http(map).drain("200ms");
    let conf = location(conf, "one", &redises[0]);
    let conf = location(conf, "two", &redises[1]);
    let nginx = Nginx::start(conf.location("= /ws", "rewrite ^ /ws-$redis last;"));
    for (name, here, there) in [("foo", 0, 1), ("public", 1, 0)] {
        let mut client = Client::connect(&nginx, &format!("/ws?channel={name}"));
        redises[there].publish(name, "elsewhere");
        redises[here].publish(name, "here");
        client.expect(["here"]);
    }
}
