//! The setting for attacks: an nginx with bystanders that must not notice them, and the checks
//! afterwards.

use super::client::Client;
use super::nginx::{Conf, Nginx};
use super::process;
use super::raw::Raw;
use super::redis::Redis;
use super::settings::{Flavor, flavor};
use super::stream::Transport;
use super::wait::until;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// nginx, which is attacked, and the bystanders' Redis.
pub struct Stage {
    /// The bystanders' Redis.
    pub redis: Redis,
    /// The nginx that is attacked.
    pub nginx: Nginx,
    attackers: AtomicUsize,
}

impl Stage {
    /// Starts one worker with these directives in the http context.
    pub fn new(directives: &str) -> Self {
        let redis = Redis::start();
        let conf = Self::conf(&redis).http(directives);
        Self::with(redis, conf)
    }

    /// Starts with a configuration that was derived from [`Stage::conf`].
    pub fn with(redis: Redis, conf: Conf) -> Self {
        let (nginx, attackers) = (Nginx::start(conf), AtomicUsize::new(0));
        Self {
            redis,
            nginx,
            attackers,
        }
    }

    /// The locations for attacks (`/ws?channel=`, `/echo`, `/say`), for bystanders (`/calm`), and
    /// `/status`.
    pub fn conf(redis: &Redis) -> Conf {
        Conf::push(redis)
            .location("/echo", "websocket_echo;")
            .location("/say", "websocket_publish said;")
            .location("/calm", "websocket_subscribe calm;")
            .location("/status", "websocket_status;")
    }

    /// A connection that has not sent anything yet.
    pub fn attacker(&self, transport: Transport) -> Raw {
        self.attackers.fetch_add(1, SeqCst);
        Raw::open(&self.nginx, transport)
    }

    /// An attacker that has received its 101.
    pub fn accepted(&self, transport: Transport, target: &str) -> Raw {
        let mut raw = self.attacker(transport);
        raw.upgrade(target);
        raw
    }

    /// An accepted attacker with small buffers, so that nginx soon notices when it does not read.
    pub fn narrow(&self, transport: Transport, target: &str) -> Raw {
        self.attackers.fetch_add(1, SeqCst);
        Raw::accepted_narrow(&self.nginx, transport, target)
    }

    /// Waits until the worker has only this many clients and nothing pending.
    #[track_caller]
    pub fn until_only(&self, clients: usize) {
        until("the attackers are gone", || {
            let status = self.nginx.get("/status").json();
            status["connections"] == clients
                && status["pending"] == 0
                && status["lagging"] == 0
                && status["memory"]["logs"] == 0
                && status["memory"]["partial_messages"] == 0
        });
    }

    /// The log must have nothing above `info`, except nginx's notices and, per second, one line for
    /// each reason of refusals.
    #[track_caller]
    pub fn log_is_calm(&self) {
        let log = self.nginx.log();
        refusals_are_told_once_a_second(&log);
        let is_loud = |line: &&str| {
            !line.contains("[info]") && !line.contains("[notice]") && !is_of_refusals(line)
        };
        let loud: Vec<&str> = log.lines().filter(is_loud).collect();
        assert!(loud.is_empty(), "the error log has:\n{}", loud.join("\n"));
    }

    /// The log must not have more lines about clients than there are attackers.
    #[track_caller]
    fn log_has_a_line_each(&self) {
        let log = self.nginx.log();
        let is_about_client = |line: &&str| line.contains("client: ") && !is_of_refusals(line);
        let about_clients: Vec<&str> = log.lines().filter(is_about_client).collect();
        let (lines, attackers) = (about_clients.len(), self.attackers.load(SeqCst));
        assert!(
            lines <= attackers,
            "{lines} lines about {attackers} attackers, the last: {:#?}",
            about_clients.last()
        );
    }
}

/// Whether the line is a `warn` with the number of handshakes refused for one reason.
fn is_of_refusals(line: &str) -> bool {
    line.contains("[warn]") && line.contains(" websocket handshakes are refused: ")
}

/// No two of these lines may have the same second, worker and counter.
#[track_caller]
pub fn refusals_are_told_once_a_second(log: &str) {
    let mut told = HashSet::new();
    for line in log.lines().filter(|line| is_of_refusals(line)) {
        // The time, the level and the worker's number.
        let (second, _) = line.split_once('#').expect("a line of nginx's");
        let (_, counter) = line.split_once("(refused.").expect("a counter's name");
        let (counter, _) = counter.split_once(": ").expect("how many so far");
        assert!(told.insert((second, counter)), "told twice: {line}");
    }
}

/// First over ws, then over wss.
pub const IN_TURN: &[&[Transport]] = &[&[Transport::Ws], &[Transport::Wss]];
/// Over both at once, for attacks that mostly wait.
pub const AT_ONCE: &[&[Transport]] = &[&Transport::BOTH];

/// Runs an attack over each transport, once to warm up and ten more times, next to two bystanders.
#[track_caller]
pub fn withstand(
    directives: &str,
    turns: &[&[Transport]],
    attack: impl Fn(&Stage, Transport) + Sync,
) {
    withstand_within(SLACK, directives, turns, attack);
}

/// The same if the worker may keep more than [`SLACK`] bytes.
#[track_caller]
pub fn withstand_within(
    slack: u64,
    directives: &str,
    turns: &[&[Transport]],
    attack: impl Fn(&Stage, Transport) + Sync,
) {
    let stage = Stage::new(directives);
    beside_bystanders(&stage, |clients| {
        for transports in turns {
            let sizes = (0..=rounds()).map(|_| {
                std::thread::scope(|scope| {
                    for &transport in *transports {
                        let (stage, attack) = (&stage, &attack);
                        scope.spawn(move || attack(stage, transport));
                    }
                });
                stage.until_only(clients);
                process::anonymous_bytes(stage.nginx.worker())
            });
            let sizes: Vec<u64> = sizes.collect();
            println!("over {transports:?}: {sizes:?}");
            adds_nothing(&sizes[1..], slack);
        }
    });
    let counters = &stage.nginx.get("/status").json()["counters"];
    assert_eq!(counters["panics"], 0, "a bug of the module showed");
    stage.log_is_calm();
    stage.log_has_a_line_each();
}

/// How much more memory may be in use after the tenth attack than after the first. glibc returns
/// memory by pages and only from the top of its heap, so some pages stay where the bystanders'
/// messages lie between an attacker's blocks. One buffer or message kept for each attack would
/// exceed this.
pub const SLACK: u64 = 64 * 1024;

/// A size depends on what the bystanders were sent at that time, so the maxima are compared.
#[track_caller]
pub fn adds_nothing(sizes: &[u64], slack: u64) {
    let (first, last) = sizes.split_at(sizes.len() / 2);
    let highest = |sizes: &[u64]| sizes.iter().copied().max();
    // AddressSanitizer keeps freed memory.
    assert!(
        flavor() == Flavor::Asan || highest(last) <= highest(first).map(|size| size + slack),
        "after each attack: {sizes:?}"
    );
}

/// Ten. Fewer under AddressSanitizer, which is slower, and where memory is not compared.
pub fn rounds() -> usize {
    match flavor() {
        Flavor::Debian | Flavor::Newer => 10,
        Flavor::Asan => 2,
    }
}

/// A number of frames; fewer under AddressSanitizer.
pub fn many(frames: usize) -> usize {
    match flavor() {
        Flavor::Debian | Flavor::Newer => frames,
        Flavor::Asan => frames / 10,
    }
}

/// Clients that must not notice anything: over ws and wss, on each worker.
fn bystanders(stage: &Stage) -> Vec<Client> {
    let mut bystanders = Vec::new();
    let links = stage.nginx.workers().len() as i64;
    while bystanders.is_empty() || stage.redis.subscribers("calm") < links {
        let both = Transport::BOTH.map(|over| Client::connect_over(&stage.nginx, over, "/calm"));
        bystanders.extend(both);
    }
    stage.attackers.fetch_add(bystanders.len(), SeqCst);
    bystanders
}

/// While `deed` runs, the bystanders must receive all published messages in order. `deed` is passed
/// the number of bystanders.
#[track_caller]
pub fn beside_bystanders(stage: &Stage, deed: impl FnOnce(usize)) {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let is_over = AtomicBool::new(false);
    let mut bystanders = bystanders(stage);
    let clients = bystanders.len();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = stage.redis.session();
            let mut number = 0;
            loop {
                let messages: Vec<_> = (number..number + 10).map(|n| n.to_string()).collect();
                messages.iter().for_each(|message| {
                    publisher.publish("calm", message);
                });
                for bystander in &mut bystanders {
                    bystander.expect(messages.iter().map(String::as_str));
                }
                if is_over.load(SeqCst) {
                    break;
                }
                number += 10;
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        // This must also happen when the deed panics, because the scope waits for its thread.
        let _over = Over(&is_over);
        deed(clients);
    });
}
