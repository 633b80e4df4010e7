//! Every directive: what `nginx -t` says about wrong values, where it is allowed, what it inherits,
//! and the effect of those that have no test file of their own.

use t::{Client, Conf, Nginx, Raw, Redis, Transport, frames};
use tungstenite::Message;

fn conf() -> Conf {
    Conf::with_url("redis://127.0.0.1:6379")
}

/// Wrong directives in a location, and what the error must contain.
const WRONG: &[(&str, &str)] = &[
    (
        "websocket_subscribe;",
        "invalid number of arguments in \"websocket_subscribe\"",
    ),
    (
        "websocket_echo on;",
        "invalid number of arguments in \"websocket_echo\"",
    ),
    (
        "websocket_publish a b;",
        "invalid number of arguments in \"websocket_publish\"",
    ),
    (
        "websocket_echo; websocket_envelope xml;",
        "\"xml\" in \"websocket_envelope\" directive",
    ),
    (
        "websocket_echo; websocket_frame utf8;",
        "\"utf8\" in \"websocket_frame\" directive",
    ),
    (
        "websocket_echo; websocket_slow wait;",
        "\"wait\" in \"websocket_slow\" directive",
    ),
    (
        "websocket_echo; websocket_gap maybe;",
        "\"maybe\" in \"websocket_gap\" directive",
    ),
    (
        "websocket_echo; websocket_detach yes;",
        "\"yes\" in \"websocket_detach\" directive",
    ),
    (
        "websocket_echo; websocket_max_message big;",
        "\"big\" in \"websocket_max_message\" directive",
    ),
    (
        "websocket_echo; websocket_max_message -1;",
        "\"-1\" in \"websocket_max_message\" directive",
    ),
    (
        "websocket_echo; websocket_max_frame 1x;",
        "\"1x\" in \"websocket_max_frame\" directive",
    ),
    (
        "websocket_echo; websocket_send_queue x;",
        "\"x\" in \"websocket_send_queue\" directive",
    ),
    (
        "websocket_echo; websocket_notsent x;",
        "\"x\" in \"websocket_notsent\" directive",
    ),
    (
        "websocket_echo; websocket_ping_interval 1q;",
        "\"1q\" in \"websocket_ping_interval\" directive",
    ),
    (
        "websocket_echo; websocket_timeout soon;",
        "\"soon\" in \"websocket_timeout\" directive",
    ),
    (
        "websocket_echo; websocket_drain never;",
        "\"never\" in \"websocket_drain\" directive",
    ),
    (
        "websocket_echo; websocket_drain 1s 1000;",
        "\"1000\" in \"websocket_drain\" directive, it must be 1001, 1012, 1013, or from 4000 to 4999",
    ),
    (
        "websocket_echo; websocket_drain 1s 5000;",
        "\"5000\" in \"websocket_drain\" directive",
    ),
    (
        "websocket_subscribe a; websocket_gap close 3999;",
        "\"3999\" in \"websocket_gap\" directive, it must be 1001, 1012, 1013, or from 4000 to 4999",
    ),
    (
        "websocket_subscribe a; websocket_gap keep 1001;",
        "\"1001\" in \"websocket_gap\" directive, only \"close\" takes a code",
    ),
    (
        "websocket_echo; websocket_origin https://;",
        "\"https://\" in \"websocket_origin\" directive",
    ),
    (
        "websocket_echo; websocket_origin same wss://example.com;",
        "\"wss://example.com\" in \"websocket_origin\" directive, it must be \"https://example.com\"",
    ),
    (
        "websocket_echo; websocket_origin *;",
        "\"*\" in \"websocket_origin\" directive, it must be \"any\" to allow all origins",
    ),
    (
        "websocket_echo; websocket_origin same any;",
        "in \"websocket_origin\" directive, \"any\" must stand alone",
    ),
    (
        "websocket_echo; websocket_origin none;",
        "\"none\" in \"websocket_origin\" directive, it must name an origin",
    ),
    (
        "websocket_echo; websocket_origin Null;",
        "\"Null\" in \"websocket_origin\" directive, it must be \"null\", in lower case",
    ),
    (
        "websocket_echo; websocket_subprotocol 'a b';",
        "\"a b\" in \"websocket_subprotocol\" directive",
    ),
    (
        "websocket_subscribe ''; ",
        "in \"websocket_subscribe\" directive",
    ),
    (
        "websocket_echo; websocket_echo;",
        "\"websocket_echo\" directive is duplicate",
    ),
    (
        "websocket_slow close; websocket_slow close;",
        "\"websocket_slow\" directive is duplicate",
    ),
    (
        "websocket_deflate maybe;",
        "invalid value \"maybe\" in \"websocket_deflate\" directive, it must be \"on\" or \"off\"",
    ),
    (
        "websocket_deflate_level 10;",
        "\"10\" in \"websocket_deflate_level\" directive",
    ),
    (
        "websocket_deflate_window 8;",
        "\"8\" in \"websocket_deflate_window\" directive",
    ),
    (
        "websocket_deflate_takeover on;",
        "\"on\" in \"websocket_deflate_takeover\" directive",
    ),
    (
        "websocket_memory 1m;",
        "\"websocket_memory\" directive is not allowed here",
    ),
    (
        "websocket_reserve 1/4;",
        "\"websocket_reserve\" directive is not allowed here",
    ),
    (
        "websocket_max_pending 1;",
        "\"websocket_max_pending\" directive is not allowed here",
    ),
    (
        "websocket_subscribe $nonsense;",
        "unknown \"nonsense\" variable",
    ),
    (
        "websocket_status x;",
        "invalid number of arguments in \"websocket_status\"",
    ),
    (
        "websocket_publisher;",
        "invalid number of arguments in \"websocket_publisher\"",
    ),
];

#[test]
fn wrong_values_are_told_with_value_and_directive() {
    for (directives, expected) in WRONG {
        let (is_fine, text) = conf().location("/x", directives).check();
        assert!(!is_fine, "{directives} is fine?");
        assert!(
            text.contains(expected),
            "{directives}\n  wanted: {expected}\n  got: {text}"
        );
        // nginx itself reports unknown variables, once it has read the whole file.
        let has_line = text.contains("nginx.conf:") || expected.starts_with("unknown");
        assert!(has_line, "{text}");
    }
}

#[test]
fn wrong_values_at_http_level_are_told() {
    for (directive, expected) in [
        (
            "websocket_memory much;",
            "\"much\" in \"websocket_memory\" directive",
        ),
        (
            "websocket_reserve 2/1;",
            "\"2/1\" in \"websocket_reserve\" directive",
        ),
        (
            "websocket_reserve 1/0;",
            "\"1/0\" in \"websocket_reserve\" directive",
        ),
        (
            "websocket_reserve x;",
            "\"x\" in \"websocket_reserve\" directive",
        ),
        (
            "websocket_max_pending -5;",
            "\"-5\" in \"websocket_max_pending\" directive",
        ),
        (
            "websocket_echo;",
            "\"websocket_echo\" directive is not allowed here",
        ),
        (
            "websocket_subscribe foo;",
            "\"websocket_subscribe\" directive is not allowed here",
        ),
        (
            "websocket_publisher foo;",
            "\"websocket_publisher\" directive is not allowed here",
        ),
        (
            "websocket_status;",
            "\"websocket_status\" directive is not allowed here",
        ),
    ] {
        let (is_fine, text) = conf().http(directive).check();
        assert!(!is_fine, "{directive} is fine?");
        assert!(
            text.contains(expected),
            "{directive}\n  wanted: {expected}\n  got: {text}"
        );
    }
}

#[test]
fn wrong_addresses_of_redis_are_told_without_the_password() {
    for url in [
        "http://127.0.0.1",
        "redis://",
        "redis://127.0.0.1:99999",
        "redis://user:hunter2@:x",
        "redis://:hunter2@127.0.0.1/abc",
        "127.0.0.1:6379:",
        "unix:",
        "redis://no-such-host.invalid:6379",
    ] {
        let (is_fine, text) = Conf::new().http(&format!("websocket_redis {url};")).check();
        assert!(!is_fine, "{url} is fine?");
        assert!(
            text.contains("in \"websocket_redis\" directive"),
            "{url}: {text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn what_needs_redis_says_so() {
    for directive in [
        "websocket_subscribe foo;",
        "websocket_publish foo;",
        "websocket_publisher foo;",
    ] {
        let (is_fine, text) = Conf::new().location("/x", directive).check();
        assert!(!is_fine, "{directive} without websocket_redis is fine?");
        assert!(text.contains("websocket_redis"), "{text}");
    }
    let (is_fine, text) = Conf::new().location("/x", "websocket_echo;").check();
    assert!(is_fine, "{text}");
}

#[test]
fn all_directives_are_fine_where_the_design_puts_them() {
    let everywhere = "websocket_envelope json; websocket_frame auto; websocket_origin same; \
        websocket_subprotocol a b; websocket_max_message 1m; websocket_max_frame 1m; \
        websocket_send_queue 1m; websocket_slow close; websocket_notsent 64k; \
        websocket_ping_interval 30s; websocket_timeout 60s; websocket_gap close 4999; \
        websocket_detach auto;";
    let conf = Conf::new()
        .http("websocket_redis valkey://127.0.0.1; websocket_drain 10s;")
        .http("websocket_memory 256m; websocket_reserve 1/16; websocket_max_pending 1000;")
        .http(everywhere)
        .server(everywhere)
        .server("websocket_redis unix:///nowhere.sock;")
        .location(
            "/a",
            &format!("{everywhere} websocket_subscribe a $arg_b; websocket_publish c;"),
        )
        .location("/b", "websocket_psubscribe a* b?; websocket_echo;")
        .location("/c", "websocket_publisher $uri;")
        .location("/d", "websocket_status;")
        .location(
            "/e",
            "websocket_redis redis://user:pw@127.0.0.1:1/3; websocket_subscribe a;",
        );
    let (is_fine, text) = conf.check();
    assert!(is_fine, "{text}");
    assert!(!text.contains("[warn]"), "{text}");
}

#[test]
fn envelopes_wrap_messages() {
    let redis = Redis::start();
    let location = |envelope: &str| {
        format!("websocket_subscribe f; websocket_psubscribe g*; websocket_envelope {envelope};")
    };
    let conf = Conf::with(&redis)
        .location("/off", &location("off"))
        .location("/json", &location("json"))
        .location("/redis", &location("redis"));
    let nginx = Nginx::start(conf);
    let [mut off, mut json, mut array] =
        ["/off", "/json", "/redis"].map(|t| Client::connect(&nginx, t));
    let hard = "\"quoted\" \\ \n\t\u{1} é \u{2028}";
    for message in ["hello", "", hard, r#"{"a":1}"#] {
        redis.publish("f", message);
        off.expect([message]);
        let value: serde_json::Value = serde_json::from_str(&json.text()).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({ "channel": "f", "data": message })
        );
        let value: serde_json::Value = serde_json::from_str(&array.text()).expect("JSON");
        assert_eq!(value, serde_json::json!(["message", "f", message]));
    }
    redis.publish("gg", "x");
    off.expect(["x"]);
    let value: serde_json::Value = serde_json::from_str(&json.text()).expect("JSON");
    assert_eq!(
        (&value["channel"], &value["data"]),
        (&"gg".into(), &"x".into())
    );
    array.expect([r#"["pmessage","g*","gg","x"]"#]);
}

#[test]
fn frames_are_text_or_binary_as_told() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .location("/auto", "websocket_subscribe f;")
        .location("/text", "websocket_subscribe f; websocket_frame text;")
        .location("/binary", "websocket_subscribe f; websocket_frame binary;");
    let nginx = Nginx::start(conf);
    let [mut auto, mut text, mut binary] =
        ["/auto", "/text", "/binary"].map(|t| Client::connect(&nginx, t));
    let not_utf8 = b"\xff\xfe".to_vec();
    redis.publish("f", &not_utf8);
    redis.publish("f", "é");
    assert_eq!(auto.message(), Message::binary(not_utf8.clone()));
    assert_eq!(auto.message(), Message::text("é"));
    assert_eq!(text.message(), Message::text("é"));
    assert_eq!(binary.message(), Message::binary(not_utf8));
    assert_eq!(binary.message(), Message::binary("é".as_bytes().to_vec()));
}

#[test]
fn what_a_client_says_is_published() {
    let redis = Redis::start();
    let directives = "websocket_publish room:$websocket_arg_room; \
        websocket_subscribe room:$websocket_arg_room;";
    let nginx = Nginx::start(Conf::with(&redis).location("/chat", directives));
    let mut listener = redis.session();
    listener.subscribe("room:one");
    let mut ada = Client::connect(&nginx, "/chat?room=one");
    let mut bob = Client::connect_over(&nginx, Transport::Wss, "/chat?room=one");
    let mut eve = Client::connect(&nginx, "/chat?room=two");
    for i in 0..100 {
        ada.send(&format!("message {i}"));
    }
    for i in 0..100 {
        let text = format!("message {i}");
        assert_eq!(listener.push(), ("room:one".to_owned(), text.clone()));
        ada.expect([&text]);
        bob.expect([&text]);
    }
    bob.send_message(Message::binary(vec![0, 255, b'\r', b'\n', 0]));
    assert_eq!(
        ada.message(),
        Message::binary(vec![0, 255, b'\r', b'\n', 0])
    );
    eve.quiet(std::time::Duration::from_millis(100));
}

#[test]
fn patterns_match_and_take_no_glob_from_a_variable() {
    let redis = Redis::start();
    let conf = Conf::with(&redis).location("/p", "websocket_psubscribe $websocket_arg_kind.*;");
    let nginx = Nginx::start(conf);
    let mut client = Client::connect(&nginx, "/p?kind=news");
    redis.publish("sport.football", "no");
    redis.publish("news.sport", "yes");
    client.expect(["yes"]);
    for glob in ["*", "n?ws", "n%5bea%5dws", "a%5cb"] {
        assert_eq!(nginx.handshake(&format!("/p?kind={glob}")), 400, "{glob}");
    }
}

#[test]
fn sizes_are_limited_at_the_limit() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .location("/message", "websocket_echo; websocket_max_message 1000;")
        .location(
            "/frame",
            "websocket_echo; websocket_max_message 1000; websocket_max_frame 100;",
        );
    let nginx = Nginx::start(conf);
    for transport in Transport::BOTH {
        let mut peer = Raw::accepted(&nginx, transport, "/message");
        peer.send_frame(&frames::binary([7; 1000]));
        peer.expect([frames::binary([7; 1000])]);
        peer.send_frame(&frames::binary([7; 1001]));
        peer.expect_close(1009);
        let mut peer = Raw::accepted(&nginx, transport, "/frame");
        peer.send_frame(&frames::binary([7; 100]));
        peer.expect([frames::binary([7; 100])]);
        peer.send_frame(&frames::binary([7; 101]));
        peer.expect_close(1009);
    }
}

#[test]
fn each_server_and_location_may_have_its_own_redis() {
    let (one, two) = (Redis::start(), Redis::start());
    let conf = Conf::push(&one).location(
        "/two",
        &format!(
            "websocket_redis {}; websocket_subscribe $websocket_arg_channel;",
            two.url()
        ),
    );
    let nginx = Nginx::start(conf);
    let mut first = Client::connect(&nginx, "/ws?channel=foo");
    let mut second = Client::connect(&nginx, "/two?channel=foo");
    assert_eq!(one.publish("foo", "from one"), 1);
    assert_eq!(two.publish("foo", "from two"), 1);
    first.expect(["from one"]);
    second.expect(["from two"]);
}

#[test]
fn settings_are_inherited_and_overridden() {
    let redis = Redis::start();
    let conf = Conf::with(&redis)
        .http("websocket_max_message 10;")
        .location("/inherits", "websocket_echo;")
        .location("/overrides", "websocket_echo; websocket_max_message 100;");
    let nginx = Nginx::start(conf);
    let mut peer = Raw::accepted(&nginx, Transport::Ws, "/inherits");
    peer.send_frame(&frames::text("eleven byte"));
    peer.expect_close(1009);
    let mut peer = Raw::accepted(&nginx, Transport::Ws, "/overrides");
    peer.send_frame(&frames::text("eleven byte"));
    peer.expect([frames::text("eleven byte")]);
}

#[test]
fn what_a_location_serves_is_not_inherited_by_one_within_it() {
    let redis = Redis::start();
    let nested =
        |name: &str, directives: &str| format!("location /chat/{name} {{ {directives} }}\n");
    let within = [
        nested("readonly", "websocket_subscribe room;"),
        nested("all", "websocket_psubscribe r*;"),
        nested("writeonly", "websocket_publish other;"),
        nested("echo", "websocket_echo;"),
        nested("nothing", ""),
    ];
    let chat = "websocket_subscribe room; websocket_publish room; websocket_echo;";
    let conf = Conf::with(&redis)
        .location("/chat", &format!("{chat}\n{}", within.concat()))
        .location(
            "/pub",
            "websocket_publisher room; location /pub/nothing { }",
        )
        .location("/status", "websocket_status; location /status/nothing { }");
    let nginx = Nginx::start(conf);
    let mut room = redis.session();
    room.subscribe("room");
    let mut other = redis.session();
    other.subscribe("other");
    // No one hears a client that may not send: what is published after it arrives first.
    for reader in ["/chat/readonly", "/chat/all", "/chat/echo"] {
        let mut client = Client::connect(&nginx, reader);
        client.send("unheard");
        if reader == "/chat/echo" {
            client.expect(["unheard"]);
        }
        redis.publish("room", reader);
        assert_eq!(room.push().1, reader);
        if reader != "/chat/echo" {
            client.expect([reader]);
        }
        client.close();
    }
    let mut writer = Client::connect(&nginx, "/chat/writeonly");
    writer.send("hello");
    assert_eq!(other.push().1, "hello");
    redis.publish("room", "not for writers");
    assert_eq!(room.push().1, "not for writers");
    writer.close();
    for nothing in ["/chat/nothing", "/pub/nothing", "/status/nothing"] {
        assert_eq!(nginx.handshake(nothing), 404, "{nothing}");
    }
}

#[test]
fn a_block_within_a_location_keeps_all_that_it_serves_or_serves_its_own() {
    let redis = Redis::start();
    let chat = "websocket_subscribe room; websocket_publish room; websocket_max_message 10;
        if ($arg_large) { websocket_max_message 100; }
        if ($arg_read) { websocket_subscribe room; }
        limit_except GET { deny all; }";
    let nginx = Nginx::start(Conf::with(&redis).location("/chat", chat));
    let mut room = redis.session();
    room.subscribe("room");
    let mut ada = Client::connect(&nginx, "/chat");
    let mut bob = Client::connect(&nginx, "/chat?large=1");
    let mut eve = Client::connect(&nginx, "/chat?read=1");
    eve.send("unheard");
    bob.send("eleven byte");
    assert_eq!(room.push().1, "eleven byte");
    ada.send("hello");
    for client in [&mut ada, &mut bob, &mut eve] {
        client.expect(["eleven byte", "hello"]);
    }
    assert_eq!(room.push().1, "hello");
}
