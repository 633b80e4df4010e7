//! What the shell says to the registry, and what it hears.

use fanout::{
    ChannelId, ClientId, FlushResult, Furthest, Kind, Published, Registry, Sent, SlowClass,
    SlowPolicy, Variant,
};

const PATIENT: SlowClass = SlowClass {
    send_queue: 1 << 30,
    policy: SlowPolicy::Close,
};

/// A registry whose clients' sockets are vectors with so much room left.
#[derive(Default)]
struct Shell {
    registry: Registry,
    wires: Vec<(Vec<u8>, usize)>,
    writes: usize,
    out: FlushResult,
}

impl Shell {
    fn channel(&mut self, name: &str) -> ChannelId {
        self.registry.channel(0, Kind::Channel, name.as_bytes())
    }

    fn join_muted(&mut self, names: &[&str], class: SlowClass) -> ClientId {
        let channels: Vec<_> = names.iter().map(|name| self.channel(name)).collect();
        let client = ClientId(self.wires.len() as u32);
        let socket = client.0 as i32;
        self.wires.push((Vec::new(), usize::MAX));
        self.registry
            .join(client, socket, &channels, Variant(0), class, true);
        client
    }

    fn join(&mut self, names: &[&str], class: SlowClass) -> ClientId {
        let client = self.join_muted(names, class);
        assert!(self.registry.unmute(client));
        client
    }

    fn leave(&mut self, client: ClientId) -> Vec<ChannelId> {
        let mut emptied = Vec::new();
        self.registry.leave(client, &mut emptied);
        emptied
    }

    fn publish(&mut self, name: &str, message: &str) -> Published {
        let channel = self.channel(name);
        self.registry.publish(channel, &mut |_, to| {
            to.extend_from_slice(message.as_bytes());
            true
        })
    }

    fn flush_some(&mut self, budget: usize) -> bool {
        let Some(feed) = self.registry.next_dirty() else {
            return true;
        };
        let (wires, writes) = (&mut self.wires, &mut self.writes);
        let send = |_, client: ClientId, bytes: &[u8]| {
            *writes += 1;
            let (wire, room) = &mut wires[client.0 as usize];
            let taken = bytes.len().min(*room);
            *room -= taken;
            wire.extend_from_slice(&bytes[..taken]);
            if taken == bytes.len() {
                Sent::All
            } else {
                Sent::Part(taken)
            }
        };
        self.registry.flush(feed, budget, send, &mut self.out);
        self.registry.next_dirty().is_none()
    }

    fn flush(&mut self) -> FlushResult {
        while !self.flush_some(1000) {}
        std::mem::take(&mut self.out)
    }

    fn room(&mut self, client: ClientId, bytes: usize) {
        self.wires[client.0 as usize].1 = bytes;
    }

    /// The socket takes all again: writes what is unsent.
    fn drain(&mut self, client: ClientId) {
        self.room(client, usize::MAX);
        while let Some(bytes) = self.registry.unsent(client).map(<[u8]>::to_vec) {
            self.wires[client.0 as usize].0.extend_from_slice(&bytes);
            self.registry.sent(client, bytes.len(), 0);
        }
    }

    fn wire(&mut self, client: ClientId) -> String {
        String::from_utf8(std::mem::take(&mut self.wires[client.0 as usize].0)).unwrap()
    }
}

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
        Sent::All
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
    shell.registry.hold(client);
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
    shell.registry.hold(held);
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
    let part = Sent::Committed {
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
    shell.registry.hold(client);
    // Held: the committed bytes, and the frame that their end is in.
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
    // The frame begun does not count, and ten bytes are within the limit.
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
    // Seven bytes, and what it takes to hold them.
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
    let foo = registry.channel(0, Kind::Channel, b"foo");
    let own: Vec<_> = (0..6)
        .map(|at: u32| registry.channel(0, Kind::Channel, &[at as u8]))
        .collect();
    for at in 0..6u32 {
        let channels = [foo, own[at as usize]];
        registry.join(ClientId(at), 0, &channels, Variant(at % 3), PATIENT, false);
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
                Sent::All
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
    let pattern = shell.registry.channel(0, Kind::Pattern, b"foo");
    assert!(pattern != foo && shell.registry.name(pattern) == (0, Kind::Pattern, &b"foo"[..]));
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
    assert_eq!(shell.registry.find_channel(0, Kind::Channel, b"bar"), None);
    assert_eq!(shell.leave(one), [foo]);
    assert_eq!(
        (shell.registry.feed_count(), shell.registry.client_count()),
        (0, 0)
    );
}

#[test]
fn the_furthest_behind_come_first_and_ten_thousand_of_them_in_no_time() {
    let mut shell = Shell::default();
    let class = SlowClass {
        send_queue: 1 << 30,
        policy: SlowPolicy::DropOldest,
    };
    let clients: Vec<_> = (0..10_000).map(|_| shell.join(&["foo"], class)).collect();
    for (at, client) in clients.iter().enumerate() {
        shell.room(*client, if at % 100 == 0 { 4 } else { 8 });
    }
    for _ in 0..2000 {
        shell.publish("foo", "four");
        shell.flush();
    }
    assert_eq!(shell.registry.laggard_count(), 10_000);
    let mut before = u64::MAX;
    assert_eq!(shell.registry.list_those_behind(), 10_000);
    for _ in 0..10_000 {
        let Some(Furthest::Lags(client)) = shell.registry.furthest_behind() else {
            panic!("nobody is behind");
        };
        let lag = shell.registry.lag_bytes(client);
        assert!(lag <= before && lag > 7000);
        before = lag;
        shell.registry.treat(client, &mut shell.out);
    }
    assert_eq!(shell.out.skipped.len(), 10_000);
    assert_eq!(shell.registry.furthest_behind(), None);
    shell.registry.list_those_behind();
    assert!(shell.registry.furthest_behind().is_some_and(
        |it| matches!(it, Furthest::Lags(client) if shell.registry.lag_bytes(client) < 4100)
    ));
}

/// A log is freed when its last reader has left it: so readers of one log are treated together.
#[test]
fn half_of_what_is_held_costs_half_of_those_who_share_logs() {
    let mut shell = Shell::default();
    let names: Vec<String> = (0..50).map(|at| at.to_string()).collect();
    for at in 0..1000 {
        let client = shell.join(&[&names[at % 50]], PATIENT);
        shell.room(client, 1 + at / 50);
    }
    for name in names.iter().chain(&names) {
        shell.publish(name, &"x".repeat(10_000));
        shell.flush();
    }
    let (held, mut treated) = (shell.registry.log_bytes(), 0);
    shell.registry.list_those_behind();
    while shell.registry.log_bytes() > held / 2 {
        let Some(Furthest::Lags(client)) = shell.registry.furthest_behind() else {
            panic!("nobody is behind");
        };
        shell.registry.treat(client, &mut shell.out);
        shell.leave(client);
        treated += 1;
    }
    assert_eq!(treated, 500);
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

// What is multiplied is held once.

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

/// Each message for many lists is short, and others' are long: who stops keeps its own alone.
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

/// A thousand stop in a frame, large or one of many: it is held once for all of them.
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
            // What they begun, what is within the limit and one message more, and a list each.
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

/// Where it is the frames begun that fill the memory, nobody's lag frees it.
#[test]
fn those_within_large_frames_are_named_too() {
    let mut shell = Shell::default();
    let drops = SlowClass {
        policy: SlowPolicy::DropOldest,
        ..PATIENT
    };
    let lags = shell.join(&["lags"], PATIENT);
    let closed = shell.join(&["closed"], PATIENT);
    let dropping = shell.join(&["dropping"], drops);
    for (client, room) in [(lags, 0), (closed, 1), (dropping, 1)] {
        shell.room(client, room);
    }
    for name in ["lags", "closed", "dropping"] {
        let size = if name == "lags" { 200_000 } else { 500_000 };
        shell.publish(name, &"x".repeat(size));
    }
    shell.flush();
    // That they have stopped shows when something else has been offered since.
    shell.publish("lags", "!");
    shell.flush();
    assert_eq!(shell.registry.list_those_behind(), 3);
    let named = std::iter::from_fn(|| shell.registry.furthest_behind());
    assert_eq!(
        named.collect::<Vec<_>>(),
        [
            Furthest::InFrame(closed),
            Furthest::Lags(lags),
            Furthest::InFrame(dropping)
        ]
    );
}
