//! Everything held for clients is accounted in `websocket_memory` and stays within it, however an
//! input is multiplied: a message is paid for once, not once per list or client.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use t::settings::{Flavor, flavor};
use t::{Client, Conf, Crowd, Nginx, Raw, Redis, Transport, kernel, patience, process, until};

const MIB: u64 = 1024 * 1024;

/// AddressSanitizer keeps freed memory, pads the rest, and slows everything down.
fn is_asan() -> bool {
    flavor() == Flavor::Asan
}

/// What is held, how it grows, and how long HTTP waits while something is done.
struct Watched {
    /// The largest growth of the worker's own memory.
    grown: u64,
    /// The largest figure that the account gave for logs.
    logs: u64,
    /// How long each GET waited for its answer.
    waits: Vec<Duration>,
}

impl Watched {
    #[track_caller]
    fn is_within(&self, cap: u64) {
        let Self { grown, logs, waits } = self;
        let mut waits = waits.clone();
        waits.sort_unstable();
        let p99 = waits[waits.len() * 99 / 100];
        let longest = waits.last().expect("a GET");
        println!("grown by {grown}, logs {logs}, GETs: p99 {p99:?}, longest {longest:?}");
        assert!(*logs < cap + cap / 2, "{logs} bytes of logs");
        assert!(is_asan() || *grown < 2 * cap, "grown by {grown} bytes");
        // A worker that does everything at once needs seconds. On a busy machine an answer takes
        // some hundred milliseconds.
        assert!(
            is_asan() || *longest < Duration::from_secs(1),
            "{longest:?}"
        );
    }
}

/// Watches the worker while `deed` runs.
#[track_caller]
fn watching<R>(nginx: &Nginx, deed: impl FnOnce() -> R) -> (R, Watched) {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let (worker, is_over) = (nginx.worker(), AtomicBool::new(false));
    let before = process::anonymous_bytes(worker);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut watched = Watched {
                grown: 0,
                logs: 0,
                waits: Vec::new(),
            };
            while !is_over.load(SeqCst) {
                let asked = Instant::now();
                let status = nginx.get("/status").json();
                watched.waits.push(asked.elapsed());
                let logs = status["memory"]["logs"].as_u64().expect("a number");
                watched.logs = watched.logs.max(logs);
                let now = process::anonymous_bytes(worker);
                watched.grown = watched.grown.max(now.saturating_sub(before));
            }
            watched
        });
        let result = {
            let _over = Over(&is_over);
            deed()
        };
        (result, watcher.join().expect("the watcher"))
    })
}

fn nginx(redis: &Redis, directives: &str) -> Nginx {
    let both = "websocket_subscribe all $websocket_arg_channel;";
    let conf = Conf::push(redis)
        .http(directives)
        .http("websocket_ping_interval 0; websocket_timeout 0;")
        .location("/both", both)
        .location(
            "/three",
            "websocket_subscribe all news $websocket_arg_channel;",
        )
        .location("/status", "websocket_status;");
    Nginx::start(conf)
}

/// Sixty thousand bytes that start with a number.
fn numbered(number: usize) -> Vec<u8> {
    format!("{number:.<60000}").into_bytes()
}

/// Readers of one channel share what is held for it. It is freed when the last of them is gone.
#[test]
fn memory_is_kept_within_its_limit_where_many_share_what_is_held() {
    let redis = Redis::start();
    let limits = "websocket_memory 8m; websocket_send_queue 64m;";
    let nginx = nginx(&redis, limits);
    let channel = |n: usize| format!("/ws?channel=foo-{n}");
    let stopped: Vec<Raw> = (0..100)
        .map(|n| Raw::accepted_narrow(&nginx, Transport::BOTH[n / 10 % 2], &channel(n % 10)))
        .collect();
    let mut reader = Client::connect(&nginx, &channel(0));
    let mut publisher = redis.session();
    let ((), watched) = watching(&nginx, || {
        for at in 0..300 {
            publisher.publish(format!("foo-{}", at % 10), numbered(at));
            if at % 10 == 0 {
                assert!(reader.text().as_bytes() == numbered(at), "{at}");
            }
        }
    });
    watched.is_within(8 * MIB);
    let counters = &nginx.get("/status").json()["counters"];
    let closed = counters["slow_closed"].as_u64().expect("a number");
    assert!((10..=100).contains(&closed), "{closed} closed");
    drop(stopped);
}

/// Redis is read only as far as clients have been offered what it has sent. What waits for a first
/// offer is no client's lag, so no policy could drop it.
#[test]
fn what_no_client_was_offered_yet_is_bounded_too() {
    let redis = Redis::start();
    let limits = "websocket_memory 8m; websocket_send_queue 64m; websocket_slow drop_oldest;";
    let nginx = nginx(&redis, limits);
    let mut crowd = Crowd::accepted(&nginx, 100, |_| "/ws?channel=foo".to_owned());
    let messages = if is_asan() { 150 } else { 400 };
    let all: Vec<_> = (0..messages).map(|at| ("foo", numbered(at))).collect();
    let ((), watched) = watching(&nginx, || {
        std::thread::scope(|scope| {
            scope.spawn(|| redis.session().publish_all(&all));
            let (last, mut done) = (numbered(messages - 1), vec![false; 100]);
            while done.contains(&false) {
                crowd.pump(Duration::from_millis(100));
                for (member, done) in crowd.members().iter().zip(&mut done) {
                    assert!(!member.ended);
                    *done |= member.messages.last() == Some(&last);
                }
                crowd.forget();
            }
        });
    });
    watched.is_within(8 * MIB);
}

/// Frames of a crowd that is read all the time: what each member has received.
struct Heard {
    crowd: Crowd,
    /// Bytes and messages of each member.
    counts: Vec<(usize, usize)>,
}

impl Heard {
    fn by(crowd: Crowd) -> Self {
        let counts = vec![(0, 0); crowd.members().len()];
        Self { crowd, counts }
    }

    /// Reads until each member has received `messages`.
    #[track_caller]
    fn until_all(&mut self, messages: usize) {
        let end = Instant::now() + 2 * patience();
        while self.counts.iter().any(|(_, heard)| *heard < messages) {
            assert!(Instant::now() < end, "heard: {:?}", self.counts);
            self.crowd.pump(Duration::from_millis(100));
            for (member, (bytes, heard)) in self.crowd.members().iter().zip(&mut self.counts) {
                assert!(member.is_open(), "a reader was closed");
                *heard += member.messages.len();
                *bytes += member.messages.iter().map(Vec::len).sum::<usize>();
            }
            self.crowd.forget();
        }
    }
}

/// A burst of 820 KB for channels that many clients listen to. Each client also has a channel of
/// its own.
fn burst_for_many_lists(clients: usize, location: &str, channels: &[&str]) {
    let redis = Redis::start();
    let nginx = nginx(&redis, "websocket_memory 32m;");
    let target = |n: usize| format!("/{location}?channel={n}");
    let mut heard = Heard::by(Crowd::accepted(&nginx, clients, target));
    let message = "x".repeat(512);
    let all: Vec<_> = (0..1_600)
        .map(|at| (channels[at % channels.len()], &message))
        .collect();
    let ((), watched) = watching(&nginx, || {
        redis.session().publish_all(&all);
        heard.until_all(all.len());
    });
    watched.is_within(32 * MIB);
    assert!(heard.counts.iter().all(|(bytes, _)| *bytes == 512 * 1_600));
    until("nothing is held", || {
        nginx.get("/status").json()["memory"]["logs"] == 0
    });
}

/// The cost of a message does not grow with the number of lists that contain its channel.
#[test]
fn a_burst_for_many_lists_is_held_once() {
    burst_for_many_lists(many(), "both", &["all"]);
}

#[test]
fn so_is_one_of_two_common_channels_in_turn() {
    burst_for_many_lists(many(), "three", &["all", "news"]);
}

fn many() -> usize {
    if is_asan() { 100 } else { 250 }
}

/// The clients must be as fast as in a release build.
#[test]
#[ignore = "for its figures: with --release, a quiet machine and --nocapture"]
fn a_burst_for_thousands_of_lists_is_held_once() {
    for clients in [1_000, 3_000] {
        burst_for_many_lists(clients, "both", &["all"]);
        burst_for_many_lists(clients, "three", &["all", "news"]);
    }
}

/// Kernel memory in bytes of nginx's side of all its connections.
#[track_caller]
fn kernel_bytes(nginx: &Nginx) -> u64 {
    let held = kernel::memory(&format!("sport = :{}", nginx.http().port()));
    u64::try_from(held.iter().sum::<i64>()).unwrap_or(0)
}

/// Nearly a mebibyte that starts with a number.
fn large(number: usize) -> Vec<u8> {
    let mut message = format!("{number:.<60000}").into_bytes();
    message.resize(999_000, b'.');
    message
}

/// A thousand readers, each of which stops within the first of four large messages. The second
/// crowd has ten more.
fn thousand_that_stop(policy: &str) -> (Nginx, Crowd, Crowd) {
    let redis = Redis::start();
    let limits = format!("websocket_memory 32m; websocket_notsent 16k; websocket_slow {policy};");
    let nginx = nginx(&redis, &limits);
    let target = |_| "/ws?channel=foo".to_owned();
    let thousand = Crowd::accepted(&nginx, if is_asan() { 200 } else { 1_000 }, target);
    let ten = Crowd::accepted(&nginx, 10, target);
    let mut reader = Client::connect(&nginx, "/ws?channel=foo");
    let ((), watched) = watching(&nginx, || {
        for number in 0..4 {
            redis.publish("foo", large(number));
            assert!(reader.text().as_bytes() == large(number), "{number}");
        }
    });
    watched.is_within(32 * MIB);
    let kernel = kernel_bytes(&nginx);
    println!("kernel: {kernel}");
    assert!(kernel < 64 * MIB, "{kernel} bytes in the kernel");
    (nginx, thousand, ten)
}

/// The rest of a partly sent frame is held once for all readers that are inside it.
#[test]
fn a_thousand_that_stop_in_a_large_message_and_are_closed_hold_it_once() {
    let (nginx, thousand, ten) = thousand_that_stop("close");
    let status = || nginx.get("/status").json();
    let stopped = thousand.members().len() + ten.members().len();
    assert_eq!(status()["counters"]["slow_closed"], stopped);
    until("nothing is held", || {
        let status = status();
        status["memory"]["logs"] == 0 && status["connections"] == 0
    });
}

#[test]
fn a_thousand_that_stop_in_a_large_message_and_lose_the_oldest_hold_it_once() {
    let (_nginx, _thousand, mut ten) = thousand_that_stop("drop_oldest");
    let number = |message: &Vec<u8>| -> usize {
        let digits = message.split(|byte| *byte == b'.').next();
        let digits = String::from_utf8_lossy(digits.unwrap_or_default()).into_owned();
        let number = digits.parse().expect("a number");
        assert!(*message == large(number), "a whole message");
        number
    };
    ten.until("they have caught up", |all| {
        all.iter().all(|it| it.messages.last() == Some(&large(3)))
    });
    for member in ten.members() {
        // The frame it was in is completed, and the newest message is within the limit.
        let heard: Vec<usize> = member.messages.iter().map(number).collect();
        assert!(
            member.is_open() && heard.is_sorted_by(|a, b| a < b),
            "{heard:?}"
        );
        assert!(heard[0] == 0 && heard.len() < 4, "{heard:?}");
    }
}

/// A partly sent frame does not count as lag. If such frames fill the memory, their readers are cut
/// off.
fn each_stops_in_a_frame_of_its_own(policy: &str) {
    let redis = Redis::start();
    let limits = format!("websocket_memory 8m; websocket_slow {policy};");
    let nginx = nginx(&redis, &limits);
    let channel = |n: usize| format!("/ws?channel=foo-{n}");
    let stopped: Vec<Raw> = (0..40)
        .map(|n| Raw::accepted_narrow(&nginx, Transport::BOTH[n % 2], &channel(n)))
        .collect();
    let mut reader = Client::connect(&nginx, "/ws?channel=bar");
    let ((), watched) = watching(&nginx, || {
        for number in 0..stopped.len() {
            redis.publish(format!("foo-{number}"), large(number));
            redis.publish("bar", large(number));
            assert!(reader.text().as_bytes() == large(number), "{number}");
        }
    });
    watched.is_within(8 * MIB);
    let closed = nginx.get("/status").json()["counters"]["slow_closed"].clone();
    let closed = closed.as_u64().expect("a number");
    assert!((30..40).contains(&closed), "{closed} closed");
}

#[test]
fn memory_is_kept_within_its_limit_where_each_has_begun_a_frame_of_its_own() {
    each_stops_in_a_frame_of_its_own("close");
    each_stops_in_a_frame_of_its_own("latest");
}
