//! The harness itself: what it promises to the tests, on an nginx without the module.

use std::time::Duration;
use t::{Conf, Nginx, Proxy, Redis, Reply, Request, frames, http, http2, process};

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
fn a_bad_configuration_is_told_by_its_line() {
    let (is_fine, text) = Conf::without_module().http("websocket_nonsense on;").check();
    assert!(!is_fine);
    assert!(text.contains("unknown directive \"websocket_nonsense\""), "{text}");
}

#[test]
fn http2_statuses_are_understood() {
    let nginx = Nginx::start(Conf::without_module().http2().location("/bad", "return 400;"));
    assert_eq!(http2::get(nginx.http2(), "/plain", &[]), 200);
    assert_eq!(http2::get(nginx.http2(), "/bad", &[("sec-websocket-version", "13")]), 400);
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
    t::never("an answer", Duration::from_millis(100), || answer.is_finished());
    proxy.hold_commands(false);
    assert_eq!(answer.join().unwrap(), Reply::Integer(0));
}

#[test]
fn frames_survive_their_wire() {
    for n in [0, 125, 126, 65535, 65536] {
        let frame = frames::binary(vec![7; n]).more();
        let wire = frame.unmasked();
        assert_eq!(frames::Frame::parse(&wire), Some((frame.clone(), wire.len())));
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
    assert_eq!(http::read(&mut stream, &mut Vec::new()).unwrap().text(), "plain");
}
