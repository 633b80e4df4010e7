//! Bytes that go to many feeds are held once.

mod shell;

use fanout::{FlushResult, SlowClass, SlowPolicy};
use shell::{PATIENT, Shell};

/// A burst for a thousand lists: 844 KB on the wire of each.
fn burst(channels: &[&str]) {
    let mut shell = Shell::default();
    let stopped: Vec<_> = (0..1000)
        .map(|at| {
            let own = at.to_string();
            let client = shell.join(&[channels, &[&own]].concat(), PATIENT);
            shell.room(client, at);
            client
        })
        .collect();
    let message = "x".repeat(132);
    for at in 0..6_400 {
        let published = shell.publish(channels[at % channels.len()], &message);
        assert_eq!((published.feeds, published.clients), (1000, 1000));
    }
    let framed = 6_400 * (132 + 8);
    let (unoffered, notes) = shell.registry.unoffered();
    assert!((framed..2 * framed).contains(&unoffered), "{unoffered}");
    assert!(notes >= 1000, "{notes}");
    shell.flush();
    assert_eq!(shell.writes, 1000, "one write each");
    let held = shell.registry.log_bytes();
    assert!(held < 2 * framed, "{held}");
    for client in stopped {
        shell.drain(client);
        assert_eq!(shell.wires[client.0 as usize].0.len(), 6_400 * 132);
    }
    assert_eq!(shell.registry.log_bytes(), 0);
}

#[test]
fn a_burst_for_a_thousand_lists_is_held_once_and_is_one_write_each() {
    burst(&["all"]);
}

#[test]
fn so_is_one_of_two_channels_in_turn() {
    burst(&["all", "news"]);
}

/// Half of the lists have one of two common channels, half the other, and all clients have stopped.
/// Each of the two channels fills nearly half of each tape. Each list keeps little of a tape, but
/// together they keep all of it.
#[test]
fn halves_of_what_is_held_once_are_not_copied_for_each_list() {
    let mut shell = Shell::default();
    let stopped: Vec<_> = (0..400)
        .map(|at| {
            let common = ["all", "news"][at % 2];
            let client = shell.join(&[common, &at.to_string()], PATIENT);
            shell.room(client, at);
            client
        })
        .collect();
    let message = "x".repeat(4_000);
    for _ in 0..3 {
        // Ten tapes: 32,000 bytes of one and 36,000 of the other.
        for _ in 0..10 {
            for at in 0..17 {
                let channel = if at < 8 { "all" } else { "news" };
                shell.publish(channel, &message);
            }
        }
        shell.flush();
    }
    let held = shell.registry.log_bytes();
    // A segment for each list and tape.
    let most = 30 * 17 * 4_100 + 400 * 30 * 100;
    assert!(held < most, "{held} of {most}");
    for (at, client) in stopped.into_iter().enumerate() {
        shell.drain(client);
        let due = 30 * 4_000 * [8, 9][at % 2];
        assert_eq!(shell.wires[at].0.len(), due);
    }
    assert_eq!(shell.registry.log_bytes(), 0);
}

/// The quiet channel's messages are short, the loud one's long. A client that stops keeps only its
/// own.
#[test]
fn a_stopped_reader_of_a_quiet_channel_does_not_keep_the_loud_one() {
    let mut shell = Shell::default();
    let stopped = shell.join(&["quiet"], PATIENT);
    shell.join(&["quiet", "loud"], PATIENT);
    shell.join(&["loud"], PATIENT);
    shell.room(stopped, 0);
    for _ in 0..100 {
        shell.publish("loud", &"x".repeat(30_000));
        shell.publish("quiet", &"x".repeat(300));
        shell.flush();
    }
    assert_eq!(shell.registry.lag_bytes(stopped), 30_000);
    let held = shell.registry.log_bytes();
    assert!(held < 2 * 30_000 + 60_000, "{held}");
    shell.drain(stopped);
    assert_eq!(shell.wires[0].0.len(), 30_000);
    assert_eq!(shell.registry.log_bytes(), 0);
}

/// The same holds when much is published at once and this client is offered it first.
#[test]
fn nor_does_it_keep_what_others_are_only_to_be_offered() {
    let mut shell = Shell::default();
    let stopped = shell.join(&["quiet"], PATIENT);
    shell.join(&["quiet", "loud"], PATIENT);
    shell.join(&["loud"], PATIENT);
    shell.room(stopped, 0);
    for _ in 0..10 {
        for _ in 0..20 {
            shell.publish("quiet", &"x".repeat(300));
            shell.publish("loud", &"x".repeat(30_000));
            shell.publish("loud", &"x".repeat(30_000));
        }
        shell.flush();
    }
    assert_eq!(shell.registry.lag_bytes(stopped), 60_000);
    let held = shell.registry.log_bytes();
    assert!(held < 2 * 60_000, "{held}");
    shell.drain(stopped);
    assert_eq!(shell.wires[0].0.len(), 60_000);
    assert_eq!(shell.registry.log_bytes(), 0);
}

/// A thousand clients stop within a frame, which is large or one of many. It is held once for all
/// of them.
#[test]
fn the_rest_of_a_frame_is_held_once_for_all_who_have_begun_it() {
    for policy in [
        SlowPolicy::Close,
        SlowPolicy::DropOldest,
        SlowPolicy::Latest,
    ] {
        for size in [1000, 30_000, 1_000_000] {
            let mut shell = Shell::default();
            let class = SlowClass {
                send_queue: size,
                policy,
            };
            let stopped: Vec<_> = (0..1000).map(|_| shell.join(&["foo"], class)).collect();
            for (at, client) in stopped.iter().enumerate() {
                shell.room(*client, 1 + at % 500);
            }
            let mut out = FlushResult::default();
            for _ in 0..20 {
                shell.publish("foo", &"x".repeat(size as usize));
                let flushed = shell.flush();
                out.too_slow.extend(flushed.too_slow);
                out.skipped.extend(flushed.skipped);
            }
            let rests = stopped.iter().map(|it| shell.registry.rest_of_frame(*it));
            let rests: Vec<_> = rests.collect();
            assert!(rests.iter().all(|it| it.len() >= size as usize - 500));
            let lists: usize = rests.iter().map(|it| it.list_bytes()).sum();
            let held = shell.registry.log_bytes();
            // The frame that they have begun, what is within the limit and one message more, and a
            // list each.
            let most = 3 * size + 1000 * 200 + lists as u64;
            assert!(held < most, "{policy:?} {size}: {held}");
            let struck = match policy {
                SlowPolicy::Close => out.too_slow.len() == 1000,
                _ => out.too_slow.is_empty() && out.skipped.len() >= 1000,
            };
            assert!(struck, "{policy:?} {size}");
            drop(rests);
            stopped.iter().for_each(|it| drop(shell.leave(*it)));
            assert_eq!(shell.registry.log_bytes(), 0);
        }
    }
}
