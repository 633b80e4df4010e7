//! The reply parser compared with that of the `redis` crate, and a link at every split of its
//! stream.

use proptest::prelude::*;
use proto::redis::resp::{self, Malformed, Parsed, Reply, Verb};
use proto::redis::{Role, SubscriptionKind};
use redis::Value as Theirs;

use super::oracle::{compare, ours};
use super::pair::{Pair, Told};

fn packed(value: &Theirs, out: &mut Vec<u8>) {
    match value {
        Theirs::Nil => out.extend_from_slice(b"$-1\r\n"),
        Theirs::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Theirs::SimpleString(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
        Theirs::BulkString(bytes) => {
            out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Theirs::Array(values) => {
            out.extend_from_slice(format!("*{}\r\n", values.len()).as_bytes());
            values.iter().for_each(|value| packed(value, out));
        }
        other => unreachable!("{other:?} is not generated"),
    }
}

fn values() -> impl Strategy<Value = Theirs> {
    let words = prop::sample::select(vec![
        "message",
        "pmessage",
        "smessage",
        "subscribe",
        "unsubscribe",
        "psubscribe",
        "punsubscribe",
        "ssubscribe",
        "sunsubscribe",
        "pong",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Theirs::Nil),
        any::<i64>().prop_map(Theirs::Int),
        "[a-z\r -]{0,9}[a-z]".prop_map(Theirs::SimpleString),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Theirs::BulkString),
        words.prop_map(|word| Theirs::BulkString(word.as_bytes().to_vec())),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(Theirs::Array)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_reply_is_read_as_the_redis_crate_reads_it(value in values(), rest in any::<[u8; 3]>()) {
        let mut bytes = Vec::new();
        packed(&value, &mut bytes);
        for cut in 0..bytes.len() {
            prop_assert_eq!(ours(&bytes[..cut]), Ok(None), "cut at {}", cut);
        }
        let len = bytes.len();
        bytes.extend(rest);
        prop_assert_eq!(ours(&bytes), Ok(Some((value, len))));
        compare(&bytes);
    }

    #[test]
    fn bytes_that_are_nearly_replies_are_read_alike_or_refused(
        bytes in prop::collection::vec(
            prop::sample::select(b"*$+-:0123\r\n\r\n\r\nabm\xff".to_vec()), 0..40,
        ),
    ) {
        compare(&bytes);
    }

    #[test]
    fn a_damaged_reply_is_read_alike_or_refused(
        value in values(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        packed(&value, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        compare(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a server sends, and whenever, the link at worst disconnects and tries again.
    #[test]
    fn no_reply_upsets_a_link(
        replies in prop::collection::vec((values(), any::<bool>()), 0..12),
        is_publisher in any::<bool>(),
    ) {
        let mut pair = if is_publisher { Pair::publisher() } else { Pair::subscriber() };
        for (value, asks) in replies {
            if is_publisher && asks {
                let _ = pair.link.publish(b"foo", b"", 1, pair.now);
            } else if asks {
                pair.subscribe("foo", 1);
            }
            pair.send();
            packed(&value, &mut pair.server.replies);
            pair.deliver(usize::MAX);
            pair.wait_in_silence(1_000);
        }
        pair.wait(30_000);
        prop_assert!(pair.link.is_up());
    }
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    let line = |length: usize| [b"+".to_vec(), vec![b'x'; length], b"\r\n".to_vec()].concat();
    let many = |count: usize| {
        [
            format!("*{count}\r\n").into_bytes(),
            b":1\r\n".repeat(count),
        ]
        .concat()
    };
    assert!(ours(&nested(8)).unwrap().is_some());
    assert_eq!(ours(&nested(9)), Err(Malformed::Deep));
    assert!(ours(&line(64 << 10)).unwrap().is_some());
    assert_eq!(ours(&line((64 << 10) + 1)), Err(Malformed::LongLine));
    assert_eq!(
        ours(&line(70 << 10)[..(64 << 10) + 2]),
        Err(Malformed::LongLine)
    );
    assert!(ours(&many(1_023)).unwrap().is_some());
    assert_eq!(ours(&many(1_024)), Err(Malformed::ManyElements));
    assert_eq!(ours(b"$536870912\r\nx"), Ok(None));
    assert_eq!(ours(b"$536870913\r\n"), Err(Malformed::LongBulk));
    for number in [
        "",
        "-",
        "+5",
        " 5",
        "5 ",
        "5\n",
        "9223372036854775808",
        "1\rx",
    ] {
        assert_eq!(
            ours(format!(":{number}\r\n").as_bytes()),
            Err(Malformed::Number),
            "{number:?}"
        );
    }
    assert_eq!(
        ours(&[b":", &[b'0'; 100][..]].concat()),
        Err(Malformed::Number)
    );
    assert_eq!(ours(b"*-2\r\n"), Err(Malformed::Number));
    assert_eq!(ours(b"$-2\r\n"), Err(Malformed::Number));
}

#[test]
fn a_bulk_string_tells_how_much_is_missing() {
    let begin = b"*3\r\n$7\r\nmessage\r\n$3\r\nfoo\r\n$1000\r\nx";
    let need = begin.len() - 1 + 1_000 + 2;
    assert_eq!(resp::parse(begin), Ok(Parsed::Partial { need }));
}

#[test]
fn pushes_are_told_by_ranges() {
    let Ok(Parsed::Whole { reply, .. }) = resp::parse(b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n")
    else {
        panic!()
    };
    let change = resp::Change {
        verb: Verb::Unsubscribe,
        name: None,
        count: 0,
    };
    assert_eq!(reply, Reply::Change(change));
    let bytes = b"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$0\r\n\r\n";
    let Ok(Parsed::Whole {
        reply: Reply::Message(message),
        ..
    }) = resp::parse(bytes)
    else {
        panic!()
    };
    assert!(message.sharded && message.payload.is_empty());
    assert_eq!(&bytes[message.channel], b"a");
}

/// The recorded replies of a conversation: two names, a refusal, messages and a pong.
fn replies_to_a_subscriber() -> (Pair, Vec<u8>) {
    let mut pair = Pair::new(Role::Subscriber, "redis://h");
    pair.server.forbidden.insert(b"no".to_vec());
    pair.connect();
    pair.run();
    pair.told();
    for (id, name) in ["foo", "no", "bar"].into_iter().enumerate() {
        pair.subscribe(name, id as u32);
        pair.send();
    }
    pair.want(SubscriptionKind::Pattern, "b*", 9);
    pair.send();
    pair.serve();
    for payload in [&b""[..], b"hello", b"*3\r\n$7\r\nmessage\r\n", &[b'x'; 150]] {
        pair.server.publish(b"foo", payload);
        pair.server.publish(b"bar", payload);
    }
    let replies = std::mem::take(&mut pair.server.replies);
    (pair, replies)
}

/// Feeds the link `replies` in pieces that end at `ends`. What it sends back is dropped.
fn told_in_pieces(ends: impl Iterator<Item = usize>) -> Vec<Told> {
    let (mut pair, replies) = replies_to_a_subscriber();
    let mut at = 0;
    for end in ends.chain([replies.len()]) {
        pair.server.replies = replies[at..end].to_vec();
        while pair.deliver(usize::MAX) > 0 {}
        at = end;
    }
    pair.told()
}

#[test]
fn every_split_of_the_stream_tells_the_same() {
    let length = replies_to_a_subscriber().1.len();
    let whole = told_in_pieces(std::iter::empty());
    assert!(whole.len() >= 10, "{whole:?}");
    for first in 0..length {
        assert_eq!(
            told_in_pieces([first].into_iter()),
            whole,
            "split at {first}"
        );
    }
    assert_eq!(told_in_pieces(1..length), whole, "byte by byte");
    for step in [2, 3, 7, 64] {
        assert_eq!(
            told_in_pieces((1..length).step_by(step)),
            whole,
            "by {step}"
        );
    }
}

#[test]
fn a_large_message_is_received_in_large_pieces_and_its_room_given_back() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.run();
    pair.told();
    let payload = "0123456789".repeat(1 << 20);
    for _ in 0..3 {
        pair.server.publish(b"foo", payload.as_bytes());
    }
    let mut reads = 0;
    while pair.deliver(usize::MAX) > 0 {
        reads += 1;
    }
    assert!(reads < 200, "{reads}");
    let told = pair.told();
    assert_eq!(told.len(), 3);
    assert!(
        told.iter()
            .all(|t| *t == Told::Message(1, "foo".to_owned(), payload.clone()))
    );
    assert!(pair.link.memory() < 1 << 20);
}
