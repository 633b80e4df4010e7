//! The kinds of address that `websocket_redis` accepts: users and passwords, databases, Unix
//! sockets, TLS.

use t::{Client, Conf, Nginx, Redis, Request, certificate, until};

/// Subscribes and publishes through nginx with this address.
fn works(redis: &Redis, url: &str) {
    let conf = Conf::push_url(url).location("/pub", "websocket_publisher foo;");
    let nginx = Nginx::start(conf);
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    redis.publish("foo", "by Redis");
    client.expect(["by Redis"]);
    assert_eq!(nginx.send(&Request::post("/pub", "by nginx")).status, 200);
    client.expect(["by nginx"]);
}

#[test]
fn host_names_databases_and_valkey() {
    let redis = Redis::start();
    let port = redis.port();
    works(&redis, &format!("redis://localhost:{port}"));
    works(&redis, &format!("redis://127.0.0.1:{port}/3"));
    works(&redis, &format!("valkey://127.0.0.1:{port}/0"));
}

#[test]
fn a_unix_socket() {
    let redis = Redis::start();
    works(&redis, &format!("unix://{}", redis.socket()));
}

#[test]
fn a_user_of_its_own() {
    let redis = Redis::start();
    redis.command(&[
        "ACL", "SETUSER", "web", "on", ">s3cr%t", "+@all", "~*", "&*",
    ]);
    works(
        &redis,
        &format!("redis://web:s3cr%25t@127.0.0.1:{}", redis.port()),
    );
}

#[test]
fn a_password_right_and_wrong() {
    let redis = Redis::start_with(&["--requirepass", "right", "--protected-mode", "no"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    let nginx = Nginx::start(Conf::push_url(&url("hunter2")));
    until("it is refused", || {
        nginx.handshake("/ws?channel=foo") == 503
    });
    nginx.until_log("WRONGPASS");
    assert_eq!(nginx.count_log("hunter2"), 0, "no password in the log");
    drop(nginx);
    let nginx = Nginx::start(Conf::push_url(&url("right")));
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let mut session = redis.session();
    session.command(&["AUTH", "right"]);
    session.publish("foo", "hello");
    client.expect(["hello"]);
}

#[test]
fn a_database_that_is_not_there_is_told() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push_url(&format!("{}/99", redis.url())));
    until("it is refused", || {
        nginx.handshake("/ws?channel=foo") == 503
    });
    nginx.until_log("DB index is out of range");
}

#[test]
fn tls_trusted_without_check_and_refused_with_it() {
    let (redis, port) = redis_with_tls();
    works(&redis, &format!("rediss://localhost:{port}/#insecure"));
    // No authority signed this certificate.
    let mut nginx = Nginx::start(Conf::push_url(&format!("rediss://localhost:{port}")));
    // nginx's own message and level.
    nginx.expect_log("certificate verify failed");
    until("it is refused", || {
        nginx.handshake("/ws?channel=foo") == 503
    });
    nginx.until_log("certificate");
}

fn redis_with_tls() -> (Redis, u16) {
    let (tls, port) = (certificate(), t::ports::free());
    let [pem, key] = [&tls.certificate, &tls.key].map(|path| path.to_str().unwrap());
    let listener = ["--tls-port", &port.to_string(), "--tls-auth-clients", "no"];
    let files = [
        "--tls-cert-file",
        pem,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        pem,
    ];
    (
        Redis::start_with(&[&listener[..], &files[..]].concat()),
        port,
    )
}
