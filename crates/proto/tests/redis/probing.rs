//! Probes: checks that published messages are delivered.

use proto::redis::{PROBE_PREFIX, SubscriptionKind};

use super::pair::{Pair, Told};

const CHANNEL: &str = "ngx_ws_probe:0123456789abcdef0123456789abcdef";

fn lost(cause: &str) -> [Told; 2] {
    [
        Told::Down(cause.to_owned()),
        Told::Disconnect(cause.to_owned()),
    ]
}

/// A subscriber at the time of its first probe, which is not passed on to the server.
fn at_the_probe() -> Pair {
    let mut pair = Pair::subscriber();
    pair.carries_probes = false;
    pair.wait(10_000);
    pair.expect(&[Told::Probe(CHANNEL.to_owned(), "1".to_owned())]);
    pair
}

#[test]
fn probes_that_are_heard_go_unnoticed() {
    let mut pair = Pair::subscriber();
    pair.wait(600_000);
    pair.expect(&[]);
    assert!(pair.server.taken("PING").len() >= 60);
}

#[test]
fn a_probe_that_is_published_and_not_delivered_ends_the_link() {
    let mut pair = at_the_probe();
    pair.link.handle_probe_reply(Ok(0), pair.now);
    pair.run();
    pair.wait(4_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    pair.expect(&lost("what is published is not delivered"));
}

#[test]
fn a_probe_heard_before_its_publish_is_answered_is_heard() {
    let mut pair = at_the_probe();
    pair.server.publish(CHANNEL.as_bytes(), b"1");
    pair.run();
    pair.link.handle_probe_reply(Ok(1), pair.now);
    pair.wait(9_000);
    pair.expect(&[]);
}

#[test]
fn an_older_probe_does_not_stand_for_the_newer() {
    let mut pair = at_the_probe();
    pair.link
        .handle_probe_reply(Err("link lost: reset"), pair.now);
    pair.wait(10_000);
    pair.expect(&[Told::Probe(CHANNEL.to_owned(), "2".to_owned())]);
    pair.link.handle_probe_reply(Ok(1), pair.now);
    pair.server.publish(CHANNEL.as_bytes(), b"1");
    pair.run();
    pair.wait_in_silence(5_000);
    pair.expect(&lost("what is published is not delivered"));
}

#[test]
fn a_publisher_that_is_away_is_not_the_subscribers_fault() {
    let mut pair = at_the_probe();
    for round in 2..6 {
        pair.link.handle_probe_reply(Err("away"), pair.now);
        pair.wait(10_000);
        pair.expect(&[Told::Probe(CHANNEL.to_owned(), round.to_string())]);
    }
}

#[test]
fn a_worker_that_is_behind_with_reading_does_not_take_the_link_for_deaf() {
    let mut pair = at_the_probe();
    pair.subscribe("foo", 1);
    pair.run();
    // 40 KB of messages precede the probe.
    for _ in 0..400 {
        pair.server.publish(b"foo", &[b'x'; 64]);
    }
    pair.server.publish(CHANNEL.as_bytes(), b"1");
    pair.link.handle_probe_reply(Ok(1), pair.now);
    pair.send();
    pair.serve();
    while !pair.server.replies.is_empty() {
        pair.wait_in_silence(1_000);
        pair.deliver(3_000);
    }
    assert!(
        !pair
            .told()
            .iter()
            .any(|told| matches!(told, Told::Disconnect(_)))
    );
    assert!(pair.link.is_up());
}

#[test]
fn a_stopped_server_is_found_out_by_ping() {
    let mut pair = Pair::subscriber();
    pair.carries_probes = false;
    pair.wait_in_silence(10_000);
    pair.told();
    pair.wait_in_silence(4_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    pair.expect(&lost("no reply in time"));
}

/// A worker reads no more while its clients have yet to be offered what it has read. The server's
/// answers wait in the socket.
#[test]
fn a_link_that_is_not_read_is_not_taken_for_a_silent_one() {
    let mut pair = at_the_probe();
    for _ in 0..30 {
        pair.wait_in_silence(1_000);
        pair.link.handle_unread(pair.now);
    }
    pair.expect(&[2, 3, 4].map(|round| Told::Probe(CHANNEL.to_owned(), round.to_string())));
    pair.wait_in_silence(4_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    pair.expect(&lost("no reply in time"));
}

#[test]
fn a_link_that_is_not_read_is_not_taken_for_deaf() {
    let mut pair = at_the_probe();
    pair.link.handle_probe_reply(Ok(1), pair.now);
    // The fence has passed, and the probe comes after it.
    pair.run();
    for _ in 0..8 {
        pair.wait_in_silence(1_000);
        pair.link.handle_unread(pair.now);
    }
    pair.expect(&[]);
    pair.wait_in_silence(4_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    pair.expect(&lost("what is published is not delivered"));
}

#[test]
fn an_acl_without_the_probes_channel_is_told_once_and_ping_has_to_do() {
    let mut pair = Pair::new(proto::redis::Role::Subscriber, "redis://h");
    pair.server.forbidden.insert(CHANNEL.as_bytes().to_vec());
    pair.connect();
    pair.subscribe("foo", 1);
    pair.wait(60_000);
    let told = pair.told();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(matches!(&told[1], Told::Warning(why) if why.contains("ngx_ws_probe:*")));
    assert_eq!(told[2], Told::Confirmed(1));
    pair.cut("reset");
    pair.wait(60_000);
    assert!(
        !pair
            .told()
            .iter()
            .any(|told| matches!(told, Told::Warning(_) | Told::Probe(..)))
    );
    pair.wait_in_silence(16_000);
    assert!(
        pair.told()
            .contains(&Told::Disconnect("no reply in time".to_owned()))
    );
}

#[test]
fn an_acl_that_forbids_publishing_the_probe_is_told_once() {
    let mut pair = at_the_probe();
    pair.link
        .handle_probe_reply(Err("NOPERM no permissions"), pair.now);
    pair.drain();
    assert!(matches!(pair.told()[..], [Told::Warning(_)]));
    pair.wait(60_000);
    pair.expect(&[]);
}

#[test]
fn no_pattern_shows_clients_a_probe() {
    let mut pair = Pair::subscriber();
    pair.want(SubscriptionKind::Pattern, "*", 1);
    pair.run();
    pair.told();
    pair.server.publish(CHANNEL.as_bytes(), b"1");
    pair.server
        .publish(&[PROBE_PREFIX, b"another worker's"].concat(), b"1");
    pair.wait(60_000);
    pair.expect(&[]);
}

#[test]
fn a_probe_of_a_lost_connection_proves_nothing() {
    let mut pair = at_the_probe();
    pair.cut("reset");
    pair.link.handle_probe_reply(Ok(1), pair.now);
    pair.told();
    pair.wait(200);
    pair.link.handle_probe_reply(Ok(1), pair.now);
    pair.wait(9_000);
    assert!(matches!(pair.told()[..], [Told::Up(Some(_))]));
}
