//! `error_page` passes a request from one location of the module to another, with its body: one
//! address for WebSockets and for posts.

use t::{Client, Conf, Nginx, Raw, Redis, Request, Transport, http2};

/// One address for both: a WebSocket location whose 405 is passed to a publisher.
fn one_address(redis: &Redis) -> Conf {
    let leads = |how: &str| format!("websocket_subscribe foo; error_page 405 {how};");
    Conf::with(redis)
        .http("client_max_body_size 8m; websocket_send_queue 16m;")
        .location("@post", "websocket_publisher foo;")
        .location("= /post", "internal; websocket_publisher foo;")
        .location("@other", "websocket_publisher $arg_to;")
        .location("/own", &leads("= @post"))
        .location("/as-200", &leads("=200 @post"))
        .location("/as-202", &leads("=202 @post"))
        .location("/as-405", &leads("@post"))
        .location("/by-uri", &leads("= /post"))
        .location("/by-uri-as-200", &leads("=200 /post"))
        .location("/other", &leads("=200 @other"))
        .http2()
}

/// A POST with a chunked body. Its connection is kept alive.
fn chunked(target: &str, body: &[u8]) -> Vec<u8> {
    let mut wire = Request::new("POST", target)
        .header("Transfer-Encoding", "chunked")
        .wire();
    for piece in body.chunks(10_000) {
        wire.extend(format!("{:x}\r\n", piece.len()).bytes());
        wire.extend(piece);
        wire.extend(b"\r\n");
    }
    wire.extend(b"0\r\n\r\n");
    wire
}

fn numbers(size: usize) -> Vec<u8> {
    (0..size).map(|i| i as u8).collect()
}

#[test]
fn error_page_leads_a_post_with_its_body_from_a_websocket_location() {
    let redis = Redis::start();
    let nginx = Nginx::start(one_address(&redis));
    let mut client = Client::connect(&nginx, "/own");
    let mut expect = |body: &[u8], how: &str| {
        assert!(client.message().into_data() == body, "{} {how}", body.len());
    };
    for (target, status) in [("/own", 200), ("/as-200", 200), ("/as-202", 202)] {
        for size in [0, 1, 1000, 100_000, 4 << 20] {
            let body = numbers(size);
            let answer = nginx.send(&Request::post(target, &body));
            assert_eq!(answer.status, status, "{target} {size}");
            assert_eq!(answer.json()["redis_receivers"], 1);
            expect(&body, target);
            let mut raw = Raw::open(&nginx, Transport::Wss);
            raw.send(chunked(target, &body));
            assert_eq!(raw.response().status, status, "{target} {size} in chunks");
            expect(&body, target);
        }
        for size in [0, 1, 60_000] {
            let body = numbers(size);
            let length = size.to_string();
            for fields in [&[][..], &[("content-length", &*length)]] {
                let answer = http2::post(nginx.http2(), target, fields, &body);
                assert_eq!(answer, status, "{target} {size} over HTTP/2");
                expect(&body, "over HTTP/2");
            }
        }
    }
}

/// Without `=` the answer would be 405. With a URI nginx turns the request into a GET.
#[test]
fn error_page_that_shows_the_405_publishes_nothing() {
    let redis = Redis::start();
    let nginx = Nginx::start(one_address(&redis));
    let mut client = Client::connect(&nginx, "/own");
    for target in ["/as-405", "/by-uri", "/by-uri-as-200"] {
        for size in [1, 100_000] {
            let answer = nginx.send(&Request::post(target, numbers(size)));
            assert_eq!(answer.status, 405, "{target} {size}");
        }
        let answer = http2::post(nginx.http2(), target, &[], &numbers(1000));
        assert_eq!(answer, 405, "{target} over HTTP/2");
    }
    nginx.until_log("publish refused: \"error_page\" shows an error of status 405 by it");
    // A failure is not answered with 200.
    let answer = nginx.send(&Request::post("/other", "x"));
    assert_eq!(
        (answer.status, &*answer.text()),
        (400, "The channel's name is empty.\n")
    );
    let foreign = Request::post("/other?to=foo", "x").header("Origin", "http://evil.example");
    assert_eq!(nginx.send(&foreign).status, 403);
    assert_eq!(nginx.send(&Request::post("/own", "last")).status, 200);
    client.expect(["last"]);
}

#[test]
fn a_post_whose_body_was_discarded_before_is_500_and_no_message() {
    let redis = Redis::start();
    let nginx = Nginx::start(
        one_address(&redis)
            .http("recursive_error_pages on;")
            .location("/big", "client_max_body_size 1k; error_page 413 = @post;")
            // nginx sees that chunks are too large only while it reads them.
            .location(
                "@small",
                "websocket_publisher foo; client_max_body_size 1k; error_page 413 = @post;",
            )
            .location("/chunks", "websocket_echo; error_page 405 = @small;"),
    );
    let mut client = Client::connect(&nginx, "/own");
    let mut count = 0;
    let mut expect_told = |status: u16, how: &str| {
        assert_eq!(status, 500, "{how}");
        count += 1;
        let told = nginx.count_log("request body was discarded before");
        assert_eq!(told, count, "{how}");
    };
    for size in [2000, 4 << 20] {
        let answer = nginx.send(&Request::post("/big", numbers(size)));
        expect_told(answer.status, "by its length");
        let mut raw = Raw::open(&nginx, Transport::Ws);
        raw.send(chunked("/chunks", &numbers(size)));
        expect_told(raw.response().status, "in chunks");
    }
    let body = numbers(2000);
    let answer = http2::post(nginx.http2(), "/big", &[("content-length", "2000")], &body);
    expect_told(answer, "over HTTP/2");
    assert_eq!(http2::post(nginx.http2(), "/chunks", &[], &body), 500);
    assert_eq!(nginx.send(&Request::post("/own", "last")).status, 200);
    client.expect(["last"]);
}

/// A refused request leaves nothing of its body in front of the next request.
#[test]
fn a_connection_goes_on_after_a_refused_post() {
    let redis = Redis::start();
    let conf = one_address(&redis)
        .location("/echo", "websocket_echo;")
        .location("/page", "websocket_echo; error_page 405 /sorry;")
        .location("= /sorry", "return 200 sorry;")
        .location("/status", "websocket_status;");
    let nginx = Nginx::start(conf);
    for (target, status) in [
        ("/echo", 405),
        ("/page", 405),
        ("/as-405", 405),
        ("/by-uri", 405),
        ("/status", 405),
    ] {
        for size in [0, 1, 1000, 100_000] {
            let body = numbers(size);
            let head = Request::new("POST", target).header("Content-Length", &size.to_string());
            let plain = [head.wire(), body.clone()].concat();
            let next = Request::new("GET", "/status").wire();
            let mut raw = Raw::open(&nginx, Transport::BOTH[size % 2]);
            raw.send([&plain[..], &next, &chunked(target, &body), &next].concat());
            for expected in [status, 200, status, 200] {
                let answer = raw.response();
                assert_eq!(answer.status, expected, "{target} {size}: {answer:?}");
            }
        }
    }
}
