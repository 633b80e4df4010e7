//! All that is held for clients is in `websocket_memory`'s account, and more than that is not held,
//! however an input is multiplied: what a message costs is paid once, not once per list or client.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use t::settings::{Flavor, flavor};
use t::{Client, Conf, Crowd, Nginx, Raw, Redis, Transport, process};

const MIB: u64 = 1024 * 1024;

/// AddressSanitizer keeps freed memory and pads the rest, and all is slower.
fn is_asan() -> bool {
    flavor() == Flavor::Asan
}

/// What is held, how it grows, and how long HTTP is kept waiting, while something is done.
struct Watched {
    /// By how much the worker's own memory has grown at most.
    grown: u64,
    /// The most that the account said of logs.
    logs: u64,
    /// The longest wait for an answer to a GET.
    longest: Duration,
}

impl Watched {
    #[track_caller]
    fn is_within(&self, cap: u64) {
        let Self {
            grown,
            logs,
            longest,
        } = self;
        println!("grown by {grown}, logs {logs}, longest GET {longest:?}");
        assert!(*logs < cap + cap / 2, "{logs} bytes of logs");
        assert!(is_asan() || *grown < 2 * cap, "grown by {grown} bytes");
        // A worker that does all at once needs seconds; a busy machine some hundred milliseconds.
        assert!(
            is_asan() || *longest < Duration::from_secs(1),
            "{longest:?}"
        );
    }
}

/// Looks at the worker all the time that `deed` takes.
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
                longest: Duration::ZERO,
            };
            while !is_over.load(SeqCst) {
                let asked = Instant::now();
                let status = nginx.get("/status").json();
                watched.longest = watched.longest.max(asked.elapsed());
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
        .location("/status", "websocket_status;");
    Nginx::start(conf)
}

/// Sixty thousand bytes that begin with a number.
fn numbered(number: usize) -> Vec<u8> {
    format!("{number:.<60000}").into_bytes()
}

/// Readers of one channel share what is held for it: it is free when the last of them is gone.
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
        for at in 0..500 {
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

/// Redis is read no further than clients have been offered what it has brought: what waits for a
/// first offer is nobody's lag, and no policy could take it.
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
