//! The publisher's link.

use proto::redis::{NotPublished, PROBE_TOKEN, Role};

use super::pair::{Pair, Told};

#[test]
fn publishes_are_pipelined_and_answered_in_order() {
    let mut pair = Pair::publisher();
    pair.server.receivers = 3;
    for token in 0..5 {
        pair.link
            .publish(b"foo", format!("{token}").as_bytes(), token, pair.now)
            .unwrap();
    }
    assert!(pair.link.owes());
    pair.send();
    pair.serve();
    assert_eq!(pair.server.taken("PUBLISH").len(), 5);
    pair.run();
    pair.expect(
        &(0..5)
            .map(|token| Told::Published(token, 3))
            .collect::<Vec<_>>(),
    );
    assert!(!pair.link.owes());
}

#[test]
fn one_message_refused_does_not_touch_the_next() {
    let mut pair = Pair::publisher();
    pair.server
        .errors
        .insert("PUBLISH", "-NOPERM no access to the channel");
    pair.link.publish(b"foo", b"", 1, pair.now).unwrap();
    pair.send();
    pair.serve();
    pair.server.errors.clear();
    pair.link.publish(b"bar", b"", 2, pair.now).unwrap();
    pair.run();
    pair.expect(&[
        Told::NotPublished(1, "NOPERM no access to the channel".to_owned()),
        Told::Published(2, 0),
    ]);
}

#[test]
fn an_error_of_the_servers_state_renews_the_connection() {
    let mut pair = Pair::publisher();
    let error = "READONLY You can't write against a read only replica.";
    pair.server.errors.insert(
        "PUBLISH",
        "-READONLY You can't write against a read only replica.",
    );
    pair.link.publish(b"foo", b"", 1, pair.now).unwrap();
    pair.link.publish(b"foo", b"", 2, pair.now).unwrap();
    pair.run();
    pair.expect(&[
        Told::NotPublished(1, error.to_owned()),
        Told::Down(error.to_owned()),
        Told::Disconnect(error.to_owned()),
        Told::NotPublished(2, format!("link lost: {error}")),
    ]);
}

#[test]
fn a_lost_link_answers_every_message_that_is_open() {
    let mut pair = Pair::publisher();
    pair.link.publish(b"foo", b"sent", 1, pair.now).unwrap();
    pair.send();
    pair.link.publish(b"foo", b"unsent", 2, pair.now).unwrap();
    pair.cut("reset");
    let reason = || "link lost: reset".to_owned();
    pair.expect(&[
        Told::Down("reset".to_owned()),
        Told::NotPublished(1, reason()),
        Told::NotPublished(2, reason()),
    ]);
    assert!(!pair.link.owes());
    assert_eq!(
        pair.link.publish(b"foo", b"", 3, pair.now),
        Err(NotPublished::Away)
    );
    pair.wait(1_000);
    assert!(
        pair.server.taken("PUBLISH").is_empty(),
        "nothing is published twice"
    );
}

#[test]
fn a_reply_that_is_no_count_answers_its_message_as_lost() {
    let mut pair = Pair::publisher();
    pair.link.publish(b"foo", b"", 1, pair.now).unwrap();
    pair.server.say("+OK");
    pair.deliver(usize::MAX);
    let cause = "unexpected reply".to_owned();
    pair.expect(&[
        Told::Down(cause.clone()),
        Told::Disconnect(cause.clone()),
        Told::NotPublished(1, format!("link lost: {cause}")),
    ]);
}

#[test]
fn before_it_is_up_a_link_takes_nothing() {
    let mut pair = Pair::new(Role::Publisher, "redis://h");
    assert_eq!(
        pair.link.publish(b"foo", b"", 1, pair.now),
        Err(NotPublished::Away)
    );
    pair.connect();
    assert_eq!(
        pair.link.publish(b"foo", b"", 1, pair.now),
        Err(NotPublished::Away)
    );
}

#[test]
fn a_server_that_does_not_read_fills_the_queue_and_no_more() {
    let mut pair = Pair::publisher();
    let payload = vec![b'x'; 1 << 20];
    let taken = (0..100)
        .take_while(|token| {
            pair.link
                .publish(b"foo", &payload, *token, pair.now)
                .is_ok()
        })
        .count();
    assert_eq!(taken, 15);
    assert!(pair.link.memory() >= 15 << 20);
    pair.run();
    assert_eq!(pair.told().len(), 15);
    assert!(pair.link.memory() < 1 << 20);
    let huge = vec![b'x'; 20 << 20];
    assert_eq!(
        pair.link.publish(b"foo", &huge, 1, pair.now),
        Ok(()),
        "a queue takes one in any case"
    );
}

#[test]
fn only_so_many_replies_may_be_outstanding() {
    let mut pair = Pair::publisher();
    let taken = (0..).take_while(|token| {
        let is_taken = pair.link.publish(b"", b"", *token, pair.now).is_ok();
        pair.send();
        is_taken
    });
    assert_eq!(taken.count(), 65_536);
    assert_eq!(
        pair.link.publish(b"", b"", 1, pair.now),
        Err(NotPublished::QueueFull)
    );
}

#[test]
fn a_stopped_server_is_found_out_also_while_messages_keep_coming() {
    let mut pair = Pair::publisher();
    let begun = pair.now;
    while pair.link.is_up() {
        pair.link.publish(b"foo", b"", 1, pair.now).unwrap();
        pair.send();
        pair.wait_in_silence(100);
    }
    assert_eq!(pair.now - begun, 10_000);
}

#[test]
fn a_slow_upload_to_a_server_that_reads_is_no_silence() {
    let mut pair = Pair::publisher();
    pair.link
        .publish(b"foo", &vec![b'x'; 100_000], 1, pair.now)
        .unwrap();
    for _ in 0..50 {
        pair.link.output();
        pair.link.handle_written(2_000, pair.now);
        pair.wait_in_silence(1_000);
    }
    assert!(pair.link.is_up());
}

#[test]
fn an_idle_link_is_proved_by_ping() {
    let mut pair = Pair::publisher();
    pair.wait(35_000);
    assert_eq!(pair.server.taken("PING").len(), 1 + 3);
    pair.wait_in_silence(10_000);
    assert!(
        pair.told()
            .contains(&Told::Disconnect("no reply in time".to_owned()))
    );
}

#[test]
fn a_busy_link_needs_no_ping() {
    let mut pair = Pair::publisher();
    for token in 0..60 {
        pair.link.publish(b"foo", b"", token, pair.now).unwrap();
        pair.wait(1_000);
    }
    assert_eq!(pair.server.taken("PING").len(), 1);
}

#[test]
fn a_probe_is_answered_but_nobody_waits_for_it() {
    let mut pair = Pair::publisher();
    pair.link
        .publish(b"ngx_ws_probe:x", b"1", PROBE_TOKEN, pair.now)
        .unwrap();
    assert!(!pair.link.owes());
    pair.run();
    pair.expect(&[Told::Published(PROBE_TOKEN, 0)]);
}
