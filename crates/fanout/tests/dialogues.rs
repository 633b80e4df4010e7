//! Dialogues between the shell and the registry.

mod shell;

use fanout::{
    ClientId, FlushResult, FormatId, NameKind, Published, Registry, SlowClass, SlowPolicy,
    WriteOutcome,
};
use shell::{PATIENT, Shell};

#[test]
fn messages_of_one_wake_up_are_one_write_per_client() {
    let mut shell = Shell::default();
    let clients: Vec<_> = (0..10).map(|_| shell.join(&["foo"], PATIENT)).collect();
    for message in ["one ", "two ", "three"] {
        let published = shell.publish("foo", message);
        assert_eq!(
            published,
            Published {
                feeds: 1,
                clients: 10
            }
        );
    }
    let result = shell.flush();
    assert_eq!(
        (shell.writes, result.tried, result.complete),
        (10, 10, true)
    );
    for client in clients {
        assert_eq!(shell.wire(client), "one two three");
        assert_eq!(shell.registry.delivered(client), Some((3, 13)));
    }
    assert_eq!(shell.registry.log_bytes(), 0);
}

#[test]
fn no_write_is_beyond_a_mebibyte_however_much_there_is() {
    let mut shell = Shell::default();
    let client = shell.join(&["foo"], PATIENT);
    let message = "x".repeat(50_000);
    for _ in 0..100 {
        shell.publish("foo", &message);
    }
    shell.publish("foo", &"y".repeat(5 << 20));
    let (mut writes, mut bytes) = (0, 0);
    let feed = shell.registry.next_dirty().unwrap();
    let send = |_, _, offered: &[u8]| {
        assert!(offered.len() <= 1 << 20);
        writes += 1;
        bytes += offered.len();
        WriteOutcome::All
    };
    shell.registry.flush(feed, 100, send, &mut shell.out);
    assert_eq!((writes, bytes), (5 + 5, 5_000_000 + (5 << 20)));
    assert_eq!(shell.registry.delivered(client), Some((101, bytes as u64)));
}

#[test]
fn a_flush_cut_short_lets_other_feeds_go_first() {
    let mut shell = Shell::default();
    for _ in 0..5 {
        shell.join(&["foo"], PATIENT);
    }
    let other = shell.join(&["bar"], PATIENT);
    shell.publish("foo", "long");
    shell.publish("bar", "short");
    assert!(!shell.flush_some(3));
    assert_eq!(shell.registry.next_dirty(), shell.registry.feed_of(other));
    let result = shell.flush();
    assert_eq!((result.tried, result.complete), (6, true));
}

#[test]
fn a_muted_client_gets_nothing_then_everything_since_it_joined() {
    let mut shell = Shell::default();
    shell.publish("foo", "before");
    let muted = shell.join_muted(&["foo"], PATIENT);
    shell.publish("foo", "between ");
    shell.flush();
    assert_eq!((shell.writes, shell.registry.unsent(muted)), (0, None));
    assert!(!shell.registry.unmute(muted));
    shell.drain(muted);
    assert!(shell.registry.release(muted) && shell.registry.is_current(muted));
    shell.publish("foo", "after");
    shell.flush();
    assert_eq!(shell.wire(muted), "between after");
    assert_eq!(shell.registry.log_bytes(), 0);
}

#[test]
fn who_joins_while_a_flush_is_cut_short_gets_what_is_published_after() {
    let mut shell = Shell::default();
    let first: Vec<_> = (0..3).map(|_| shell.join(&["foo"], PATIENT)).collect();
    shell.publish("foo", "old ");
    assert!(!shell.flush_some(2));
    shell.publish("foo", "middle ");
    let late = shell.join(&["foo"], PATIENT);
    assert!(!shell.registry.is_current(late));
    shell.publish("foo", "new");
    shell.flush();
    assert!(shell.registry.is_current(late));
    assert_eq!(shell.wire(late), "new");
    for client in first {
        assert_eq!(shell.wire(client), "old middle new");
    }
}

#[test]
fn who_falls_short_costs_only_its_own_memory_and_catches_up() {
    let mut shell = Shell::default();
    let slow = shell.join(&["foo"], PATIENT);
    let quick = shell.join(&["foo"], PATIENT);
    shell.room(slow, 4);
    shell.publish("foo", "0123456789");
    assert_eq!(shell.flush().short, [slow]);
    assert!(!shell.registry.at_boundary(slow) && shell.registry.log_bytes() >= 6);
    shell.publish("foo", "abc");
    assert_eq!(shell.flush().short, []);
    assert_eq!(shell.wire(quick), "0123456789abc");
    assert_eq!(shell.registry.lag_bytes(slow), 3);
    shell.drain(slow);
    assert!(shell.registry.release(slow));
    assert_eq!(shell.wire(slow), "0123456789abc");
    assert_eq!(shell.registry.log_bytes(), 0);
}

#[test]
fn a_held_client_is_offered_the_rest_of_its_frame_and_no_more() {
    let mut shell = Shell::default();
    let client = shell.join(&["foo"], PATIENT);
    shell.room(client, 2);
    shell.publish("foo", "hello ");
    shell.publish("foo", "world");
    shell.flush();
    shell.registry.pause_feed(client);
    assert_eq!(shell.registry.unsent(client), Some(&b"llo "[..]));
    shell.registry.sent(client, 4, 0);
    assert!(shell.registry.at_boundary(client) && shell.registry.unsent(client).is_none());
    assert!(!shell.registry.release(client));
    assert_eq!(shell.registry.unsent(client), Some(&b"world"[..]));
}

#[test]
fn a_client_held_in_a_frame_of_several_writes_is_told_when_there_is_more() {
    let mut shell = Shell::default();
    let first = shell.join(&["foo"], PATIENT);
    let second = shell.join(&["foo"], PATIENT);
    shell.publish("foo", &"x".repeat(3 << 19));
    assert!(!shell.flush_some(1));
    let held = if shell.wire(first).is_empty() {
        second
    } else {
        first
    };
    shell.registry.pause_feed(held);
    assert!(!shell.registry.at_boundary(held) && shell.registry.unsent(held).is_none());
    assert_eq!(shell.flush().resumed, [held]);
    assert_eq!(shell.registry.unsent(held).map(<[u8]>::len), Some(1 << 19));
}

#[test]
fn committed_bytes_stay_together_whatever_is_kept_around_them() {
    let mut shell = Shell::default();
    let client = shell.join(&["foo"], PATIENT);
    let channel = shell.channel("foo");
    for number in 0..100u8 {
        shell.registry.publish(channel, &mut |_, to| {
            to.extend([number; 1000]);
            true
        });
    }
    let feed = shell.registry.next_dirty().unwrap();
    let part = WriteOutcome::Committed {
        written: 1500,
        offered: 16384,
    };
    shell
        .registry
        .flush(feed, 9, |_, _, _| part, &mut shell.out);
    let mut due = vec![1; 500];
    (2..18).for_each(|number| due.extend([number; 1000]));
    assert!(
        shell
            .registry
            .unsent(client)
            .unwrap()
            .starts_with(&due[..16384])
    );
    shell.registry.pause_feed(client);
    // Held: the committed bytes, and the frame in which they end.
    assert_eq!(shell.registry.unsent(client), Some(&due[..]));
    assert!(!shell.registry.at_boundary(client));
}

#[test]
fn close_is_said_once_and_lets_go_of_the_log() {
    let mut shell = Shell::default();
    let class = SlowClass {
        send_queue: 10,
        policy: SlowPolicy::Close,
    };
    let client = shell.join(&["foo"], class);
    shell.room(client, 3);
    shell.publish("foo", "0123456789");
    shell.publish("foo", "0123456789");
    // The partly sent frame does not count, and ten bytes are within the limit.
    assert_eq!(shell.flush().too_slow, []);
    shell.publish("foo", "!");
    assert_eq!(shell.flush().too_slow, [client]);
    shell.publish("foo", &"more".repeat(1000));
    assert_eq!(shell.flush().too_slow, []);
    assert_eq!(shell.registry.delivered(client), Some((0, 3)));
    let mut rest = Vec::new();
    let pieces = shell.registry.rest_of_frame(client);
    rest.extend_from_slice(pieces.unsent(usize::MAX, b"", &mut Vec::new()));
    drop(pieces);
    assert_eq!(rest, b"3456789");
    // Seven bytes, and the memory that holds them.
    assert!(shell.registry.log_bytes() < 250);
    assert_eq!(shell.registry.unsent(client), Some(&b"3456789"[..]));
    shell.drain(client);
    assert!(shell.registry.at_boundary(client) && !shell.registry.release(client));
    shell.leave(client);
    assert_eq!(
        (shell.wire(client).as_str(), shell.registry.log_bytes()),
        ("0123456789", 0)
    );
}

#[test]
fn drop_oldest_goes_forward_no_further_than_the_limit_asks() {
    let mut shell = Shell::default();
    let class = SlowClass {
        send_queue: 8,
        policy: SlowPolicy::DropOldest,
    };
    let client = shell.join(&["foo"], class);
    shell.room(client, 2);
    for message in ["AAAA", "bbb", "ccc", "ddd", "eee"] {
        shell.publish("foo", message);
    }
    let skips = shell.flush().skipped;
    assert_eq!(
        (skips[0].client, skips[0].messages, skips[0].bytes),
        (client, 2, 6)
    );
    shell.drain(client);
    assert!(shell.registry.release(client));
    assert_eq!(shell.wire(client), "AAAAdddeee");
    assert_eq!(shell.registry.delivered(client), Some((3, 10)));
}

#[test]
fn latest_keeps_the_newest_of_each_channel_in_order_however_often_it_strikes() {
    let mut shell = Shell::default();
    let class = SlowClass {
        send_queue: 4,
        policy: SlowPolicy::Latest,
    };
    let client = shell.join(&["foo", "bar", "baz"], class);
    shell.room(client, 1);
    for (channel, message) in [
        ("foo", "F1 "),
        ("baz", "Z1 "),
        ("foo", "F2 "),
        ("bar", "B1 "),
        ("bar", "B2 "),
    ] {
        shell.publish(channel, message);
    }
    let skips = shell.flush().skipped;
    assert_eq!((skips.len(), skips[0].messages), (1, 1));
    shell.publish("foo", "F3 ");
    let skips = shell.flush().skipped;
    assert_eq!((skips.len(), skips[0].messages), (1, 1));
    shell.drain(client);
    assert!(shell.registry.release(client));
    assert_eq!(shell.wire(client), "F1 Z1 B2 F3 ");
    assert_eq!(shell.registry.delivered(client), Some((4, 12)));
}

#[test]
fn each_variant_is_framed_once_and_a_refusal_drops_it_for_that_variant_alone() {
    let mut registry = Registry::new();
    let foo = registry.channel(0, NameKind::Channel, b"foo");
    let own: Vec<_> = (0..6)
        .map(|at: u32| registry.channel(0, NameKind::Channel, &[at as u8]))
        .collect();
    for at in 0..6u32 {
        let channels = [foo, own[at as usize]];
        registry.join(ClientId(at), 0, &channels, FormatId(at % 3), PATIENT, false);
        registry.unmute(ClientId(at));
    }
    let mut framed = Vec::new();
    let published = registry.publish(foo, &mut |variant, to| {
        framed.push(variant.0);
        to.extend_from_slice(&[variant.0 as u8; 5]);
        variant.0 != 1
    });
    framed.sort_unstable();
    assert_eq!(
        (framed, published),
        (
            vec![0, 1, 2],
            Published {
                feeds: 4,
                clients: 4
            }
        )
    );
    let mut out = FlushResult::default();
    while let Some(feed) = registry.next_dirty() {
        registry.flush(
            feed,
            9,
            |_, client, bytes| {
                assert_eq!(bytes, [(client.0 % 3) as u8; 5]);
                WriteOutcome::All
            },
            &mut out,
        );
    }
    assert_eq!(out.tried, 4);
}

#[test]
fn a_large_message_is_counted_once_however_many_feeds_hold_it() {
    let mut shell = Shell::default();
    let clients: Vec<_> = (0..50)
        .map(|at| shell.join(&["foo", &at.to_string()], PATIENT))
        .collect();
    clients.iter().for_each(|client| shell.room(*client, 10));
    shell.publish("foo", &"x".repeat(100_000));
    shell.flush();
    assert!((100_000..110_000).contains(&shell.registry.log_bytes()));
    for client in clients {
        shell.drain(client);
        assert!(shell.registry.release(client));
    }
    assert_eq!(shell.registry.log_bytes(), 0);
}

#[test]
fn a_channel_lives_until_it_is_released_and_tells_when_it_is_empty() {
    let mut shell = Shell::default();
    let (foo, bar) = (shell.channel("foo"), shell.channel("bar"));
    let pattern = shell.registry.channel(0, NameKind::Pattern, b"foo");
    assert!(pattern != foo && shell.registry.name(pattern) == (0, NameKind::Pattern, &b"foo"[..]));
    let both = shell.join(&["foo", "bar", "foo"], PATIENT);
    let same = shell.join(&["bar", "foo"], PATIENT);
    let one = shell.join(&["foo"], PATIENT);
    assert_eq!(shell.registry.feed_of(both), shell.registry.feed_of(same));
    assert_eq!(
        (shell.registry.feed_count(), shell.registry.channel_count()),
        (2, 3)
    );
    assert_eq!(shell.leave(both), []);
    assert_eq!(shell.leave(same), [bar]);
    assert!(!shell.registry.release_channel(foo) && shell.registry.release_channel(bar));
    assert_eq!(
        shell.registry.find_channel(0, NameKind::Channel, b"bar"),
        None
    );
    assert_eq!(shell.leave(one), [foo]);
    assert_eq!(
        (shell.registry.feed_count(), shell.registry.client_count()),
        (0, 0)
    );
}

#[test]
fn what_was_not_yet_offered_is_known() {
    let mut shell = Shell::default();
    let reader = shell.join(&["foo"], PATIENT);
    shell.join(&["foo", "bar"], PATIENT);
    assert_eq!(shell.registry.unoffered(), (0, 0));
    shell.publish("foo", &"x".repeat(1000));
    let (bytes, notes) = shell.registry.unoffered();
    assert!(bytes >= 1000 && notes == 2, "{bytes} {notes}");
    shell.room(reader, 0);
    shell.flush();
    assert_eq!(shell.registry.unoffered(), (0, 0));
    assert!(shell.registry.log_bytes() >= 1000);
}
