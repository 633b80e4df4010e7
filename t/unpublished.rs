//! A client whose message was not published is told so by Close 1013, whenever that becomes known.
//! No other client is.

use t::frames::{self, CLOSE, Frame};
use t::{Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Transport, until};

fn status(nginx: &Nginx, pointer: &str) -> u64 {
    let status = nginx.get("/status").json();
    status.pointer(pointer).and_then(|v| v.as_u64()).unwrap()
}

fn talking(url: &str) -> Conf {
    Conf::with_url(url)
        .http("websocket_gap keep;")
        .location("/say", "websocket_publish $websocket_arg_channel;")
        .location("/pub", "websocket_publisher $websocket_arg_channel;")
        .location("/status", "websocket_status;")
}

/// This client's Close must have code 1013 and this reason.
#[track_caller]
fn expect_told(raw: &mut Raw, reason: &str) {
    let Frame {
        opcode, payload, ..
    } = raw.frame();
    assert_eq!(opcode, CLOSE);
    let told = String::from_utf8_lossy(&payload[2..]).into_owned();
    assert_eq!(
        (&payload[..2], &*told),
        (&1013_u16.to_be_bytes()[..], reason)
    );
    assert_eq!(raw.end(), t::End::Clean);
}

#[test]
fn one_whose_channel_an_acl_forbids_is_told_and_others_talk_on() {
    let redis = Redis::start();
    let user = ["ACL", "SETUSER", "guest", "on", ">secret", "+@all", "~*"];
    let channels = ["resetchannels", "&ok", "&ngx_ws_probe:*"];
    redis.command(&[&user[..], &channels].concat());
    let nginx = Nginx::start(talking(&redis.url().replace("//", "//guest:secret@")));
    let mut listener = redis.session();
    listener.subscribe("ok");
    for transport in Transport::BOTH {
        let mut may = Client::connect_over(&nginx, transport, "/say?channel=ok");
        let mut may_not = Raw::accepted(&nginx, transport, "/say?channel=other");
        // Several messages are lost, and the client is told once.
        may_not.send(frames::text("lost").wire().repeat(10));
        expect_told(&mut may_not, "redis forbids the channel");
        may.send("hello");
        assert_eq!(listener.push().1, "hello");
        may.close();
    }
    until("all are counted", || {
        status(&nginx, "/counters/publish_failed") == 20
    });
    let warned = nginx.count_log("message was not published: NOPERM");
    assert!((1..=4).contains(&warned), "{warned} lines");
}

#[test]
fn those_whose_answer_is_outstanding_when_redis_goes_are_told_and_no_others() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(talking(&proxy.url()));
    let mut listener = redis.session();
    listener.subscribe("said");
    let target = "/say?channel=said";
    let mut answered = Client::connect(&nginx, target);
    answered.send("answered");
    assert_eq!(listener.push().1, "answered");
    let mut silent = Client::connect(&nginx, target);
    until("it is answered", || {
        nginx.get("/status").json()["redis"][0]["unanswered"] == 0
    });
    proxy.hold_replies(true);
    let mut waiting = Transport::BOTH.map(|over| Raw::accepted(&nginx, over, target));
    for (number, raw) in waiting.iter_mut().enumerate() {
        raw.send(
            frames::text(format!("outstanding {number}"))
                .wire()
                .repeat(3),
        );
        for _ in 0..3 {
            assert_eq!(listener.push().1, format!("outstanding {number}"));
        }
    }
    // One client has gone when the answer is known, and another has its slot.
    let mut gone = Raw::accepted(&nginx, Transport::Ws, target);
    gone.send_frame(&frames::text("gone"));
    assert_eq!(listener.push().1, "gone");
    let connections = status(&nginx, "/connections");
    gone.reset();
    until("it has gone", || {
        status(&nginx, "/connections") < connections
    });
    let mut heir = Client::connect(&nginx, target);
    proxy.cut();
    proxy.hold_replies(false);
    for raw in &mut waiting {
        expect_told(raw, "redis went away before it answered");
    }
    assert_eq!(status(&nginx, "/counters/publish_failed"), 7);
    until("redis is back", || {
        nginx.get("/status").json()["redis"][0]["publisher"] == true
    });
    for (client, text) in [(&mut answered, "a"), (&mut silent, "b"), (&mut heir, "c")] {
        client.send(text);
        assert_eq!(listener.push().1, text);
    }
}

/// One client has gone before Redis answers, and its id now belongs to a client that publishes
/// nothing. The log names channels, so such clients have notes, too.
#[test]
fn who_publishes_nothing_is_not_told_of_the_message_of_one_that_has_left() {
    let redis = Redis::start();
    let user = ["ACL", "SETUSER", "guest", "on", ">secret", "+@all", "~*"];
    let channels = ["resetchannels", "&ok", "&ngx_ws_probe:*"];
    redis.command(&[&user[..], &channels].concat());
    let proxy = Proxy::start(redis.port());
    let conf = talking(&proxy.url().replace("//", "//guest:secret@"))
        .access_log("$websocket_channel")
        .location("/echo", "websocket_echo;")
        .location("/hear", "websocket_subscribe ok;");
    let nginx = Nginx::start(conf);
    let _subscribes = Client::connect(&nginx, "/hear");
    // A link that is still logging in when its replies are held never comes up.
    nginx.until_log("publisher link is up");
    let ways = [
        ("/echo", false),
        ("/echo", true),
        ("/hear", false),
        ("/hear", true),
    ];
    for (round, (target, is_cut)) in (1..).zip(ways) {
        proxy.hold_replies(true);
        let forbidden = format!("forbidden-{round}");
        let mut gone = Raw::accepted(&nginx, Transport::Ws, &format!("/say?channel={forbidden}"));
        gone.send_frame(&frames::text("lost"));
        proxy.until_command("PUBLISH", &forbidden);
        let connections = status(&nginx, "/connections");
        gone.reset();
        until("it has gone", || {
            status(&nginx, "/connections") < connections
        });
        let mut heir = Client::connect(&nginx, target);
        if is_cut {
            proxy.cut();
        }
        proxy.hold_replies(false);
        until("the message is lost", || {
            status(&nginx, "/counters/publish_failed") == round
        });
        until("redis is there", || {
            let redis = &nginx.get("/status").json()["redis"][0];
            redis["publisher"] == true && redis["subscriber"] == true
        });
        redis.until_subscribers("ok", 1);
        match target {
            "/echo" => heir.send("hello"),
            _ => drop(redis.publish("ok", "hello")),
        }
        heir.expect(["hello"]);
    }
    assert_eq!(nginx.count_log("websocket closed with 1013"), 0);
}

/// More clients than are told in one round of the event loop.
#[test]
fn hundreds_are_told_while_http_is_served() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let nginx = Nginx::start(talking(&proxy.url()));
    let mut listener = redis.session();
    listener.subscribe("said");
    let mut crowd = Crowd::accepted(&nginx, 1_200, |_| "/say?channel=said".to_owned());
    nginx.until_log("publisher link is up");
    proxy.hold_replies(true);
    for index in 0..1_200 {
        crowd.send(index, &frames::text("outstanding"));
    }
    (0..1_200).for_each(|_| drop(listener.push()));
    proxy.cut();
    proxy.hold_replies(false);
    crowd.until("all are told", |all| {
        all.iter().all(|m| m.close_code == Some(1013) && m.ended)
    });
    assert_eq!(status(&nginx, "/counters/publish_failed"), 1_200);
}
