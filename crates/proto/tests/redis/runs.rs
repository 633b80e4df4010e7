//! Consecutive messages of one channel: `each_of` and `next_event` report the same.

use proptest::prelude::*;
use proto::redis::SubscriptionKind;

use super::pair::{Pair, Told};

/// Some begin alike, one is longer than what is compared at once, nobody subscribes to the last.
const NAMES: [&str; 5] = [
    "a",
    "aa",
    "b",
    "a.channel.with.quite.a.long.name.as.some.have",
    "c",
];

/// Lengths around those that are read at once, and longer ones.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..300_usize,
        1 => prop::sample::select(vec![9_999, 10_000, 16_384, 40_000]),
    ]
}

/// What a link reports of `messages`, read `piece` bytes at a time.
fn told(messages: &[(usize, usize)], piece: usize, hears_runs: bool) -> Vec<Told> {
    let mut pair = Pair::subscriber();
    pair.hears_runs = hears_runs;
    for (id, name) in NAMES[..4].iter().enumerate() {
        pair.subscribe(name, id as u32);
    }
    pair.want(SubscriptionKind::Pattern, "b*", 4);
    pair.run();
    pair.told();
    for &(name, length) in messages {
        let payload = "\r\n$3*x:".repeat(length / 7 + 1);
        let payload = &payload.as_bytes()[..length];
        pair.server.publish(NAMES[name].as_bytes(), payload);
    }
    while pair.deliver(piece) > 0 {}
    pair.told()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn runs_are_what_single_events_are(
        messages in prop::collection::vec((0..NAMES.len(), lengths()), 0..40),
        repeats in 1..6_usize,
        piece in prop_oneof![1..200_usize, Just(usize::MAX)],
    ) {
        let messages: Vec<_> = messages
            .into_iter()
            .flat_map(|message| std::iter::repeat_n(message, repeats))
            .collect();
        let heard = messages.iter().filter(|(name, _)| *name < 4).count()
            + messages.iter().filter(|(name, _)| NAMES[*name] == "b").count();
        let told_in_runs = told(&messages, piece, true);
        prop_assert_eq!(told_in_runs.len(), heard);
        prop_assert_eq!(told_in_runs, told(&messages, piece, false));
    }
}

#[test]
fn nothing_is_told_of_another_channel() {
    let mut pair = Pair::subscriber();
    pair.hears_runs = false;
    pair.subscribe("a", 1);
    pair.subscribe("b", 2);
    pair.run();
    pair.told();
    pair.server.publish(b"a", b"first");
    pair.run();
    pair.server.publish(b"a", b"second");
    let room = pair.link.read_buf();
    let count = pair.server.replies.len();
    room[..count].copy_from_slice(&pair.server.replies);
    pair.server.replies.clear();
    pair.link.handle_read(count, pair.now);
    pair.link
        .each_of(2, |_, _| panic!("a message of another channel"));
    let mut heard = Vec::new();
    pair.link.each_of(1, |name, payload| {
        heard.push((name.to_vec(), payload.to_vec()))
    });
    assert_eq!(heard, [(b"a".to_vec(), b"second".to_vec())]);
}
