//! Many clients, many channels, much coming and going: nothing is lost, and each costs what
//! docs/scale.md says. Those that are ignored are of the size of that page and print its figures:
//!
//!     scripts/test e2e -- --release --test scale -- --ignored --nocapture --test-threads 1

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};
use t::settings::{Build, Flavor, build, flavor};
use t::{Conf, Nginx, Redis, Session, process, until};

/// A message of 128 bytes.
fn numbered(number: usize) -> String {
    format!("{number:.<128}")
}

/// Only what operators run has the size that is told.
fn memory_is_measurable() -> bool {
    flavor() == Flavor::Debian && build() == Build::Release
}

/// All is slower under AddressSanitizer.
fn many(number: usize) -> usize {
    if flavor() == Flavor::Asan {
        number / 10
    } else {
        number
    }
}

// --- clients --------------------------------------------------------------------------------------

/// A process with clients: `t/scale_clients.rs` tells what it can be asked.
struct Clients {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Clients {
    fn start(nginx: &Nginx, source: usize) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_scale_clients"))
            .args([nginx.http().to_string(), source.to_string()])
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

    /// Waits until what was asked is done. Returns when the last message had come.
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
    /// They go with their input.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

// --- the scene ------------------------------------------------------------------------------------

/// An nginx of some workers, and as many processes with clients.
struct Scene {
    redis: Redis,
    nginx: Nginx,
    crowds: Vec<Clients>,
    published: usize,
}

impl Scene {
    fn new(workers: usize, directives: &str) -> Self {
        let redis = Redis::start();
        let silence = "websocket_ping_interval 0; websocket_timeout 0;";
        let conf = Conf::push(&redis)
            .http(silence)
            .server(directives)
            .workers(workers)
            .worker_connections(16_384)
            .reuseport();
        let nginx = Nginx::start(conf);
        // What is made with the first clients is there already when memory is compared.
        let mut first = Clients::start(&nginx, 200);
        first.ask("join 100 0 /ws?channel=first-{}");
        first.answer();
        drop(first);
        until("channels of the first have left", || {
            redis.command(&["PUBSUB", "CHANNELS", "first-*"]) == t::Reply::Array(Vec::new())
        });
        let crowds = (0..workers)
            .map(|n| Clients::start(&nginx, n + 1))
            .collect();
        Self {
            redis,
            nginx,
            crowds,
            published: 0,
        }
    }

    /// Asks all processes at once; returns when the last message had come to any client.
    #[track_caller]
    fn all(&mut self, what: impl Fn(usize) -> String) -> Duration {
        for (n, crowd) in self.crowds.iter_mut().enumerate() {
            crowd.ask(&what(n));
        }
        let times = self.crowds.iter_mut().map(Clients::answer);
        times.max().expect("clients")
    }

    /// So many more for each process; "{}" in the target is a number of each client's own.
    #[track_caller]
    fn join(&mut self, each: usize, target: &str) {
        self.all(|n| format!("join {each} {} {target}", n * each));
    }

    /// Publishes one message to `foo` when all are listening, and waits until all have heard it.
    /// Returns how long it took to the last.
    #[track_caller]
    fn broadcast(&mut self, publisher: &mut Session) -> Duration {
        for crowd in &mut self.crowds {
            crowd.ask("hear 1");
        }
        let begun = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
        publisher.publish("foo", numbered(self.published));
        self.published += 1;
        let times = self.crowds.iter_mut().map(Clients::answer);
        times.max().expect("clients").saturating_sub(begun)
    }

    /// Memory of all workers in bytes.
    fn bytes(&self) -> u64 {
        let workers = self.nginx.workers();
        workers.into_iter().map(process::proportional_bytes).sum()
    }

    /// By how much the workers have grown since.
    fn grown(&self, since: u64) -> u64 {
        self.bytes().saturating_sub(since)
    }

    /// Processor time that the workers have used.
    fn cpu(&self) -> Duration {
        let of = |pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat"));
            let stat = stat.expect("schedstat");
            let used = stat.split(' ').next().expect("a figure");
            Duration::from_nanos(used.parse().expect("a number"))
        };
        self.nginx.workers().into_iter().map(of).sum()
    }
}

/// Memory of the kernel's TCP sockets, both sides, as `/proc/net/sockstat` and the slabs tell it.
fn kernel_bytes() -> u64 {
    let read = |path| std::fs::read_to_string(path).expect("a file of /proc");
    let slabs = read("/proc/meminfo");
    let line = slabs.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.expect("Slab").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

// --- many clients of one channel ------------------------------------------------------------------

/// What subscribers of one channel cost.
struct Subscribers {
    bytes_each: u64,
    kernel_bytes_each: u64,
    to_last: Vec<Duration>,
    cpu_per_delivery: Duration,
}

#[track_caller]
fn subscribers(workers: usize, each: usize, messages: usize) -> Subscribers {
    let mut scene = Scene::new(workers, "");
    let clients = workers * each;
    let (before, kernel) = (scene.bytes(), kernel_bytes());
    scene.join(each, "/ws?channel=foo");
    let bytes_each = scene.grown(before) / clients as u64;
    let kernel_bytes_each = kernel_bytes().saturating_sub(kernel) / clients as u64;
    assert_eq!(scene.redis.subscribers("foo"), workers as i64);
    let mut publisher = scene.redis.session();
    scene.broadcast(&mut publisher);
    let begun = scene.cpu();
    let to_last = (0..messages).map(|_| scene.broadcast(&mut publisher));
    let mut to_last: Vec<Duration> = to_last.collect();
    to_last.sort_unstable();
    let cpu_per_delivery = (scene.cpu() - begun) / (clients * messages) as u32;
    scene.all(|_| format!("leave {each}"));
    until("all have left", || scene.redis.subscribers("foo") == 0);
    Subscribers {
        bytes_each,
        kernel_bytes_each,
        to_last,
        cpu_per_delivery,
    }
}

#[test]
fn six_thousand_over_two_workers_hear_each_message() {
    let found = subscribers(2, many(3_000), 20);
    let bytes = found.bytes_each;
    assert!(!memory_is_measurable() || bytes < 700, "{bytes} bytes each");
}

#[test]
#[ignore = "takes a minute and most of a machine"]
fn sixty_thousand_over_four_workers() {
    let found = subscribers(4, 15_000, 30);
    println!(
        "60,000 subscribers, 4 workers: {} bytes each, {} more in the kernel for both ends; \
         to the last client {:?} (median), {:?} (worst of 30); {:?} of processor per delivery",
        found.bytes_each,
        found.kernel_bytes_each,
        found.to_last[15],
        found.to_last[29],
        found.cpu_per_delivery
    );
}

#[test]
#[ignore = "takes some minutes and most of a machine"]
fn a_delivery_to_ten_and_to_sixty_thousand() {
    for (workers, each, messages) in [
        (1, 10, 3000),
        (1, 100, 2000),
        (1, 1_000, 500),
        (1, 10_000, 50),
        (4, 2_500, 50),
        (4, 15_000, 20),
    ] {
        let found = subscribers(workers, each, messages);
        println!(
            "{} subscribers, {workers} workers: {:?} of processor per delivery, to the last {:?}",
            workers * each,
            found.cpu_per_delivery,
            found.to_last[messages / 2]
        );
    }
}

// --- many channels --------------------------------------------------------------------------------

/// Each client has a channel of its own, and hears what is published there. Returns bytes per
/// client and channel, and how long a round of messages to all took to the last.
#[track_caller]
fn a_channel_each(workers: usize, each: usize) -> (u64, Duration) {
    let mut scene = Scene::new(workers, "");
    let clients = workers * each;
    let before = scene.bytes();
    scene.join(each, "/ws?channel=channel-{}");
    let grown = scene.grown(before) / clients as u64;
    let mut publisher = scene.redis.session();
    let mut took = Duration::ZERO;
    for round in 0..3 {
        for crowd in &mut scene.crowds {
            crowd.ask("hear 1");
        }
        let begun = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
        let message = numbered(round);
        let channels: Vec<String> = (0..clients).map(|n| format!("channel-{n}")).collect();
        for channels in channels.chunks(1_000) {
            let messages: Vec<_> = channels.iter().map(|name| (name, &message)).collect();
            publisher.publish_all(&messages);
        }
        let times = scene.crowds.iter_mut().map(Clients::answer);
        took = times.max().expect("clients").saturating_sub(begun);
    }
    scene.all(|_| format!("leave {each}"));
    until("all channels have left", || {
        scene.redis.command(&["PUBSUB", "CHANNELS", "channel-*"]) == t::Reply::Array(Vec::new())
    });
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

/// What a client of a thousand channels costs, in bytes.
#[derive(Debug)]
struct Thousand {
    /// The first: channels and all.
    first: u64,
    /// Each of those with the same channels, one of them thousandfold.
    equal: u64,
    /// Each of those with one channel of their own and 999 of the others'.
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
    let mut publisher = scene.redis.session();
    // All hear of each of their channels, numbered on.
    let mut hear = |scene: &mut Scene, from: usize| {
        let messages: Vec<_> = (0..10)
            .map(|n| (format!("name-{}", 1 + n * 100), numbered(from + n)))
            .collect();
        scene.crowds[0].ask("hear 10");
        publisher.publish_all(&messages);
        scene.crowds[0].answer();
    };
    let before = scene.bytes();
    scene.join(1, "/all");
    let first = scene.grown(before);
    hear(&mut scene, 0);
    let before = scene.bytes();
    scene.join(equal, "/all");
    let equals = scene.grown(before) / equal as u64;
    hear(&mut scene, 10);
    let before = scene.bytes();
    scene.join(unequal, "/own?own=own-{}");
    let unequals = scene.grown(before) / unequal as u64;
    hear(&mut scene, 20);
    Thousand {
        first,
        equal: equals,
        unequal: unequals,
    }
}

#[test]
fn clients_of_a_thousand_channels_share_what_is_equal() {
    let found = a_thousand_channels(100, 100);
    println!("{found:?}");
    if memory_is_measurable() {
        // 48 bytes for each feed and channel.
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

/// Each client has a thousand channels of its own, all with one worker. Returns bytes per channel.
#[track_caller]
fn a_thousand_channels_each(clients: usize) -> u64 {
    let names = (0..1_000).map(|n| format!(" own-$websocket_arg_own-{n}"));
    let names: String = names.collect();
    let location = format!("location /own {{ websocket_subscribe {names}; }}");
    let mut scene = Scene::new(1, &location);
    let before = scene.bytes();
    scene.join(clients, "/own?own={}");
    let grown = scene.grown(before) / (clients * 1_000) as u64;
    let mut publisher = scene.redis.session();
    scene.crowds[0].ask("hear 10");
    for (number, channel) in (0..1_000).step_by(100).enumerate() {
        let name = |client| format!("own-{client}-{channel}");
        let messages: Vec<_> = (0..clients).map(|n| (name(n), numbered(number))).collect();
        publisher.publish_all(&messages);
    }
    scene.crowds[0].answer();
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

/// While each of `messages` goes to those who stay, `at_once` clients come and go in a process of
/// their own. Returns how many came and went, in how long, and by how much the workers have grown
/// from the first to the last turn.
#[track_caller]
fn storm(workers: usize, each: usize, turns: usize, at_once: usize) -> (usize, Duration, u64) {
    let mut scene = Scene::new(workers, "");
    scene.join(each, "/ws?channel=foo");
    let mut storm = Clients::start(&scene.nginx, 100);
    let mut publisher = scene.redis.session();
    let mut sizes = Vec::new();
    let begun = SystemTime::now();
    for turn in 0..turns {
        // Half go where the message is, half to channels that come and go with them.
        let half = at_once / 2;
        storm.ask(&format!("join {half} 0 /ws?channel=foo"));
        storm.ask(&format!("join {half} {} /ws?channel=bar-{{}}", turn * half));
        storm.ask(&format!("leave {}", half * 2));
        for _ in 0..5 {
            scene.broadcast(&mut publisher);
        }
        (0..3).for_each(|_| {
            storm.answer();
        });
        sizes.push(scene.bytes());
    }
    let took = begun.elapsed().expect("a clock");
    drop(storm);
    until("channels of the storm have left", || {
        scene.redis.command(&["PUBSUB", "CHANNELS", "bar-*"]) == t::Reply::Array(Vec::new())
    });
    let first = sizes[..turns / 2].iter().max().expect("turns");
    let grown = scene.bytes().saturating_sub(*first);
    scene.broadcast(&mut publisher);
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
