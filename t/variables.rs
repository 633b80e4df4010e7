//! The variables, in the access log and in names, of a connection whose request is kept (attached)
//! and of one whose request was freed (detached). `websocket_detach auto` keeps the request when a
//! log uses a variable that is known only at the end.

use std::collections::HashSet;
use t::{Client, Conf, Nginx, Raw, Redis, Request, Transport, frames, until};

const FORMAT: &str = "$status|$websocket_id|$websocket_channel|$websocket_close_code|\
    $websocket_messages_in|$websocket_messages_out|$websocket_bytes_in|$websocket_bytes_out|\
    $websocket_duration|$websocket_arg_name";

fn logged(redis: &Redis, detach: &str) -> Nginx {
    let both = "websocket_subscribe $websocket_arg_channel; websocket_echo;";
    let conf = Conf::with(redis).http(&format!("websocket_detach {detach};"));
    Nginx::start(conf.location("/ws", both).access_log(FORMAT))
}

/// The fields of the log line about a connection.
fn fields(nginx: &Nginx) -> Vec<String> {
    until("a WebSocket is logged", || {
        nginx
            .access_log()
            .iter()
            .any(|line| line.starts_with("101"))
    });
    let log = nginx.access_log();
    let line = log.iter().find(|line| line.starts_with("101")).unwrap();
    line.split('|').map(str::to_owned).collect()
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn attached_all_are_logged_at_the_end() {
    let redis = Redis::start();
    for detach in ["off", "auto"] {
        let nginx = logged(&redis, detach);
        for transport in Transport::BOTH {
            let mut client = Client::connect_over(&nginx, transport, "/ws?channel=foo&name=a%20b");
            client.send("12345");
            client.expect(["12345"]);
            for _ in 0..3 {
                redis.publish("foo", "1234567890");
            }
            client.expect(["1234567890"; 3]);
            client.close();
        }
        check_final(&nginx.until_access_log(3));
    }
}

fn check_final(lines: &[String]) {
    for line in lines.iter().filter(|line| line.starts_with("101")) {
        let fields: Vec<&str> = line.split('|').collect();
        assert!(is_id(fields[1]), "{line}");
        assert_eq!(fields[2..6], ["foo", "1000", "1", "4"], "{line}");
        let number = |i: usize| {
            fields[i]
                .parse::<u64>()
                .unwrap_or_else(|_| panic!("{line}"))
        };
        assert!(number(6) >= 5 && number(7) >= 35, "{line}");
        assert!(
            fields[8].parse::<f64>().is_ok_and(|seconds| seconds < 60.0),
            "{line}"
        );
        assert_eq!(fields[9], "a b", "{line}");
    }
}

#[test]
fn bytes_sent_are_the_answer_and_all_frames() {
    let redis = Redis::start();
    let both = "websocket_subscribe $websocket_arg_channel; websocket_echo;";
    let conf = Conf::with(&redis).http("websocket_detach off;");
    let format = "$status $bytes_sent $websocket_bytes_out";
    let nginx = Nginx::start(conf.location("/ws", both).access_log(format));
    for (number, transport) in Transport::BOTH.into_iter().enumerate() {
        let mut raw = Raw::open(&nginx, transport);
        raw.send(Request::upgrade("/ws?channel=foo").wire());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(raw.bytes(1));
        }
        for size in [0, 200, 70_000] {
            redis.publish("foo", vec![b'x'; size]);
        }
        raw.send_frame(&frames::text("echoed"));
        raw.send_frame(&frames::ping("answered"));
        let heads = 2 + 4 + 10 + 2 + 2;
        let mut frames_out = raw.bytes(70_200 + 6 + 8 + heads).len();
        raw.send_frame(&frames::close(1000, ""));
        while raw.try_byte().is_some() {
            frames_out += 1;
        }
        drop(raw);
        let line = nginx.until_access_log(number + 2).pop().unwrap();
        let sent = head.len() + frames_out;
        assert_eq!(line, format!("101 {sent} {frames_out}"), "{transport:?}");
    }
}

#[test]
fn attached_close_codes_are_those_that_were_said() {
    let redis = Redis::start();
    let nginx = logged(&redis, "off");
    let mut said_nothing = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    said_nothing.stream().shut_down_writing();
    while said_nothing.receive().is_ok() {}
    nginx.until_access_log(2);
    let mut misbehaved = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    misbehaved.send(frames::hex("83 80 00000000"));
    misbehaved.expect_close(1002);
    nginx.until_access_log(3);
    let mut private = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    private.send_frame(&frames::close(4001, "x"));
    private.expect_close(4001);
    let log = nginx.until_access_log(4);
    let codes: Vec<&str> = log
        .iter()
        .filter(|line| line.starts_with("101"))
        .map(|l| code(l))
        .collect();
    assert_eq!(codes, ["1006", "1002", "4001"]);
}

fn code(line: &str) -> &str {
    line.split('|').nth(3).unwrap()
}

#[test]
fn detached_what_is_known_at_the_handshake_is_logged() {
    let redis = Redis::start();
    let nginx = logged(&redis, "on");
    let mut client = Client::connect(&nginx, "/ws?channel=foo&name=a%20b");
    redis.publish("foo", "hello");
    client.expect(["hello"]);
    let fields = fields(&nginx);
    assert!(is_id(&fields[1]), "{fields:?}");
    assert_eq!((fields[2].as_str(), fields[9].as_str()), ("foo", "a b"));
    client.close();
    let is_socket = |line: &&String| line.starts_with("101");
    assert_eq!(
        nginx.access_log().iter().filter(is_socket).count(),
        1,
        "logged once"
    );
}

#[test]
fn the_channel_is_logged_also_when_it_is_all_that_is_asked_for() {
    let redis = Redis::start();
    for detach in ["auto", "on", "off"] {
        let conf = Conf::push(&redis).http(&format!("websocket_detach {detach};"));
        let nginx = Nginx::start(conf.access_log("$status $websocket_channel"));
        Client::connect(&nginx, "/ws?channel=foo").close();
        assert_eq!(
            nginx.until_access_log(2)[1],
            "101 foo",
            "websocket_detach {detach}"
        );
    }
}

#[test]
fn ids_are_random_and_one_for_each_connection() {
    let redis = Redis::start();
    let location = "add_header X-Id $websocket_id always; websocket_subscribe own:$websocket_id;";
    let nginx = Nginx::start(Conf::with(&redis).location("/own", location));
    let mut ids = HashSet::new();
    for i in 0..100 {
        let mut client = Client::connect(&nginx, "/own");
        let id = client.header("X-Id").expect("the header").to_owned();
        assert!(is_id(&id), "{id}");
        if i % 10 == 0 {
            assert_eq!(redis.publish(format!("own:{id}"), "yours"), 1);
            client.expect(["yours"]);
        }
        ids.insert(id);
    }
    assert_eq!(ids.len(), 100);
}

#[test]
fn plain_requests_have_no_values() {
    let redis = Redis::start();
    let nginx = logged(&redis, "auto");
    assert_eq!(nginx.get("/plain?name=n").status, 200);
    until("it is logged", || {
        nginx.access_log().iter().any(|line| line.ends_with("|n"))
    });
    let log = nginx.access_log();
    let line = log.iter().find(|line| line.ends_with("|n")).unwrap();
    for field in line.split('|').skip(2).take(7) {
        assert!(["-", "", "0"].contains(&field), "{line}");
    }
}

/// `encodeURIComponent` writes a space as %20 and a plus as %2B. Forms and `URLSearchParams` write
/// a space as a plus, which stays a plus.
#[test]
fn a_plus_in_the_query_is_a_plus() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis));
    for (written, channel) in [("a+b", "a+b"), ("a%2Bb", "a+b"), ("a%20b", "a b")] {
        let mut client = Client::connect(&nginx, &format!("/ws?channel={written}"));
        assert_eq!(redis.publish(channel, "hello"), 1, "{written}");
        client.expect(["hello"]);
        client.close();
    }
}

#[test]
fn arguments_work_in_map_and_if() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .http("map $websocket_arg_user $room { default lobby; 'a b' 'room of a b'; }")
        .location(
            "/ws",
            "if ($websocket_arg_user = '') { return 401; } websocket_subscribe $room;",
        );
    let nginx = Nginx::start(conf);
    assert_eq!(nginx.handshake("/ws"), 401);
    let mut guest = Client::connect(&nginx, "/ws?user=x");
    let mut known = Client::connect(&nginx, "/ws?user=a%20b");
    redis.publish("lobby", "to all");
    redis.publish("room of a b", "to one");
    guest.expect(["to all"]);
    known.expect(["to one"]);
}

/// Characters that would end a line of HTTP, and others that no header or name should have.
const CONTROL: [&str; 7] = ["%0d%0a", "%0D", "%0a", "%00", "%09", "%1f", "%7f"];

#[test]
fn an_argument_with_a_control_character_is_empty_in_headers_redirects_and_proxied_requests() {
    let redis = Redis::start();
    let behind = Nginx::start(Conf::without_module().location("/seen", "return 200 '[$request]';"));
    let conf = Conf::with(&redis)
        .location(
            "/header",
            "add_header X-Name [$websocket_arg_x]; return 204;",
        )
        .location("/redirect", "return 302 /to?x=$websocket_arg_x;")
        .location("/text", "return 200 '[$websocket_arg_x]';")
        .location(
            "/proxied",
            &format!(
                "proxy_pass http://{}/seen?x=$websocket_arg_x;",
                behind.http()
            ),
        );
    let nginx = Nginx::start(conf);
    for control in CONTROL {
        let query = format!("x=a{control}Set-Cookie:%20a=b");
        let answer = nginx.get(&format!("/header?{query}"));
        assert_eq!(answer.header("X-Name"), Some("[]"), "{control}");
        assert_eq!(answer.header("Set-Cookie"), None, "{control}");
        let answer = nginx.get(&format!("/redirect?{query}"));
        let location = answer.header("Location").expect("a redirect");
        assert!(location.ends_with("/to?x="), "{control}: {location}");
        assert_eq!(answer.header("Set-Cookie"), None, "{control}");
        assert_eq!(
            nginx.get(&format!("/text?{query}")).text(),
            "[]",
            "{control}"
        );
        let seen = nginx.get(&format!("/proxied?{query}")).text();
        assert_eq!(seen, "[GET /seen?x= HTTP/1.0]", "{control}");
    }
    assert_eq!(nginx.get("/text?x=%C3%A9%20%22b").text(), "[é \"b]");
}

#[test]
fn no_channel_is_made_of_an_argument_with_a_control_character() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .http("map $websocket_arg_x $mapped { default lobby; }")
        .location("/whole", "websocket_subscribe $websocket_arg_x;")
        .location("/part", "websocket_subscribe news:$websocket_arg_x;")
        .location("/pattern", "websocket_psubscribe news:$websocket_arg_x*;")
        .location("/publish", "websocket_publish news:$websocket_arg_x;")
        .location("/mapped", "websocket_subscribe $mapped;")
        .location(
            "/set",
            "set $name news:$websocket_arg_x; websocket_subscribe $name;",
        )
        .location("/rewritten", "rewrite ^ /part?x=$websocket_arg_x? last;")
        .location("/post", "websocket_publisher news:$websocket_arg_x;")
        .location("/fixed", "websocket_subscribe news;")
        .location("/status", "websocket_status;");
    let nginx = Nginx::start(conf);
    let ways = [
        "/whole",
        "/part",
        "/pattern",
        "/publish",
        "/mapped",
        "/set",
        "/rewritten",
    ];
    for control in CONTROL {
        for target in ways {
            let status = nginx.handshake(&format!("{target}?x=a{control}b"));
            assert_eq!(status, 400, "{target} {control}");
        }
        let post = Request::post(&format!("/post?x=a{control}b"), "unheard");
        assert_eq!(nginx.send(&post).status, 400, "{control}");
        // nginx.conf does not use these.
        assert_eq!(nginx.handshake(&format!("/part?x=a&y={control}")), 101);
        assert_eq!(nginx.handshake(&format!("/fixed?x={control}")), 101);
    }
    nginx.until_log("argument \"x\" has a control character");
    let refused = &nginx.get("/status").json()["refused"];
    assert_eq!(refused["channel"], CONTROL.len() * ways.len());
    for target in ways {
        assert_eq!(
            nginx.handshake(&format!("{target}?x=a%20b")),
            101,
            "{target}"
        );
    }
}
