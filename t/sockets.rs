//! The options that the module sets on a client's socket: no delay (`TCP_NODELAY`), and how much it
//! may hold unsent (`TCP_NOTSENT_LOWAT`). The tests do nothing where the system does not allow
//! access to another process's sockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use socket2::Socket;
use t::{Client, Conf, Crowd, Nginx, Raw, Redis, Transport, frames, process, until};

/// More than nginx's queue of connections that wait for `accept`. Connections that were in the
/// queue when the option was set on the listener set it themselves, and they are among the first of
/// these.
const MORE_THAN_A_QUEUE: usize = 600;

#[derive(Debug, PartialEq)]
struct Options {
    no_delay: bool,
    most_unsent: u32,
}

fn options(socket: &Socket) -> Options {
    Options {
        no_delay: socket.tcp_nodelay().unwrap(),
        most_unsent: socket.tcp_notsent_lowat().unwrap(),
    }
}

/// Options of the sockets of all clients.
fn of_all(nginx: &Nginx) -> Option<Vec<Options>> {
    let sockets = process::accepted_at(nginx.worker(), nginx.http().port())?;
    Some(sockets.iter().map(options).collect())
}

/// Waits until there are this many sockets and `is_right` holds for all. Does nothing where access
/// is not allowed.
#[track_caller]
fn come_to_be(nginx: &Nginx, count: usize, is_right: impl Fn(&Options) -> bool) {
    if of_all(nginx).is_none() {
        return;
    }
    until("the sockets are as they should be", || {
        let all = of_all(nginx).expect("as before");
        all.len() == count && all.iter().all(&is_right)
    });
}

#[test]
fn no_client_is_delayed_and_each_is_bounded_before_its_first_message() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_notsent 32k;"));
    let mut crowd = Crowd::accepted(&nginx, MORE_THAN_A_QUEUE, |_| "/ws?channel=foo".to_owned());
    come_to_be(&nginx, MORE_THAN_A_QUEUE, |socket| socket.no_delay);
    redis.publish("foo", "hello");
    crowd.until("all have heard", |all| {
        all.iter().all(|member| member.texts() == ["hello"])
    });
    let bounded = Options {
        no_delay: true,
        most_unsent: 32 << 10,
    };
    if let Some(all) = of_all(&nginx) {
        assert!(all.iter().all(|socket| *socket == bounded));
    }
}

#[test]
fn a_client_is_bounded_before_its_own_frames() {
    let redis = Redis::start();
    let conf = Conf::push(&redis).http("websocket_notsent 32k;");
    let nginx = Nginx::start(conf.location("/echo", "websocket_echo; websocket_notsent 16k;"));
    let mut echo = Client::connect(&nginx, "/echo");
    echo.send("hello");
    assert_eq!(echo.text(), "hello");
    come_to_be(&nginx, 1, |socket| socket.most_unsent == 16 << 10);
    drop(echo);
    let mut pinger = Raw::accepted(&nginx, Transport::Ws, "/ws?channel=foo");
    pinger.send_frame(&frames::ping("x"));
    pinger.expect([frames::pong("x")]);
    come_to_be(&nginx, 1, |socket| socket.most_unsent == 32 << 10);
}

/// Clients that come and go without a message do not get a bound one by one. Once enough have come,
/// those that stay have it.
#[test]
fn many_that_hear_nothing_are_bounded_too() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("websocket_notsent 32k;"));
    let stay = Crowd::accepted(&nginx, 10, |_| "/ws?channel=foo".to_owned());
    for _ in 0..2 {
        drop(Crowd::accepted(&nginx, MORE_THAN_A_QUEUE, |_| {
            "/ws?channel=bar".to_owned()
        }));
    }
    come_to_be(&nginx, stay.members().len(), |socket| {
        socket.most_unsent == 32 << 10
    });
}

/// `tcp_nodelay off` is the operator's choice for plain HTTP.
#[test]
fn plain_http_is_delayed_where_nginx_is_told_to() {
    let redis = Redis::start();
    let nginx = Nginx::start(Conf::push(&redis).http("tcp_nodelay off;"));
    let client = Client::connect(&nginx, "/ws?channel=foo");
    come_to_be(&nginx, 1, |socket| socket.no_delay);
    drop(client);
    let mut plain = TcpStream::connect(nginx.http()).unwrap();
    plain
        .write_all(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert!(plain.read(&mut [0; 1024]).unwrap() > 0);
    come_to_be(&nginx, 1, |socket| !socket.no_delay);
}
