//! Promise: a client that sends without pause does not keep others from being heard, even if Redis
//! takes less than is sent.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use t::{Conf, Nginx, Proxy, Raw, Redis, Transport, frames, until};

/// A turn ends with the read that exceeds it: 64 KB of messages of seven bytes.
const A_TURN: usize = 2 * (64 << 10) / 7;

/// This many publishes may be unanswered before clients are paused.
const ROOM: u64 = 10_000;

/// Ends a client even if the test fails.
struct Hangup(TcpStream);

impl Drop for Hangup {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Redis answers a few messages at a time, which makes room for as many more. The client that has
/// waited longest gets it.
#[test]
fn who_waits_for_redis_comes_to_its_turn_though_another_floods() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::with_url(&proxy.url())
        .location("/say", "websocket_publish said;")
        .location("/status", "websocket_status;");
    let nginx = Nginx::start(conf.http("websocket_ping_interval 0;"));
    let mut listener = redis.session();
    listener.subscribe("said");
    let flooder = Raw::accepted(&nginx, Transport::Ws, "/say");
    let mut modest: Vec<Raw> = [Transport::BOTH; 3]
        .concat()
        .into_iter()
        .map(|over| Raw::accepted(&nginx, over, "/say"))
        .collect();
    nginx.until_log("publisher link is up");
    proxy.hold_replies(true);
    let flood = frames::text("x").wire().repeat(4_096);
    std::thread::scope(|scope| {
        let socket = || flooder.stream().socket().try_clone().expect("a handle");
        let (mut socket, _hangup) = (socket(), Hangup(socket()));
        scope.spawn(move || while socket.write_all(&flood).is_ok() {});
        let status = || nginx.get("/status").json();
        until("the flood is paused", || {
            status()["redis"][0]["unanswered"].as_u64() > Some(ROOM)
        });
        let unanswered = status()["redis"][0]["unanswered"].as_u64();
        let before = usize::try_from(unanswered.expect("a number")).expect("a count");
        (0..before).for_each(|_| assert_eq!(listener.push().1, "x"));
        for (number, raw) in modest.iter_mut().enumerate() {
            raw.send_frame(&frames::text(number.to_string()));
        }
        // When this is answered, the worker has seen everything that came before it.
        status();
        proxy.slow_replies(Duration::from_millis(1), 64);
        proxy.hold_replies(false);
        let (mut heard, mut flooded) = (Vec::new(), 0);
        while heard.len() < modest.len() {
            match listener.push().1 {
                text if text == "x" => flooded += 1,
                text => heard.push(text),
            }
            assert!(flooded < A_TURN, "{flooded} of the flood, and {heard:?}");
        }
        println!("{flooded} of the flood came before all were heard");
    });
    assert_eq!(nginx.count_log("websocket closed with"), 0);
}
