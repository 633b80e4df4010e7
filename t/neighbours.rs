//! nginx's other modules do their work before and around a WebSocket, whether it is attached or
//! detached.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use t::process::{self, Signal};
use t::{Client, Conf, Nginx, Proxy, Raw, Redis, Request, Transport, settings, until};

const DETACH: [&str; 3] = ["auto", "on", "off"];

/// Bytes of cookies: almost none, and more than nginx reads without another buffer.
const COOKIES: [usize; 2] = [1, 4_000];

fn nginx_with(redis: &Redis, detach: &str, http: &str, location: &str) -> Nginx {
    let location = format!("websocket_subscribe $websocket_arg_channel; {location}");
    let conf = Conf::with(redis)
        .http(http)
        .http(&format!("websocket_detach {detach};"));
    Nginx::start(
        conf.location("/ws", &location)
            .location("= /yes", "return 204;"),
    )
}

/// Connects, hears a message and closes: a client's whole life next to that module.
fn lives(redis: &Redis, nginx: &Nginx, headers: &[(&str, &str)]) {
    for transport in Transport::BOTH {
        let mut client = Client::try_connect(nginx, transport, "/ws?channel=foo", headers)
            .unwrap_or_else(|status| panic!("refused with {status}"));
        redis.publish("foo", "hello");
        client.expect(["hello"]);
        client.close();
    }
}

#[test]
fn allow_and_deny() {
    let redis = Redis::start();
    let nginx = nginx_with(&redis, "auto", "", "deny 127.0.0.1; allow all;");
    assert_eq!(nginx.handshake("/ws?channel=foo"), 403);
    let nginx = nginx_with(&redis, "auto", "", "allow 127.0.0.1; deny all;");
    lives(&redis, &nginx, &[]);
}

#[test]
fn auth_basic() {
    let redis = Redis::start();
    let users = redis.dir().join("users");
    std::fs::write(&users, "ada:{PLAIN}secret\n").unwrap();
    let location = format!("auth_basic zone; auth_basic_user_file {};", users.display());
    for detach in DETACH {
        let nginx = nginx_with(&redis, detach, "", &location);
        assert_eq!(nginx.handshake("/ws?channel=foo"), 401);
        lives(
            &redis,
            &nginx,
            &[("Authorization", "Basic YWRhOnNlY3JldA==")],
        );
    }
}

#[test]
fn auth_request() {
    let redis = Redis::start();
    for detach in DETACH {
        let nginx = nginx_with(&redis, detach, "", "auth_request /yes;");
        lives(&redis, &nginx, &[]);
    }
}

#[test]
fn auth_request_that_says_no() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .location("= /no", "return 401;")
        .location("/ws", "auth_request /no; websocket_subscribe foo;");
    let nginx = Nginx::start(conf);
    assert_eq!(nginx.handshake("/ws"), 401);
}

#[test]
fn realip() {
    let redis = Redis::start();
    let http = "set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;";
    for detach in DETACH {
        let nginx = nginx_with(&redis, detach, http, "allow 192.0.2.7; deny all;");
        assert_eq!(nginx.handshake("/ws?channel=foo"), 403);
        for cookies in COOKIES {
            let cookies = "c".repeat(cookies);
            lives(
                &redis,
                &nginx,
                &[("X-Real-IP", "192.0.2.7"), ("Cookie", &cookies)],
            );
        }
    }
}

#[test]
fn realip_is_in_the_log_of_a_misdeed() {
    let redis = Redis::start();
    let http = "set_real_ip_from 127.0.0.1; real_ip_header X-Real-IP;";
    for detach in DETACH {
        let nginx = nginx_with(&redis, detach, http, "");
        for (cookies, address) in COOKIES.into_iter().zip(["192.0.2.7", "2001:db8::7"]) {
            let mut raw = Raw::open(&nginx, Transport::Ws);
            let request = Request::upgrade("/ws?channel=foo").header("X-Real-IP", address);
            raw.send(request.header("Cookie", &"c".repeat(cookies)).wire());
            raw.expect_101();
            raw.send(t::frames::hex("83 80 00000000"));
            raw.expect_close(1002);
            until("the misdeed is told with the client's address", || {
                let log = nginx.log();
                let client = format!("client: {address},");
                log.lines()
                    .any(|line| line.contains("[info]") && line.contains(&client))
            });
        }
    }
}

#[test]
fn limit_conn_counts_a_websocket_until_it_ends() {
    let redis = Redis::start();
    let http = "limit_conn_zone $websocket_arg_key zone=perkey:1m;";
    for detach in DETACH {
        let nginx = nginx_with(&redis, detach, http, "limit_conn perkey 2;");
        let target = "/ws?channel=foo&key=me";
        let [first, mut second] = COOKIES.map(|cookies| {
            let headers = [("Cookie", &*"c".repeat(cookies))];
            Client::try_connect(&nginx, Transport::Ws, target, &headers).expect("a 101")
        });
        // This leaves time for a detach that comes after the 101.
        redis.publish("foo", "hello");
        second.expect(["hello"]);
        assert_eq!(nginx.handshake(target), 503, "websocket_detach {detach}");
        assert_eq!(nginx.handshake("/ws?channel=foo&key=other"), 101);
        first.close();
        until("its place is free", || nginx.handshake(target) == 101);
        drop(second);
    }
}

#[test]
fn limit_req() {
    let redis = Redis::start();
    let http = "limit_req_zone $websocket_arg_key zone=rate:1m rate=1r/m;";
    let nginx = nginx_with(&redis, "auto", http, "limit_req zone=rate;");
    assert_eq!(nginx.handshake("/ws?channel=foo&key=me"), 101);
    assert_eq!(nginx.handshake("/ws?channel=foo&key=me"), 503);
}

#[test]
fn limit_except_and_if_keep_the_handler() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .location(
            "/except",
            "websocket_subscribe foo; limit_except GET { deny all; }",
        )
        .location(
            "/within",
            "limit_except POST { deny all; } websocket_publisher foo;",
        )
        .location("/if", "websocket_subscribe foo; if ($arg_x) { set $y 1; }");
    let nginx = Nginx::start(conf);
    for target in ["/except", "/if", "/if?x=1"] {
        let mut client = Client::connect(&nginx, target);
        redis.publish("foo", "hello");
        client.expect(["hello"]);
    }
    assert_eq!(nginx.send(&Request::post("/except", "x")).status, 403);
    assert_eq!(nginx.send(&Request::post("/within", "x")).status, 200);
    assert_eq!(nginx.get("/within").status, 403);
}

#[test]
fn mirror_keeps_the_request_busy_for_a_while() {
    let redis = Redis::start();
    for detach in DETACH {
        let location = "mirror /yes;";
        let nginx = nginx_with(&redis, detach, "", location);
        lives(&redis, &nginx, &[]);
    }
}

/// The mirror still holds the client's request when the client is lost: because of what it cannot
/// take in the very wake-up that accepts it, or because it leaves before or after the 101.
#[test]
fn a_mirror_that_hangs_outlives_its_client() {
    let redis = Redis::start();
    let payload = "x".repeat(100_000);
    let messages: Vec<_> = (0..60).map(|_| ("foo", &payload)).collect();
    for detach in DETACH {
        let proxy = Proxy::start(redis.port());
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let hang = format!("proxy_pass http://{};", silent.local_addr().unwrap());
        let conf = Conf::push_url(&proxy.url())
            .http(&format!(
                "websocket_detach {detach}; websocket_send_queue 1k;"
            ))
            .server("mirror /hang;")
            .location("= /hang", &hang);
        let nginx = Nginx::start(conf);
        // This is the worker's very first client, and everything for it comes in one wake-up.
        nginx.until_log("subscriber link is up");
        proxy.hold_replies(true);
        let mut slow = Raw::open_narrow(&nginx, Transport::Ws);
        slow.send(Request::upgrade("/ws?channel=foo").wire());
        redis.until_subscribers("foo", 1);
        redis.session().publish_all(&messages);
        process::signal(nginx.worker(), Signal::STOP);
        proxy.hold_replies(false);
        std::thread::sleep(Duration::from_millis(200));
        process::signal(nginx.worker(), Signal::CONT);
        slow.expect_101();
        redis.until_subscribers("foo", 0);
        slow.reset();
        proxy.hold_replies(true);
        let mut waiting = Raw::open(&nginx, Transport::Ws);
        waiting.send(Request::upgrade("/ws?channel=bar").wire());
        redis.until_subscribers("bar", 1);
        waiting.reset();
        proxy.hold_replies(false);
        Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo").reset();
        lives(&redis, &nginx, &[]);
        // Mirrors that hang would keep nginx from exiting.
        drop(silent);
    }
}

#[test]
fn rewrites_try_files_and_named_locations_lead_to_it() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .location("/old", "rewrite ^ /ws?channel=foo last;")
        .location("/try", "try_files /nothing @ws;")
        .location("@ws", "websocket_subscribe foo;");
    let nginx = Nginx::start(conf);
    for target in ["/old", "/try"] {
        let mut client = Client::connect(&nginx, target);
        redis.publish("foo", "hello");
        client.expect(["hello"]);
    }
}

/// The proxy's location from docs/operation.md, with this backend.
fn documented_proxy(backend: SocketAddr) -> String {
    let document = settings::examples().join("../docs/operation.md");
    let document = std::fs::read_to_string(document).expect("docs/operation.md");
    let begin = "```nginx\nlocation /ws {";
    let after = document.split(begin).nth(1).expect("the example");
    let location = after.split('}').next().expect("its end");
    location.replace("http://backend", &format!("http://{backend}"))
}

#[test]
fn a_proxy_in_front_passes_it_through() {
    let redis = Redis::start();
    let back = Nginx::start(Conf::push(&redis));
    let proxy = documented_proxy(back.http());
    let front = Nginx::start(Conf::without_module().location("/ws", &proxy));
    lives(&redis, &front, &[]);
}

/// `websocket_origin same` compares ports, too, so the proxy must keep the port that the page
/// wrote.
#[test]
fn a_page_at_the_port_of_the_proxy_is_of_the_same_origin() {
    let redis = Redis::start();
    let back = Nginx::start(Conf::push(&redis));
    let proxy = documented_proxy(back.http());
    assert!(proxy.contains("$http_host"), "{proxy}");
    // Its path is passed on as `/ws`.
    let portless = proxy.replace("$http_host", "$host");
    let portless = portless.replace(&back.http().to_string(), &format!("{}/", back.http()));
    let conf = Conf::without_module()
        .location("/ws", &proxy)
        .location("/portless/", &portless);
    let front = Nginx::start(conf);
    let page = format!("http://{}", front.http());
    let handshake = |target: &str, origin: &str| {
        let request = Request::upgrade(target).with("Host", &front.http().to_string());
        front.send(&request.header("Origin", origin)).status
    };
    assert_eq!(handshake("/ws?channel=foo", &page), 101);
    assert_eq!(handshake("/ws?channel=foo", "http://127.0.0.1:1"), 403);
    assert_eq!(handshake("/portless/ws?channel=foo", &page), 403);
}
