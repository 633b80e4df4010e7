//! The opening handshake: the right status for each error, and tolerance where the RFCs ask for it.

use t::http::{ACCEPT, KEY};
use t::{Client, Conf, Nginx, Raw, Redis, Request, Transport, frames, http2};

fn echo(redis: &Redis) -> Conf {
    let conf = Conf::with(redis).location("= /echo", "websocket_echo;");
    conf.location("/ws", "websocket_subscribe $websocket_arg_channel;")
}

/// What is wrong, the request, and the status of the answer.
fn wrong() -> Vec<(&'static str, Request, u16)> {
    let right = || Request::upgrade("/echo");
    let key = "Sec-WebSocket-Key";
    vec![
        ("a plain GET", Request::get("/echo"), 426),
        (
            "Upgrade to something else",
            right().with("Upgrade", "h2c"),
            426,
        ),
        ("no Upgrade", right().without("Upgrade"), 426),
        ("no Connection", right().without("Connection"), 426),
        (
            "Connection without upgrade",
            right().with("Connection", "keep-alive"),
            426,
        ),
        ("no version", right().without("Sec-WebSocket-Version"), 426),
        ("version 8", right().with("Sec-WebSocket-Version", "8"), 426),
        (
            "version 14",
            right().with("Sec-WebSocket-Version", "14"),
            426,
        ),
        ("no key", right().without(key), 400),
        ("an empty key", right().with(key, ""), 400),
        (
            "a short key",
            right().with(key, "dGhlIHNhbXBsZSBub25jZQ="),
            400,
        ),
        (
            "15 bytes of key",
            right().with(key, "dGhlIHNhbXBsZSBub25j"),
            400,
        ),
        (
            "17 bytes of key",
            right().with(key, "dGhlIHNhbXBsZSBub25jZWU="),
            400,
        ),
        (
            "no base64",
            right().with(key, "!!!!IHNhbXBsZSBub25jZQ=="),
            400,
        ),
        ("two keys", right().header(key, KEY), 400),
        (
            "POST",
            right()
                .line("POST /echo HTTP/1.1")
                .header("Content-Length", "0"),
            405,
        ),
        (
            "PUT",
            right()
                .line("PUT /echo HTTP/1.1")
                .header("Content-Length", "0"),
            405,
        ),
        ("HTTP/1.0", right().line("GET /echo HTTP/1.0"), 400),
        ("a body", right().header("Content-Length", "5"), 400),
        (
            "a body that comes along",
            right().header("Content-Length", "5").body("hello"),
            400,
        ),
        (
            "a foreign Origin",
            right().header("Origin", "http://evil.example"),
            403,
        ),
        ("a null Origin", right().header("Origin", "null"), 403),
        ("an empty channel", Request::upgrade("/ws"), 400),
        (
            "an empty channel's value",
            Request::upgrade("/ws?channel="),
            400,
        ),
        ("a control byte", Request::upgrade("/ws?channel=a%0ab"), 400),
        ("a NUL", Request::upgrade("/ws?channel=a%00"), 400),
        ("DEL", Request::upgrade("/ws?channel=a%7f"), 400),
        (
            "Redis' own channels",
            Request::upgrade("/ws?channel=__keyspace@0__:foo"),
            400,
        ),
        (
            "Redis' own, encoded",
            Request::upgrade("/ws?channel=%5f_keyevent@0__:del"),
            400,
        ),
    ]
}

#[test]
fn each_wrong_handshake_gets_its_status() {
    let redis = Redis::start();
    let nginx = Nginx::start(echo(&redis));
    for (what, request, status) in wrong() {
        let answer = nginx.send(&request.header("Connection", "close"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if status == 426 {
            check_426(what, &answer);
        }
    }
    assert_eq!(nginx.handshake("/echo"), 101);
}

/// RFC 9110, 15.5.22: a 426 names the protocol. RFC 6455, 4.4: the answer to a wrong version names
/// the right one.
fn check_426(what: &str, answer: &t::Response) {
    let upgrade = answer.header("Upgrade").map(str::to_ascii_lowercase);
    if what.contains("version") {
        assert_eq!(
            answer.header("Sec-WebSocket-Version"),
            Some("13"),
            "{what}: {answer:?}"
        );
    } else {
        assert_eq!(upgrade.as_deref(), Some("websocket"), "{what}: {answer:?}");
    }
}

#[test]
fn what_the_rfcs_allow_is_accepted() {
    let redis = Redis::start();
    let nginx = Nginx::start(echo(&redis));
    let right = || Request::upgrade("/echo");
    let cases = [
        ("the RFC's own", right()),
        ("Upgrade in any case", right().with("Upgrade", "WebSocket")),
        (
            "several protocols to upgrade to",
            right().with("Upgrade", "h2c, websocket"),
        ),
        (
            "Connection in any case",
            right().with("Connection", "UPGRADE"),
        ),
        (
            "several connection options",
            right().with("Connection", "keep-alive, Upgrade"),
        ),
        (
            "several lines of them",
            right()
                .with("Connection", "keep-alive")
                .header("Connection", "upgrade"),
        ),
        (
            "tabs",
            right()
                .with("Upgrade", "\twebsocket\t")
                .with("Connection", "\tUpgrade\t"),
        ),
        (
            "a tabbed key",
            right().with("Sec-WebSocket-Key", &format!("\t{KEY}\t")),
        ),
        (
            "names in any case",
            right()
                .without("Sec-WebSocket-Key")
                .header("SEC-WEBSOCKET-KEY", KEY),
        ),
        (
            "the absolute form",
            right().line("GET http://localhost/echo HTTP/1.1"),
        ),
        ("an empty body", right().header("Content-Length", "0")),
        ("a query", right().line("GET /echo?x=%zz&=&& HTTP/1.1")),
        (
            "the own Origin",
            right().header("Origin", "http://localhost"),
        ),
        (
            "unknown extensions",
            right().header("Sec-WebSocket-Extensions", "x-nonsense; a=1, foo"),
        ),
        (
            "an offer of deflate",
            right().header("Sec-WebSocket-Extensions", "permessage-deflate"),
        ),
        (
            "an unlisted subprotocol",
            right().header("Sec-WebSocket-Protocol", "chat"),
        ),
        (
            "cookies of 6 KB",
            right().header("Cookie", &"c=".repeat(3000)),
        ),
    ];
    for (what, request) in cases {
        let mut raw = Raw::open(&nginx, Transport::Ws);
        raw.send(request.wire());
        let answer = raw.response();
        assert_eq!(answer.status, 101, "{what}: {answer:?}");
        assert_eq!(
            answer.header("Sec-WebSocket-Accept"),
            Some(ACCEPT),
            "{what}"
        );
        let upgrade = answer.header("Upgrade").map(str::to_ascii_lowercase);
        assert_eq!(upgrade.as_deref(), Some("websocket"), "{what}");
        let connection = answer.header("Connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("upgrade"), "{what}");
        for absent in [
            "Content-Length",
            "Transfer-Encoding",
            "Sec-WebSocket-Protocol",
        ] {
            assert_eq!(answer.header(absent), None, "{what}");
        }
        raw.send_frame(&frames::text(what));
        raw.expect([frames::text(what)]);
    }
}

#[test]
fn a_handshake_split_at_every_byte_is_accepted() {
    let redis = Redis::start();
    let nginx = Nginx::start(echo(&redis));
    let wire = [
        Request::upgrade("/echo").wire(),
        frames::text("hello").wire(),
    ]
    .concat();
    for at in 1..wire.len() {
        let mut raw = Raw::open(&nginx, Transport::Ws);
        raw.send(&wire[..at]);
        // The pieces must not be read at once, so nginx answers another request in between.
        if at % 16 == 0 {
            assert_eq!(nginx.get("/plain").status, 200);
        }
        raw.send(&wire[at..]);
        raw.expect_101();
        raw.expect([frames::text("hello")]);
    }
    let mut raw = Raw::open(&nginx, Transport::Wss);
    wire.iter().for_each(|&byte| raw.send([byte]));
    raw.expect_101();
    raw.expect([frames::text("hello")]);
}

#[test]
fn frames_in_the_packet_of_the_handshake_are_heard() {
    let redis = Redis::start();
    for detach in ["auto", "on", "off"] {
        let conf = echo(&redis).http(&format!("websocket_detach {detach};"));
        let nginx = Nginx::start(conf);
        for transport in Transport::BOTH {
            for size in [1, 100, 5_000, 60_000] {
                let mut raw = Raw::open(&nginx, transport);
                let payload = "x".repeat(size);
                let first = frames::text(&payload).wire();
                let half = frames::text("begun").wire();
                raw.send([Request::upgrade("/echo").wire(), first, half[..6].to_vec()].concat());
                raw.expect_101();
                raw.expect([frames::text(&payload)]);
                raw.send(&half[6..]);
                raw.expect([frames::text("begun")]);
            }
        }
    }
}

#[test]
fn a_handshake_may_follow_other_requests_on_its_connection() {
    let redis = Redis::start();
    let plain = Request::new("GET", "/plain").wire();
    let cookies = Request::upgrade("/echo")
        .header("Cookie", &"c=".repeat(3000))
        .wire();
    for detach in ["auto", "on", "off"] {
        let nginx = Nginx::start(echo(&redis).http(&format!("websocket_detach {detach};")));
        for transport in Transport::BOTH {
            for upgrade in [Request::upgrade("/echo").wire(), cookies.clone()] {
                let frame = frames::text("x".repeat(3000));
                let all = [&plain[..], &plain, &upgrade, &frame.wire()].concat();
                let mut pipelined = Raw::open(&nginx, transport);
                pipelined.send(&all);
                assert_eq!(pipelined.response().status, 200);
                assert_eq!(pipelined.response().status, 200);
                let mut one_by_one = Raw::open(&nginx, transport);
                one_by_one.send(&plain);
                assert_eq!(one_by_one.response().status, 200);
                one_by_one.send([&upgrade[..], &frame.wire()].concat());
                for raw in [&mut pipelined, &mut one_by_one] {
                    raw.expect_101();
                    raw.expect([frame.clone()]);
                    raw.send_frame(&frames::ping("x"));
                    raw.expect([frames::pong("x")]);
                }
            }
        }
    }
}

#[test]
fn frames_sent_while_the_handshake_waits_are_heard_after_it() {
    let redis = Redis::start();
    let proxy = t::Proxy::start(redis.port());
    let both = "websocket_subscribe $websocket_arg_channel; websocket_echo;";
    let nginx = Nginx::start(Conf::with_url(&proxy.url()).location("/both", both));
    Client::connect(&nginx, "/both?channel=first").close();
    for transport in Transport::BOTH {
        proxy.hold_replies(true);
        let mut raw = Raw::open(&nginx, transport);
        let channel = format!("{transport:?}");
        raw.send(Request::upgrade(&format!("/both?channel={channel}")).wire());
        redis.until_subscribers(&channel, 1);
        raw.send_frame(&frames::text("early"));
        raw.send_frame(&frames::binary(vec![1; 50_000]));
        proxy.hold_replies(false);
        raw.expect_101();
        raw.expect([frames::text("early"), frames::binary(vec![1; 50_000])]);
    }
}

/// A request with this many lines of cookies, each with this many bytes.
fn with_cookies(request: Request, lines: usize, bytes: usize) -> Vec<u8> {
    let cookie = "c".repeat(bytes);
    let line = |request: Request, _| request.header("Cookie", &cookie);
    (0..lines).fold(request, line).wire()
}

#[test]
fn clients_are_served_alike_whatever_the_size_of_their_headers() {
    let redis = Redis::start();
    let both = "websocket_subscribe $websocket_arg_channel; websocket_echo; limit_conn zone 1000;";
    for detach in ["auto", "on", "off"] {
        let conf = Conf::with(&redis)
            .http("limit_conn_zone $binary_remote_addr zone=zone:1m;")
            .http(&format!("websocket_detach {detach};"))
            .server("set_real_ip_from 127.0.0.1;");
        let nginx = Nginx::start(conf.location("/both", both));
        let plain = Request::new("GET", "/plain").header("X-Real-IP", "192.0.2.7");
        let mut clients = Vec::new();
        for transport in Transport::BOTH {
            for (lines, bytes) in [(0, 0), (1, 2_000), (2, 4_500), (4, 7_500)] {
                let channel = format!("{transport:?}-{lines}");
                let upgrade = Request::upgrade(&format!("/both?channel={channel}"));
                let proxied = upgrade.clone().header("X-Real-IP", "192.0.2.7");
                // The first waits for Redis, the others do not.
                for (before, upgrade) in [
                    (Vec::new(), upgrade.clone()),
                    (Vec::new(), upgrade.clone()),
                    (with_cookies(plain.clone(), lines, bytes), upgrade),
                    (with_cookies(plain.clone(), lines, bytes), proxied),
                ] {
                    let mut client = Raw::open(&nginx, transport);
                    let early = frames::text("early").wire();
                    let upgrade = with_cookies(upgrade, lines, bytes);
                    if !before.is_empty() {
                        client.send(before);
                        assert_eq!(client.response().status, 200);
                    }
                    client.send([upgrade, early].concat());
                    client.expect_101();
                    client.expect([frames::text("early")]);
                    clients.push((client, channel.clone()));
                }
            }
        }
        for (client, channel) in &mut clients {
            client.send_frame(&frames::binary(vec![1; 50_000]));
            client.expect([frames::binary(vec![1; 50_000])]);
            client.send_frame(&frames::ping(&channel));
            client.expect([frames::pong(&channel)]);
        }
        for (_, channel) in clients.iter().step_by(4) {
            redis.publish(channel, channel);
        }
        for (mut client, channel) in clients {
            client.expect([frames::text(&channel)]);
            client.send_frame(&frames::close(1000, ""));
            client.expect_close(1000);
        }
    }
}

#[test]
fn http2_gets_a_plain_400() {
    let redis = Redis::start();
    let nginx = Nginx::start(echo(&redis).http2());
    assert_eq!(http2::get(nginx.http2(), "/plain", &[]), 200);
    let fields = [("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];
    assert_eq!(http2::get(nginx.http2(), "/echo", &fields), 400);
    assert_eq!(http2::get(nginx.http2(), "/ws?channel=foo", &[]), 400);
}

#[test]
fn a_subrequest_is_refused() {
    let redis = Redis::start();
    let guarded = "auth_request /echo; websocket_echo;";
    let nginx = Nginx::start(echo(&redis).location("/guarded", guarded));
    let answer = nginx.send(&Request::upgrade("/guarded").header("Connection", "close"));
    // nginx's auth_request turns a subrequest's 400 into 500.
    assert_eq!(answer.status, 500, "{answer:?}");
    assert_eq!(nginx.count_log("auth request unexpected status: 400"), 1);
    assert_eq!(nginx.handshake("/echo"), 101);
}

#[test]
fn origins_are_checked() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .location("/same", "websocket_echo;")
        .location("/any", "websocket_echo; websocket_origin any;")
        .location(
            "/list",
            "websocket_echo; websocket_origin https://a.example *.b.example;",
        )
        .location("/app", "websocket_echo; websocket_origin null file://;");
    let nginx = Nginx::start(conf);
    let port = nginx.http().port();
    let host = format!("localhost:{port}");
    let status = |target: &str, origin: &str| {
        let request = Request::upgrade(target)
            .with("Host", &host)
            .header("Origin", origin);
        nginx.send(&request).status
    };
    for (target, origin, expected) in [
        ("/same", format!("http://{host}"), 101),
        ("/same", format!("http://LOCALHOST:{port}"), 101),
        ("/same", "http://localhost".to_owned(), 403),
        (
            "/same",
            format!("http://localhost:{port}.evil.example"),
            403,
        ),
        ("/same", format!("http://evil.example:{port}"), 403),
        ("/same", "null".to_owned(), 403),
        ("/any", "null".to_owned(), 101),
        ("/any", "http://evil.example".to_owned(), 101),
        ("/list", "https://a.example".to_owned(), 101),
        ("/list", "http://a.example".to_owned(), 403),
        ("/list", "https://x.b.example".to_owned(), 101),
        ("/list", "https://b.example.evil.example".to_owned(), 403),
        ("/list", format!("http://{host}"), 403),
        ("/app", "null".to_owned(), 101),
        ("/app", "file://".to_owned(), 101),
        ("/app", "file://evil.example".to_owned(), 403),
        ("/app", format!("http://{host}"), 403),
        ("/same", "file://".to_owned(), 403),
    ] {
        assert_eq!(status(target, &origin), expected, "{target} from {origin}");
    }
    for target in ["/same", "/any", "/list"] {
        assert_eq!(nginx.handshake(target), 101, "{target} without Origin");
    }
}

#[test]
fn an_origin_is_compared_with_the_host_that_the_target_names() {
    let redis = Redis::start();
    let nginx = Nginx::start(echo(&redis));
    for (target, origin, expected) in [
        ("http://a.example/echo", "http://a.example", 101),
        ("http://a.example:80/echo?x", "http://a.example", 101),
        ("http://a.example:8080/echo", "http://a.example:8080", 101),
        ("http://A.example:8080/echo", "http://a.example", 403),
        ("http://a.example/echo", "http://localhost", 403),
        ("http://[::1]:8080/echo", "http://[::1]:8080", 101),
        ("/echo", "http://a.example", 403),
        ("/echo", "http://localhost", 101),
    ] {
        let line = format!("GET {target} HTTP/1.1");
        let mut cases = vec![Request::upgrade("/echo")];
        // nginx moves the target to another buffer as it reads on.
        cases.push(Request::upgrade("/echo").header("Cookie", &"c=".repeat(3000)));
        for request in cases {
            let request = request.line(&line).header("Origin", origin);
            let status = nginx.send(&request).status;
            assert_eq!(status, expected, "{target} from {origin}");
        }
    }
}

#[test]
fn error_page_leads_to_no_websocket_unless_it_leaves_the_status_to_it() {
    let redis = Redis::start();
    let conf = echo(&redis)
        .location("@ws", "websocket_echo;")
        .location("@pub", "websocket_publisher foo;")
        .location("/status", "websocket_status;")
        .location("/denied", "deny all; error_page 403 /echo;")
        .location("/returned", "error_page 404 @ws; return 404;")
        .location("/as-200", "deny all; error_page 403 =200 /echo;")
        .location("/as-503", "deny all; error_page 403 =503 @ws;")
        .location("/own", "deny all; error_page 403 = /echo;")
        .location("/own-named", "error_page 404 = @ws; return 404;")
        .location("/post", "error_page 403 @pub; deny all;")
        .location("/own-post", "error_page 403 = @pub; deny all;");
    let nginx = Nginx::start(conf);
    for (target, status) in [
        ("/denied", 403),
        ("/returned", 404),
        ("/as-200", 500),
        ("/as-503", 503),
    ] {
        let answer = nginx.send(&Request::upgrade(target).header("Origin", "http://localhost"));
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("Sec-WebSocket-Accept"), None, "{target}");
    }
    nginx.until_log("\"error_page\" shows an error of status 403 by it");
    assert_eq!(nginx.get("/status").json()["refused"]["error_page"], 4);
    for target in ["/own", "/own-named"] {
        let mut client = Client::connect(&nginx, target);
        client.send("hello");
        client.expect(["hello"]);
    }
    let mut listener = redis.session();
    listener.subscribe("foo");
    assert_eq!(nginx.send(&Request::post("/post", "unheard")).status, 403);
    assert_eq!(nginx.send(&Request::post("/own-post", "heard")).status, 200);
    assert_eq!(listener.push().1, "heard");
}

#[test]
fn the_first_offered_subprotocol_that_is_listed_is_chosen() {
    let redis = Redis::start();
    let conf = Conf::with(&redis).location("/p", "websocket_echo; websocket_subprotocol a b;");
    let nginx = Nginx::start(conf);
    for (lines, chosen) in [
        (&["b, a"][..], Some("b")),
        (&["x", "y,a"], Some("a")),
        (&["A"], None),
        (&["x, y"], None),
        (&[], None),
    ] {
        let request = lines.iter().fold(Request::upgrade("/p"), |r, line| {
            r.header("Sec-WebSocket-Protocol", line)
        });
        let answer = nginx.send(&request);
        assert_eq!(answer.status, 101, "{lines:?}");
        assert_eq!(answer.header("Sec-WebSocket-Protocol"), chosen, "{lines:?}");
    }
}

#[test]
fn a_refusal_can_have_a_page_of_its_own() {
    let redis = Redis::start();
    let conf = echo(&redis)
        .server("error_page 400 403 426 503 /sorry;")
        .location("= /sorry", "internal; return 200 'sorry';");
    let mut nginx = Nginx::start(conf);
    for request in [Request::get("/echo"), Request::upgrade("/ws?channel=%01")] {
        let answer = nginx.send(&request.with("Connection", "close"));
        assert_eq!(answer.text(), "sorry", "{answer:?}");
    }
    // This also holds when the refusal comes later, from an event of Redis.
    nginx.reconfigure(
        Conf::push_url("redis://127.0.0.1:1")
            .server("error_page 503 /sorry;")
            .location("= /sorry", "return 503 'sorry';"),
    );
    nginx.reload();
    let answer = nginx.send(&Request::upgrade("/ws?channel=foo"));
    assert_eq!((answer.status, answer.text().as_str()), (503, "sorry"));
}

#[test]
fn arguments_are_percent_decoded() {
    let redis = Redis::start();
    let nginx = Nginx::start(echo(&redis));
    for (query, channel) in [
        ("channel=caf%C3%A9", "café"),
        ("channel=a%20b", "a b"),
        ("channel=a%26b%3Dc", "a&b=c"),
        ("x=1&channel=foo", "foo"),
        ("channel=100%25", "100%"),
    ] {
        let mut client = Client::connect(&nginx, &format!("/ws?{query}"));
        assert_eq!(redis.publish(channel, "hello"), 1, "{query}");
        client.expect(["hello"]);
    }
}
