//! Half-open handshakes, thousands of every kind. New clients are served or refused as documented,
//! other clients notice nothing, and nothing is left afterwards.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use t::frames::hex;
use t::stage::{SLACK, Stage, adds_nothing, beside_bystanders, many, rounds};
use t::{Client, Conf, Proxy, Redis, Request, Transport, process, until};

/// A process that holds half-open handshakes.
struct HalfOpen {
    holder: Child,
}

impl HalfOpen {
    /// Opens this many connections and sends the same over each.
    fn start(address: SocketAddr, connections: usize, said: Option<&PathBuf>) -> Self {
        let holder = Command::new(env!("CARGO_BIN_EXE_half_open_holder"))
            .args([address.to_string(), connections.to_string()])
            .args(said)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self {
            holder: holder.expect("the program half_open_holder"),
        }
    }

    /// Waits until all connections are open.
    #[track_caller]
    fn until_open(&mut self) {
        let mut said = String::new();
        let output = self.holder.stdout.as_mut().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("a line");
        assert_eq!(said, "open\n", "all connections were accepted");
    }
}

impl Drop for HalfOpen {
    /// The process exits when its input ends, and resets all connections.
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// What half-open handshakes send.
struct Halves {
    request: PathBuf,
    waiting: PathBuf,
    hello: PathBuf,
}

impl Halves {
    /// Those that wait do so for a channel of this number, as a handshake for a known channel does
    /// not wait.
    fn write(stage: &Stage, number: usize) -> Self {
        let file = |name: &str, said: &[u8]| {
            let path = stage.nginx.dir().join(name);
            std::fs::write(&path, said).expect("a file");
            path
        };
        let whole = Request::upgrade(&format!("/waits?channel=new-{number}")).wire();
        // The beginning of a ClientHello, in a TLS record that announces 512 bytes.
        let hello = [hex("16 0301 0200 01 0001fc 0303"), vec![0x5a; 100]].concat();
        Self {
            request: file("request", &whole[..whole.len() / 2]),
            waiting: file("waiting", &whole),
            hello: file("hello", &hello),
        }
    }
}

/// An nginx, bystanders that must notice nothing, and a second Redis behind a proxy, for handshakes
/// that wait.
fn stage(change: impl FnOnce(Conf) -> Conf) -> (Stage, Redis, Proxy) {
    let (redis, silent) = (Redis::start(), Redis::start());
    let proxy = Proxy::start(silent.port());
    let waits = "websocket_subscribe $websocket_arg_channel;";
    let waits = format!("websocket_redis {}; {waits}", proxy.url());
    let conf = Stage::conf(&redis)
        .location("/waits", &waits)
        .http("websocket_max_pending 100;");
    let stage = Stage::with(redis, change(conf));
    until("the second Redis is there", || {
        stage.nginx.handshake("/waits?channel=known") == 101
    });
    (stage, silent, proxy)
}

/// Number of descriptors of all workers.
fn held(stage: &Stage) -> usize {
    let workers = stage.nginx.workers();
    workers.into_iter().map(process::descriptors).sum()
}

/// A quarter of the connections send nothing, a quarter half a request, and a quarter half of the
/// first TLS record. A quarter wait for a silent Redis, as many as `websocket_max_pending` allows.
/// Returns once nginx has descriptors for all of them.
#[track_caller]
fn all_kinds(stage: &Stage, halves: &Halves, count: usize) -> [HalfOpen; 4] {
    let (http, https) = (stage.nginx.http(), stage.nginx.https());
    let mut holders = [
        HalfOpen::start(http, count / 4, None),
        HalfOpen::start(http, count / 4, Some(&halves.request)),
        HalfOpen::start(http, count / 4, Some(&halves.waiting)),
        HalfOpen::start(https, count / 4, Some(&halves.hello)),
    ];
    holders.iter_mut().for_each(HalfOpen::until_open);
    until("nginx holds them all", || held(stage) >= count);
    holders
}

/// Connects new clients while the half-open ones are there.
#[track_caller]
fn newcomers_are_served(stage: &Stage) {
    for transport in Transport::BOTH {
        let mut newcomer = Client::connect_over(&stage.nginx, transport, "/calm");
        newcomer.text();
        newcomer.text();
    }
    assert_eq!(stage.nginx.get("/plain").text(), "plain");
}

/// One process may not have enough descriptors for so many, so two workers share them.
#[test]
fn twenty_thousand_at_once() {
    let two_workers = |conf: Conf| conf.workers(2).worker_connections(16_384).reuseport();
    let (stage, _silent, proxy) = stage(two_workers);
    let halves = Halves::write(&stage, 0);
    beside_bystanders(&stage, |_| {
        let before = held(&stage);
        proxy.hold_replies(true);
        let attackers = all_kinds(&stage, &halves, many(20_000));
        newcomers_are_served(&stage);
        drop(attackers);
        proxy.hold_replies(false);
        until("they are gone", || held(&stage) <= before);
    });
    stage.log_is_calm();
}

#[test]
fn the_tenth_thousand_adds_nothing_over_the_first() {
    let (stage, _silent, proxy) = stage(|conf| conf);
    let mut sizes = Vec::new();
    beside_bystanders(&stage, |_| {
        let before = held(&stage);
        // A heap that held so many at once takes some rounds to settle.
        for round in 0..2 * rounds() {
            let halves = Halves::write(&stage, round);
            proxy.hold_replies(true);
            let attackers = all_kinds(&stage, &halves, 1_000);
            until("as many wait as may", || {
                stage.nginx.get("/status").json()["pending"] == 100
            });
            newcomers_are_served(&stage);
            assert_eq!(stage.nginx.handshake("/waits?channel=one-more"), 503);
            drop(attackers);
            proxy.hold_replies(false);
            until("they are gone", || held(&stage) <= before);
            sizes.push(process::anonymous_bytes(stage.nginx.worker()));
        }
    });
    stage.log_is_calm();
    println!("{sizes:?}");
    adds_nothing(&sizes[rounds()..], SLACK);
}

/// When they use up what `websocket_reserve` keeps, WebSocket clients are refused and requests are
/// not.
#[test]
fn the_reserve_is_kept() {
    let redis = Redis::start();
    let conf = Stage::conf(&redis)
        .http("websocket_reserve 1/4;")
        .worker_connections(512);
    let stage = Stage::with(redis, conf);
    let halves = Halves::write(&stage, 0);
    let (http, https) = (stage.nginx.http(), stage.nginx.https());
    beside_bystanders(&stage, |_| {
        for (address, said) in [(http, &halves.request), (https, &halves.hello)] {
            let mut attackers = HalfOpen::start(address, 400, Some(said));
            attackers.until_open();
            until("newcomers are refused", || {
                stage.nginx.handshake("/calm") == 503
            });
            assert_eq!(stage.nginx.get("/plain").text(), "plain");
            drop(attackers);
            until("there is room again", || {
                stage.nginx.handshake("/calm") == 101
            });
        }
    });
}
