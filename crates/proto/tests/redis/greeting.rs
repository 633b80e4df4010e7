//! Connecting and reconnecting.

use proto::redis::Role;

use super::pair::{Pair, Told};

#[test]
fn a_link_is_up_when_the_server_has_answered_a_ping() {
    let mut pair = Pair::new(Role::Publisher, "redis://h");
    assert_eq!(pair.link.output(), b"");
    pair.connect();
    pair.send();
    assert!(!pair.link.is_up());
    pair.run();
    assert!(pair.link.is_up());
    pair.expect(&[Told::Up(None)]);
    let names: Vec<_> = pair
        .server
        .log
        .iter()
        .map(|words| words[0].clone())
        .collect();
    assert_eq!(names, [&b"PING"[..], b"CLIENT"]);
}

#[test]
fn a_connection_that_does_not_come_is_given_up_after_five_seconds() {
    let mut pair = Pair::new(Role::Subscriber, "redis://h");
    pair.wait_in_silence(4_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    let cause = "connect timed out".to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
}

#[test]
fn a_server_that_does_not_greet_back_is_given_up() {
    let mut pair = Pair::new(Role::Subscriber, "redis://h");
    pair.connect();
    pair.wait_in_silence(9_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    let cause = "no reply in time".to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
}

#[test]
fn retries_are_silent_and_ever_slower_until_the_server_is_back() {
    let mut pair = Pair::new(Role::Subscriber, "redis://h");
    let begun = pair.now;
    let mut longest = 0;
    for _ in 0..40 {
        pair.wants_socket = false;
        pair.cut("connection refused");
        let failed = pair.now;
        pair.now = pair.link.deadline().unwrap();
        longest = longest.max(pair.now - failed);
        pair.wait_in_silence(0);
        assert!(pair.wants_socket);
    }
    assert!((2_000..=5_000).contains(&longest), "{longest}");
    pair.expect(&[Told::Down("connection refused".to_owned())]);
    let down_for = pair.now - begun;
    pair.connect();
    pair.run();
    pair.expect(&[Told::Up(Some(down_for))]);
}

#[test]
fn a_short_loss_after_a_stable_time_is_followed_by_a_quick_retry() {
    for _ in 0..20 {
        let mut pair = Pair::subscriber();
        pair.wait(11_000);
        pair.cut("reset");
        assert!(pair.link.deadline().unwrap() - pair.now <= 100);
    }
}

#[test]
fn a_server_that_is_not_ready_is_tried_again() {
    for error in [
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-NOAUTH Authentication required.",
        "-ERR max number of clients reached",
        "-DENIED Redis is running in protected mode",
    ] {
        let mut pair = Pair::new(Role::Subscriber, "redis://h");
        pair.server.errors.insert("PING", error);
        pair.connect();
        pair.run();
        let cause = error[1..].to_owned();
        pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
        pair.server.errors.clear();
        pair.wait(200);
        assert!(pair.link.is_up(), "{error}");
    }
}

#[test]
fn a_server_that_turns_connections_away_unasked_is_quoted() {
    let mut pair = Pair::new(Role::Subscriber, "redis://h");
    pair.connect();
    pair.server.say("-ERR max number of clients reached");
    pair.deliver(usize::MAX);
    let cause = "ERR max number of clients reached".to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
}

#[test]
fn errors_that_leave_pub_sub_working_are_no_hindrance() {
    for (command, error) in [
        (
            "PING",
            "-NOPERM this user has no permissions to run the 'ping' command",
        ),
        (
            "PING",
            "-MISCONF Redis is configured to save RDB snapshots, but it can't",
        ),
        ("CLIENT", "-ERR unknown command 'CLIENT'"),
    ] {
        let mut pair = Pair::new(Role::Publisher, "redis://h");
        pair.server.errors.insert(command, error);
        pair.connect();
        pair.wait(60_000);
        pair.expect(&[Told::Up(None)]);
    }
}

#[test]
fn what_is_no_resp_ends_the_connection() {
    for (bytes, cause) in [
        ("HTTP/1.1 400 Bad Request", "reply begins with byte 0x48"),
        (
            "*3\r\n$7\r\nmessage\r\n$1\r\nfoo",
            "bulk string without its end",
        ),
        ("$999999999999", "too long bulk string"),
        ("+surplus", "unexpected reply"),
        (":1", "unexpected reply"),
        (
            "*3\r\n$9\r\nsubscribe\r\n$3\r\nfoo\r\n:1",
            "unexpected reply",
        ),
    ] {
        let mut pair = Pair::subscriber();
        pair.server.say(bytes);
        pair.run();
        let cause = cause.to_owned();
        pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
    }
}

#[test]
fn control_bytes_of_an_error_do_not_reach_the_log() {
    let mut pair = Pair::subscriber();
    pair.server.say("-ERR a\tb\x1b[31m");
    pair.run();
    let cause = "ERR a?b?[31m".to_owned();
    pair.expect(&[Told::Down(cause.clone()), Told::Disconnect(cause)]);
}

#[test]
fn what_a_closed_socket_still_reports_is_ignored() {
    let mut pair = Pair::subscriber();
    pair.cut("reset");
    pair.told();
    let deadline = pair.link.deadline();
    pair.cut("reset again");
    pair.link.handle_connected(pair.now);
    pair.drain();
    pair.expect(&[]);
    assert_eq!(pair.link.deadline(), deadline);
    assert_eq!(pair.link.output(), b"");
}
