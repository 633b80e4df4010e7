//! The answer to a refused request tells its sender what to fix, and the log tells the operator
//! that there are such requests.

use std::fs;
use t::http::KEY;
use t::{Client, Conf, Nginx, Raw, Redis, Request, Transport, http2, stage, until};

const HTML: Option<&str> = Some("text/html");
const TEXT: Option<&str> = Some("text/plain");

fn conf(redis: &Redis) -> Conf {
    Conf::push(redis)
        .location("/echo", "websocket_echo;")
        .location("/socket.io/", "websocket_subscribe news;")
        .location("/status", "websocket_status;")
}

/// A refused request.
struct Case {
    request: Request,
    status: u16,
    /// What the body must say.
    says: &'static str,
}

fn case(request: Request, status: u16, says: &'static str) -> Case {
    Case {
        request,
        status,
        says,
    }
}

fn cases() -> Vec<Case> {
    let right = || Request::upgrade("/echo");
    let null_twice = right().header("Origin", "null").header("Origin", "null");
    let put = right().line("PUT /echo HTTP/1.1");
    vec![
        case(Request::new("GET", "/echo"), 426, "\"Upgrade: websocket\""),
        case(
            right().with("Connection", "keep-alive"),
            426,
            "A proxy on the way",
        ),
        case(
            right().with("Sec-WebSocket-Version", "8"),
            426,
            "must be 13",
        ),
        case(
            right().without("Sec-WebSocket-Key"),
            400,
            "Sec-WebSocket-Key",
        ),
        case(right().header("Sec-WebSocket-Key", KEY), 400, "there once"),
        case(right().line("GET /echo HTTP/1.0"), 400, "over HTTP/1.1"),
        case(right().header("Content-Length", "5"), 400, "no body"),
        case(null_twice, 400, "\"Origin\" must not be there twice"),
        case(
            right().header("Sec-WebSocket-Protocol", "(a)"),
            400,
            "list of tokens",
        ),
        case(
            right().header("Sec-WebSocket-Extensions", "=,"),
            400,
            "malformed",
        ),
        case(put.header("Content-Length", "0"), 405, "begins with GET"),
        case(Request::upgrade("/ws"), 400, "name is empty"),
        case(
            Request::upgrade("/ws?channel=%0a"),
            400,
            "control character",
        ),
    ]
}

#[test]
fn a_line_of_text_tells_what_is_wrong() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    for case in cases() {
        let answer = nginx.send(&case.request);
        assert_eq!(answer.status, case.status, "{answer:?}");
        assert_eq!(answer.header("Content-Type"), TEXT, "{answer:?}");
        let text = answer.text();
        assert!(text.contains(case.says), "{}: {text}", case.says);
        assert!(text.ends_with(".\n") && text.lines().count() == 1, "{text}");
        assert_eq!(
            answer.header("Content-Length"),
            Some(&*text.len().to_string())
        );
    }
    let head = Request::new("HEAD", "/echo").header("Connection", "close");
    let head = nginx.send(&head);
    assert_eq!((head.status, head.header("Content-Type")), (405, TEXT));
    // Other refusals use nginx's own pages.
    let foreign = Request::upgrade("/echo").header("Origin", "http://evil.example");
    let answer = nginx.send(&foreign.header("Connection", "close"));
    assert_eq!((answer.status, answer.header("Content-Type")), (403, HTML));
}

#[test]
fn a_connection_goes_on_after_a_426() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    for transport in Transport::BOTH {
        let mut raw = Raw::open(&nginx, transport);
        for _ in 0..3 {
            raw.send(Request::new("GET", "/echo").wire());
            assert_eq!(raw.response().status, 426);
        }
        raw.upgrade("/echo");
    }
}

#[test]
fn over_http2_the_text_is_whole() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis).http2());
    let (status, body) = http2::get_body(nginx.http2(), "/echo", &[]);
    assert_eq!(status, 400);
    assert!(body.ends_with("not over HTTP/2 or HTTP/3.\n"), "{body}");
}

#[test]
fn socket_io_is_told_that_this_is_another_thing() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    let answer = nginx.get("/socket.io/?EIO=4&transport=polling&t=abc");
    assert_eq!(answer.status, 426);
    assert!(answer.text().contains("no Socket.IO server"), "{answer:?}");
    assert!(!nginx.get("/echo").text().contains("Socket.IO"));
    // Without its polling it is a WebSocket like any other, as docs/answers.md says.
    let mut client = Client::connect(&nginx, "/socket.io/?EIO=4&transport=websocket");
    redis.publish("news", "hello");
    client.expect(["hello"]);
}

#[test]
fn error_page_replaces_the_text_where_it_names_the_status() {
    let redis = Redis::start();
    let conf = conf(&redis)
        .server("error_page 400 404 /sorry;")
        .location("= /sorry", "return 200 sorry;")
        .location("/kept", "websocket_echo; error_page 404 /sorry;");
    let nginx = Nginx::start(conf);
    let no_key = |target| Request::upgrade(target).without("Sec-WebSocket-Key");
    let answer = nginx.send(&no_key("/echo"));
    assert_eq!((answer.status, &*answer.text()), (400, "sorry"));
    assert!(
        nginx.get("/echo").text().contains("WebSocket"),
        "426 is not named"
    );
    let answer = nginx.send(&no_key("/kept"));
    assert!(answer.text().contains("Sec-WebSocket-Key"), "{answer:?}");
}

/// Sends each of these requests this many times. All are refused.
fn refuse(nginx: &Nginx, times: usize) {
    for _ in 0..times {
        let foreign = Request::upgrade("/echo").header("Origin", "http://evil.example");
        for (request, status) in [
            (foreign, 403),
            (Request::get("/echo"), 426),
            (Request::upgrade("/ws"), 400),
        ] {
            let answer = nginx.send(&request.with("Connection", "Upgrade, close"));
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }
}

const TOLD: [&str; 3] = [
    "websocket handshakes are refused: origin is not allowed by \"websocket_origin\" (refused.origin: 1 so far), client: 127.0.0.1",
    "websocket handshakes are refused: client sent request without upgrade to WebSocket (refused.handshake: 1 so far), client: 127.0.0.1",
    "websocket handshakes are refused: channel is empty (refused.channel: 1 so far), client: 127.0.0.1",
];

#[test]
fn each_reason_is_told_by_a_warning_once_a_second_with_its_counter() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis));
    refuse(&nginx, 50);
    let warnings = nginx.count_log("[warn]");
    assert!(warnings < 50, "{warnings} warnings");
    for told in TOLD {
        let lines = nginx.log();
        let mut lines = lines.lines().filter(|line| line.contains(told));
        assert!(lines.all(|line| line.contains("[warn]")), "{told}");
        assert_eq!(nginx.count_log(told), 1, "{told}");
    }
    // Each has a line of its own at info.
    assert_eq!(
        nginx.count_log("[info]"),
        150 + nginx.count_log("link is up")
    );
    until("the next second is told of, too", || {
        refuse(&nginx, 1);
        nginx.count_log("(refused.origin: ") > 1
    });
    stage::refusals_are_told_once_a_second(&nginx.log());
}

/// Debian's nginx.conf names no level, so it is `error`.
#[test]
fn refusals_are_told_at_the_default_log_level() {
    let redis = Redis::start();
    let nginx = Nginx::start(conf(&redis).server("error_log default.log;"));
    refuse(&nginx, 20);
    let log = fs::read_to_string(nginx.dir().join("default.log")).expect("a log");
    for told in TOLD {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(told)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("[error]"), "{lines:?}");
    }
    assert!(log.lines().count() < 20, "{log}");
}

#[test]
fn refusals_by_redis_and_by_limits_are_told() {
    let mut redis = Redis::start();
    let full = conf(&redis).http("websocket_reserve 9999/10000;");
    let nginx = Nginx::start(full);
    assert_eq!(nginx.handshake("/ws?channel=foo"), 503);
    nginx.until_log(
        "of 4096 worker_connections are free, see \"websocket_reserve\" (refused.reserve: 1",
    );
    let nginx = Nginx::start(conf(&redis));
    assert_eq!(nginx.handshake("/ws?channel=foo"), 101);
    redis.kill();
    until("the loss is noticed", || {
        nginx.handshake("/ws?channel=foo") == 503
    });
    nginx.until_log(
        "websocket handshakes are refused: redis is away (refused.redis_away: 1 so far)",
    );
    nginx.until_log("websocket handshake refused: redis is away");
}

#[test]
fn refused_posts_are_told_and_counted() {
    let redis = Redis::start();
    let posts = "websocket_publisher $websocket_arg_channel;";
    let nginx = Nginx::start(conf(&redis).location("/pub", posts));
    let post = |target: &str| nginx.send(&Request::post(target, "x"));
    for _ in 0..10 {
        assert_eq!(nginx.get("/pub?channel=a").status, 405);
        let answer = post("/pub");
        assert_eq!(
            (answer.status, &*answer.text()),
            (400, "The channel's name is empty.\n")
        );
    }
    assert_eq!(post("/pub?channel=a").status, 200);
    assert_eq!(nginx.get("/status").json()["refused"]["publish"], 20);
    assert_eq!(nginx.count_log("status 405 (refused.publish: 1 so far)"), 1);
    assert!(nginx.count_log("[warn]") < 10);
    assert_eq!(
        nginx.count_log("[info]") - nginx.count_log("link is up"),
        10
    );
    assert_eq!(
        nginx.count_log("publish refused: channel \"\" is empty"),
        10
    );
}
