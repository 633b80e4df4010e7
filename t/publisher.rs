//! `websocket_publisher`: a POST is a message.

use std::io::Write;
use std::time::Duration;
use t::{
    Client, Conf, Nginx, Proxy, Raw, Redis, Request, Response, Transport, http, http2, process,
    until,
};

fn publisher(redis: &Redis) -> Conf {
    Conf::push(redis).location("/pub", "websocket_publisher $websocket_arg_channel;")
}

#[test]
fn a_post_is_published_and_answered_with_json() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let answer = nginx.send(&Request::post("/pub?channel=foo", "hello"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(
        answer.text().trim_end(),
        r#"{"channel":"foo","redis_receivers":1}"#
    );
    client.expect(["hello"]);
    let answer = nginx.send(&Request::post("/pub?channel=nobody", "hello"));
    assert_eq!(answer.json()["redis_receivers"], 0);
}

#[test]
fn any_bytes_from_memory_or_file_are_published() {
    let redis = Redis::start();
    let directives = "websocket_publisher foo; client_body_buffer_size 1k; ";
    let conf = Conf::push(&redis)
        .http("client_max_body_size 8m; websocket_send_queue 16m;")
        .location("/small", directives)
        .location(
            "/file",
            &format!("{directives} client_body_in_file_only clean;"),
        );
    let nginx = Nginx::start(conf);
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    for target in ["/small", "/file"] {
        for size in [0, 1, 1000, 1025, 100_000, 4 << 20] {
            let body: Vec<u8> = (0..size).map(|i: u32| i as u8).collect();
            assert_eq!(
                nginx.send(&Request::post(target, &body)).status,
                200,
                "{target} {size}"
            );
            let message = client.message();
            assert!(message.into_data() == body, "{target} {size}");
        }
    }
}

#[test]
fn a_chunked_body_is_published() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let mut raw = Raw::open(&nginx, Transport::Wss);
    let head = Request::new("POST", "/pub?channel=foo").header("Transfer-Encoding", "chunked");
    for piece in [
        &head.wire()[..],
        b"3\r\nhel\r\n",
        b"2\r\nl",
        b"o\r\n0\r\n",
        b"\r\n",
    ] {
        raw.send(piece);
    }
    assert_eq!(raw.response().status, 200);
    client.expect(["hello"]);
}

#[test]
fn names_are_told_as_json_and_taken_as_bytes() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis));
    let mut listener = redis.session();
    listener.subscribe("a\"b\\é\r\n".trim_end());
    let answer = nginx.send(&Request::post("/pub?channel=a%22b%5C%C3%A9", "hello"));
    assert_eq!(answer.json()["channel"], "a\"b\\é");
    assert_eq!(answer.json()["redis_receivers"], 1);
    assert_eq!(listener.push().1, "hello");
}

#[test]
fn wrong_requests_get_their_status() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis).http("client_max_body_size 1k;"));
    let post = |target: &str| Request::post(target, "x");
    for (what, request, status) in [
        ("GET", Request::get("/pub?channel=foo"), 405),
        (
            "DELETE",
            Request::new("DELETE", "/pub?channel=foo").header("Connection", "close"),
            405,
        ),
        ("no channel", post("/pub"), 400),
        ("a control byte", post("/pub?channel=%00"), 400),
        ("Redis' own", post("/pub?channel=__keyspace@0__:x"), 400),
        (
            "a big body",
            Request::post("/pub?channel=foo", vec![b'x'; 2000]),
            413,
        ),
        (
            "a foreign page",
            post("/pub?channel=foo").header("Origin", "http://evil.example"),
            403,
        ),
    ] {
        assert_eq!(nginx.send(&request).status, status, "{what}");
    }
    let own = post("/pub?channel=foo").header("Origin", "http://localhost");
    assert_eq!(nginx.send(&own).status, 200);
}

#[test]
fn each_origin_of_a_post_is_judged_by_what_the_post_is_for() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis).http2());
    let (own, foreign) = ("http://localhost", "http://evil.example");
    let post = |origins: &[&str]| {
        let post = Request::post("/pub?channel=foo", "x");
        { origins.iter() }.fold(post, |post, origin| post.header("Origin", origin))
    };
    for (what, request, status) in [
        ("its own, then a foreign one", post(&[own, foreign]), 400),
        ("its own twice", post(&[own, own]), 400),
        ("a foreign one, then its own", post(&[foreign, own]), 400),
        ("its own", post(&[own]), 200),
        (
            "another host in the target",
            post(&[own]).line("POST http://a.example/pub?channel=foo HTTP/1.1"),
            403,
        ),
        (
            "the target's host",
            post(&["http://a.example"]).line("POST http://a.example/pub?channel=foo HTTP/1.1"),
            200,
        ),
    ] {
        assert_eq!(nginx.send(&request).status, status, "{what}");
    }
    for (origins, status) in [(&[own][..], 200), (&[foreign], 403), (&[own, foreign], 400)] {
        let fields: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
        let answer = http2::post(nginx.http2(), "/pub?channel=foo", &fields, b"");
        assert_eq!(answer, status, "{origins:?} over HTTP/2");
    }
}

#[test]
fn redis_away_is_503_and_silent_is_504() {
    let mut redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis));
    let post = || nginx.send(&Request::post("/pub?channel=foo", "x")).status;
    assert_eq!(post(), 200);
    redis.stop();
    assert_eq!(post(), 504);
    redis.kill();
    until("the loss is noticed", || post() == 503);
    redis.restart();
    until("it is back", || post() == 200);
}

#[test]
fn a_connection_is_kept_for_many_posts_in_order() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let mut raw = Raw::open(&nginx, Transport::Ws);
    let post = |i: usize| {
        let body = i.to_string();
        let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        format!("POST /pub?channel=foo HTTP/1.1\r\nHost: localhost\r\n{length}")
    };
    raw.send((0..100).map(post).collect::<String>());
    for _ in 0..100 {
        assert_eq!(raw.response().status, 200);
    }
    client.expect((0..100).map(|i| i.to_string()));
}

/// Replies come in the order of the commands, so each request gets its own.
#[test]
fn many_at_once_get_each_its_own_answer() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(
        Conf::push_url(&proxy.url())
            .location("/pub", "websocket_publisher $websocket_arg_channel;"),
    );
    assert_eq!(
        nginx.send(&Request::post("/pub?channel=first", "x")).status,
        200
    );
    proxy.hold_replies(true);
    let mut posts: Vec<Raw> = (0..300)
        .map(|i| {
            let mut raw = Raw::open(&nginx, Transport::Ws);
            raw.send(Request::post(&format!("/pub?channel=many-{i}"), "x").wire());
            raw
        })
        .collect();
    proxy.until_command("PUBLISH", "many-299");
    // Every seventh client does not wait for its answer.
    posts
        .iter()
        .step_by(7)
        .for_each(|raw| raw.stream().shut_down_writing());
    let gone: Vec<Raw> = (0..300).rev().step_by(5).map(|i| posts.remove(i)).collect();
    gone.into_iter().for_each(Raw::reset);
    proxy.hold_replies(false);
    let mut answered = 0;
    for mut raw in posts {
        if let Some(answer) = answer_of(&mut raw) {
            assert_eq!(answer.status, 200);
            assert!(
                answer.json()["channel"]
                    .as_str()
                    .unwrap()
                    .starts_with("many-")
            );
            answered += 1;
        }
    }
    assert!(answered >= 180, "{answered}");
    until("connections are closed", || {
        process::descriptors(nginx.worker()) < 40
    });
}

/// The answer. `None` if nginx took the half-closed client for one that has left.
fn answer_of(raw: &mut Raw) -> Option<Response> {
    let mut bytes = Vec::new();
    while let Some(byte) = raw.try_byte() {
        bytes.push(byte);
    }
    let mut rest = &bytes[..];
    http::read(&mut rest, &mut Vec::new()).ok()
}

#[test]
fn a_slow_upload_is_published_once_it_is_whole() {
    let redis = Redis::start();
    let nginx = Nginx::start(publisher(&redis));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let mut stream = t::Stream::plain(nginx.http()).unwrap();
    let wire = Request::post("/pub?channel=foo", "hello").wire();
    for byte in wire {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(
        http::read(&mut stream, &mut Vec::new()).unwrap().status,
        200
    );
    client.expect(["hello"]);
}

#[test]
fn a_channel_that_an_acl_forbids_is_403() {
    let redis = Redis::start();
    let user = ["ACL", "SETUSER", "guest", "on", ">secret", "+@all", "~*"];
    redis.command(&[&user[..], &["resetchannels", "&ok"]].concat());
    let url = redis.url().replace("//", "//guest:secret@");
    let conf = Conf::push_url(&url).location("/pub", "websocket_publisher $arg_channel;");
    let nginx = Nginx::start(conf);
    let post = |channel| nginx.send(&Request::post(&format!("/pub?channel={channel}"), "x"));
    assert_eq!(post("ok").status, 200);
    assert_eq!(post("other").status, 403);
    assert_eq!(post("ok").status, 200);
}

/// Messages published before the first connection is up wait for it, and then go out.
#[test]
fn what_comes_right_after_the_start_waits_for_the_link() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    proxy.hold_replies(true);
    let conf = Conf::push_url(&proxy.url())
        .location("/pub", "websocket_publisher foo;")
        .location("/say", "websocket_publish foo;");
    let nginx = Nginx::start(conf);
    let mut listener = redis.session();
    listener.subscribe("foo");
    let mut posts: Vec<Raw> = (0..20)
        .map(|number| {
            let mut raw = Raw::open(&nginx, Transport::Ws);
            raw.send(Request::post("/pub", number.to_string()).wire());
            raw
        })
        .collect();
    posts[19].quiet(Duration::from_millis(300));
    let mut talker = Client::connect(&nginx, "/say");
    talker.send("said");
    proxy.hold_replies(false);
    for raw in &mut posts {
        assert_eq!(raw.response().status, 200);
    }
    let mut heard: Vec<String> = (0..21).map(|_| listener.push().1).collect();
    let mut expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    expected.push("said".to_owned());
    heard.sort();
    expected.sort();
    assert_eq!(heard, expected);
    talker.close();
}

/// A subrequest is answered like a request. Its body is the one that it was given or that of its
/// main request: here a mirror's.
#[test]
fn a_subrequest_publishes() {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .location("/both", "mirror /copy; websocket_publisher foo;")
        .location("/copy", "internal; websocket_publisher bar;");
    let nginx = Nginx::start(conf);
    let mut listener = redis.session();
    listener.subscribe("bar");
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    for size in [0, 1, 100_000] {
        let body = "x".repeat(size);
        assert_eq!(nginx.send(&Request::post("/both", &body)).status, 200);
        client.expect([&body]);
        assert!(listener.push() == ("bar".to_owned(), body));
    }
}

/// The origin is judged by the main request's headers and target.
#[test]
fn a_subrequest_is_of_its_main_request_s_origin() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .location(
            "/both",
            "mirror /copy; websocket_publisher foo; websocket_origin any;",
        )
        .location("/copy", "internal; websocket_publisher bar;");
    let nginx = Nginx::start(conf);
    let mut listener = redis.session();
    listener.subscribe("bar");
    for (target, origin, body) in [
        ("/both", "http://elsewhere", "foreign"),
        ("/both", "http://localhost", "own"),
        ("http://target/both", "http://localhost", "foreign"),
        ("http://target/both", "http://target", "own"),
    ] {
        let request = Request::post(target, body).header("Origin", origin);
        assert_eq!(nginx.send(&request).status, 200);
    }
    for _ in 0..2 {
        assert_eq!(listener.push(), ("bar".to_owned(), "own".to_owned()));
    }
    nginx.until_log("origin \"http://elsewhere\" is not allowed");
    assert_eq!(nginx.send(&Request::post("/both", "last")).status, 200);
    assert_eq!(listener.push().1, "last");
}

/// The main request and its subrequest wait for Redis at the same time, and clients leave
/// meanwhile.
#[test]
fn who_goes_while_its_subrequest_waits_costs_nothing() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let conf = Conf::push_url(&proxy.url())
        .location("/both", "mirror /copy; websocket_publisher foo;")
        .location("/copy", "internal; websocket_publisher bar;");
    let nginx = Nginx::start(conf);
    assert_eq!(nginx.send(&Request::post("/both", "x")).status, 200);
    let before = process::descriptors(nginx.worker());
    proxy.hold_replies(true);
    let mut posts: Vec<Raw> = (0..40)
        .map(|number| {
            let transport = Transport::BOTH[number % 2];
            let mut raw = Raw::open(&nginx, transport);
            raw.send(Request::post("/both", "x").wire());
            raw
        })
        .collect();
    until("all wait", || {
        proxy.commands().matches("PUBLISH").count() == 2 * 41
    });
    let gone: Vec<Raw> = (0..40).rev().step_by(2).map(|i| posts.remove(i)).collect();
    gone.into_iter().for_each(Raw::reset);
    until("they have left", || {
        process::descriptors(nginx.worker()) <= before + 20
    });
    proxy.hold_replies(false);
    for raw in &mut posts {
        assert_eq!(raw.response().status, 200);
    }
    let mut client = Client::connect(&nginx, "/ws?channel=bar");
    assert_eq!(nginx.send(&Request::post("/both", "after")).status, 200);
    client.expect(["after"]);
}

/// `ngx.location.capture` of Debian's Lua module.
mod by_lua {
    use super::*;
    use t::settings::{Flavor, flavor};

    const ONE: &str = "local answer = ngx.location.capture('/publish?channel=' .. ngx.var.arg_to,
        {method = ngx.HTTP_POST, body = 'hello from Lua'});
        ngx.status = answer.status; ngx.print(answer.body)";

    /// Five subrequests at a time, the third without a channel.
    const FIVE: &str = "local calls = {};
        for i = 1, 5 do
            calls[i] = {'/publish?channel=' .. (i == 3 and '' or i),
                {method = ngx.HTTP_POST, body = 'to ' .. i}};
        end
        local answers = {ngx.location.capture_multi(calls)};
        for i = 1, 5 do ngx.print(answers[i].status, ' ') end";

    const BODY: &str = "local answer = ngx.location.capture('/publish?channel=foo',
        {method = ngx.HTTP_POST}); ngx.status = answer.status; ngx.print(answer.body)";

    fn start(url: &str) -> Nginx {
        let modules = "/usr/lib/nginx/modules";
        let load = format!(
            "load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;"
        );
        let lua = |script: &str| format!("content_by_lua_block {{ {script} }}");
        let conf = Conf::push_url(url)
            .main(&load)
            .location(
                "/publish",
                "internal; websocket_publisher $websocket_arg_channel;",
            )
            .location("/one", &lua(ONE))
            .location("/five", &lua(FIVE))
            .location("/unread", &lua(BODY))
            .location("/read", &lua(&format!("ngx.req.read_body(); {BODY}")));
        Nginx::start(conf)
    }

    #[test]
    fn captures_publish_and_see_the_answer() {
        if flavor() != Flavor::Debian {
            return;
        }
        let redis = Redis::start();
        let nginx = start(&redis.url());
        let mut client = Client::connect(&nginx, "/ws?channel=foo");
        let answer = nginx.get("/one?to=foo");
        assert_eq!(answer.status, 200);
        let receipt = r#"{"channel":"foo","redis_receivers":1}"#;
        assert_eq!(answer.text().trim_end(), receipt);
        client.expect(["hello from Lua"]);
        assert_eq!(nginx.get("/one?to=").status, 400);
        let mut listener = redis.session();
        (1..=5).for_each(|i| listener.subscribe(&i.to_string()));
        assert_eq!(nginx.get("/five").text(), "200 200 400 200 200 ");
        let mut heard: Vec<_> = (0..4).map(|_| listener.push().1).collect();
        heard.sort();
        assert_eq!(heard, ["to 1", "to 2", "to 4", "to 5"]);
        // The main request's own body, once it has been read.
        let answer = nginx.send(&Request::post("/read", "a body"));
        assert_eq!(answer.status, 200);
        client.expect(["a body"]);
        assert_eq!(nginx.send(&Request::post("/unread", "a body")).status, 500);
        nginx.until_log("subrequest to \"websocket_publisher\" has no body");
    }

    #[test]
    fn captures_that_wait_for_redis_hear_of_its_loss_or_go_with_their_client() {
        if flavor() != Flavor::Debian {
            return;
        }
        let redis = Redis::start();
        let proxy = Proxy::start(redis.port());
        let nginx = start(&proxy.url());
        assert_eq!(nginx.get("/one?to=foo").status, 200);
        proxy.hold_replies(true);
        let mut waiting: Vec<Raw> = (0..20)
            .map(|_| {
                let mut raw = Raw::open(&nginx, Transport::Ws);
                raw.send(Request::get("/five").wire());
                raw
            })
            .collect();
        until("all wait", || {
            proxy.commands().matches("PUBLISH").count() == 1 + 4 * 20
        });
        waiting.drain(..10).for_each(Raw::reset);
        proxy.cut();
        for raw in &mut waiting {
            assert_eq!(raw.response().text(), "502 502 400 502 502 ");
        }
        proxy.hold_replies(false);
        until("redis is back", || nginx.get("/one?to=foo").status == 200);
    }
}
