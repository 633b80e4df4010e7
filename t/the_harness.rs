//! The harness itself: what it promises the tests, with an nginx without the module.

use std::collections::HashSet;
use std::time::Duration;
use t::{Browser, Client, Conf, Crowd, Nginx, Proxy, Raw, Redis, Reply, Request, Transport};
use t::{frames, http, http2, ports, process};

#[test]
fn a_plain_nginx_serves_reloads_and_quits_unblamed() {
    let mut nginx = Nginx::start(Conf::without_module().workers(2));
    assert_eq!(nginx.get("/plain").text(), "plain");
    let before = nginx.workers();
    nginx.reload();
    assert!(nginx.workers().iter().all(|pid| !before.contains(pid)));
    assert_eq!(nginx.get("/plain").status, 200);
    nginx.finish();
}

#[test]
#[should_panic(expected = "exited on signal 9")]
fn a_worker_that_dies_fails_its_test() {
    let nginx = Nginx::start(Conf::without_module());
    process::signal(nginx.worker(), process::Signal::KILL);
    nginx.until_log("exited on signal 9");
    nginx.finish();
}

#[test]
fn a_port_is_given_once() {
    let given: HashSet<u16> = (0..1_000).map(|_| ports::free()).collect();
    assert_eq!(given.len(), 1_000);
}

#[test]
fn a_bad_configuration_is_told_by_its_line() {
    let (is_fine, text) = Conf::without_module()
        .http("websocket_nonsense on;")
        .check();
    assert!(!is_fine);
    assert!(
        text.contains("unknown directive \"websocket_nonsense\""),
        "{text}"
    );
}

#[test]
fn http2_statuses_are_understood() {
    let nginx = Nginx::start(
        Conf::without_module()
            .http2()
            .location("/bad", "return 400;"),
    );
    assert_eq!(http2::get(nginx.http2(), "/plain", &[]), 200);
    assert_eq!(
        http2::get(nginx.http2(), "/bad", &[("sec-websocket-version", "13")]),
        400
    );
}

#[test]
fn redis_is_killed_stopped_and_restarted() {
    let mut redis = Redis::start();
    assert_eq!(redis.publish("foo", "nobody hears"), 0);
    let mut session = redis.session();
    session.subscribe("foo");
    assert_eq!(redis.publish("foo", "hello"), 1);
    assert_eq!(session.push(), ("foo".to_owned(), "hello".to_owned()));
    redis.stop();
    redis.cont();
    redis.restart();
    assert!(session.try_command(&["PING"]).is_err());
    assert_eq!(redis.command(&["PING"]), Reply::Text("PONG".to_owned()));
}

#[test]
fn the_proxy_holds_and_lets_go() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let mut session = t::Session::connect(proxy.port()).unwrap();
    proxy.hold_commands(true);
    let answer = std::thread::spawn(move || session.command(&["PUBLISH", "foo", "hello"]));
    proxy.until_command("PUBLISH", "foo");
    t::never("an answer", Duration::from_millis(100), || {
        answer.is_finished()
    });
    proxy.hold_commands(false);
    assert_eq!(answer.join().unwrap(), Reply::Integer(0));
}

#[test]
fn frames_survive_their_wire() {
    for n in [0, 125, 126, 65535, 65536] {
        let frame = frames::binary(vec![7; n]).more();
        let wire = frame.unmasked();
        assert_eq!(
            frames::Frame::parse(&wire),
            Some((frame.clone(), wire.len()))
        );
        assert_eq!(frames::Frame::parse(&wire[..wire.len() - 1]), None);
        assert_eq!(frame.wire().len(), wire.len() + 4);
    }
    assert_eq!(frames::close(1009, "").wire()[..2], frames::hex("88 82"));
}

#[test]
fn tls_is_spoken_and_trusted() {
    use std::io::Write;
    let nginx = Nginx::start(Conf::without_module());
    let mut stream = t::Stream::tls(nginx.https()).unwrap();
    stream.write_all(&Request::get("/plain").wire()).unwrap();
    assert_eq!(
        http::read(&mut stream, &mut Vec::new()).unwrap().text(),
        "plain"
    );
}

/// An nginx that proxies `/echo` to tungstenite's server. The clients must work with it.
fn echo_by_tungstenite() -> Nginx {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || echo(tungstenite::accept(stream.unwrap()).unwrap()));
        }
    });
    let proxy = format!(
        "proxy_pass http://{upstream}; proxy_http_version 1.1; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
    );
    Nginx::start(Conf::without_module().location("/echo", &proxy))
}

fn echo(mut socket: tungstenite::WebSocket<std::net::TcpStream>) {
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            let _ = socket.send(message);
        }
    }
}

#[test]
fn the_clients_get_on_with_a_server_of_others() {
    let nginx = echo_by_tungstenite();
    for transport in Transport::BOTH {
        let mut client = Client::connect_over(&nginx, transport, "/echo");
        client.send("hello");
        client.expect(["hello"]);
        client.quiet(Duration::from_millis(50));
        client.close();
        let mut raw = Raw::accepted(&nginx, transport, "/echo");
        raw.send_frame(&frames::text("Hel").more());
        raw.send_frame(&frames::ping("x"));
        raw.send_frame(&frames::cont("lo"));
        raw.expect([frames::pong("x"), frames::text("Hello")]);
        raw.quiet(Duration::from_millis(50));
        raw.send_frame(&frames::close(1000, ""));
        raw.expect_close(1000);
    }
}

#[test]
fn a_crowd_talks_and_is_closed() {
    let nginx = echo_by_tungstenite();
    let mut crowd = Crowd::accepted(&nginx, 50, |_| "/echo".to_owned());
    for i in 0..50 {
        crowd.send(i, &frames::text(i.to_string()));
        crowd.send(i, &frames::close(4000, ""));
    }
    crowd.until("all have ended", |all| all.iter().all(|m| m.ended));
    for (i, member) in crowd.members().iter().enumerate() {
        assert_eq!(
            (member.texts(), member.close_code),
            (vec![i.to_string()], Some(4000))
        );
    }
}

#[test]
fn a_browser_shows_a_page() {
    let pages = t::settings::examples().join("pages");
    let types = "types { text/html html; text/css css; application/javascript js; }";
    let root = format!("root {};", pages.display());
    let nginx = Nginx::start(Conf::without_module().http(types).server(&root));
    let browser = Browser::start(800, 600);
    browser.open(&format!(
        "http://localhost:{}/push.html?channel=foo",
        nginx.http().port()
    ));
    browser.fill("#channel", "bar");
    browser.until_text("#command", "publish bar hello");
    browser.click("#disconnect");
    browser.until_state("closed");
    let picture = nginx.dir().join("page.png");
    browser.picture(&picture);
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
}
