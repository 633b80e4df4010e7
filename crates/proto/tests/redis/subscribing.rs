//! Subscribing and unsubscribing, also while answers are in transit.

use proto::redis::{Subscribed, SubscriptionKind};

use super::pair::{Pair, Told};

fn names(command: &[Vec<u8>]) -> Vec<&str> {
    command
        .iter()
        .map(|name| str::from_utf8(name).unwrap())
        .collect()
}

#[test]
fn a_name_is_asked_for_once_and_confirmed() {
    let mut pair = Pair::subscriber();
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Asked);
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Asked);
    assert!(pair.link.owes());
    pair.run();
    pair.expect(&[Told::Confirmed(1)]);
    assert!(!pair.link.owes());
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Already);
    pair.run();
    assert_eq!(
        pair.server.taken("SUBSCRIBE").len(),
        2,
        "the probe's and this"
    );
}

#[test]
fn names_of_one_round_share_a_command() {
    let mut pair = Pair::subscriber();
    pair.subscribe("a", 1);
    pair.want(SubscriptionKind::Pattern, "b*", 2);
    pair.subscribe("c\r\nd", 3);
    pair.run();
    pair.expect(&[Told::Confirmed(1), Told::Confirmed(3), Told::Confirmed(2)]);
    assert_eq!(names(pair.server.taken("SUBSCRIBE")[1]), ["a", "c\r\nd"]);
    assert_eq!(names(pair.server.taken("PSUBSCRIBE")[0]), ["b*"]);
}

#[test]
fn messages_carry_the_callers_id() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 7);
    pair.want(SubscriptionKind::Pattern, "f*", 8);
    pair.run();
    pair.told();
    pair.server.publish(b"foo", b"hello");
    pair.server.publish(b"far", b"");
    pair.run();
    let text = str::to_owned;
    pair.expect(&[
        Told::Message(7, text("foo"), text("hello")),
        Told::Pmessage(8, text("f*"), text("foo"), text("hello")),
        Told::Pmessage(8, text("f*"), text("far"), text("")),
    ]);
}

#[test]
fn messages_that_begin_alike_are_told_apart() {
    let mut pair = Pair::subscriber();
    for (id, name) in [(1, "a"), (2, "aa"), (3, "b")] {
        pair.subscribe(name, id);
    }
    pair.run();
    pair.told();
    let published = ["a", "a", "aa", "a", "b", "b", "aa", "aa", "c", "aa"];
    for name in published {
        pair.server.publish(name.as_bytes(), name.as_bytes());
    }
    pair.run();
    let id = |name: &str| if name == "b" { 3 } else { name.len() as u32 };
    let heard = published.iter().filter(|name| **name != "c");
    let told = heard.map(|&name| Told::Message(id(name), name.to_owned(), name.to_owned()));
    pair.expect(&told.collect::<Vec<_>>());
}

#[test]
fn a_name_that_comes_back_has_its_new_id() {
    let mut pair = Pair::subscriber();
    let message = |id| Told::Message(id, "foo".to_owned(), "hello".to_owned());
    pair.subscribe("foo", 1);
    pair.run();
    pair.told();
    pair.server.publish(b"foo", b"hello");
    pair.run();
    pair.expect(&[message(1)]);
    pair.unsubscribe("foo");
    pair.wait(2_000);
    pair.expect(&[Told::Released(1)]);
    pair.subscribe("bar", 1);
    pair.subscribe("foo", 2);
    pair.run();
    pair.told();
    pair.server.publish(b"foo", b"hello");
    pair.run();
    pair.expect(&[message(2)]);
}

#[test]
fn a_channel_and_a_pattern_of_one_name_are_two_subscriptions() {
    let mut pair = Pair::subscriber();
    pair.subscribe("x", 1);
    pair.want(SubscriptionKind::Pattern, "x", 2);
    pair.run();
    pair.told();
    pair.unsubscribe("x");
    pair.wait(2_000);
    pair.expect(&[Told::Released(1)]);
    assert_eq!(
        pair.want(SubscriptionKind::Pattern, "x", 2),
        Subscribed::Already
    );
}

#[test]
fn many_names_go_in_batches_and_wait_for_answers() {
    let mut pair = Pair::subscriber();
    for id in 0..25_500 {
        pair.subscribe(&format!("name{id}"), id);
    }
    pair.send();
    pair.serve();
    let sent: usize = pair.server.taken("SUBSCRIBE")[1..]
        .iter()
        .map(|names| names.len())
        .sum();
    assert_eq!(sent, 10_000);
    pair.run();
    assert_eq!(pair.told().len(), 25_500);
    assert_eq!(pair.server.channels.len(), 25_501);
    assert!(
        pair.server
            .taken("SUBSCRIBE")
            .iter()
            .all(|names| names.len() <= 1_000)
    );
}

#[test]
fn a_name_that_nobody_wants_leaves_after_two_seconds() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.subscribe("bar", 2);
    pair.run();
    pair.told();
    pair.unsubscribe("foo");
    pair.unsubscribe("bar");
    pair.wait(1_999);
    assert!(pair.server.channels.contains(&b"foo"[..]));
    pair.expect(&[]);
    pair.wait(1);
    pair.expect(&[Told::Released(1), Told::Released(2)]);
    assert_eq!(names(pair.server.taken("UNSUBSCRIBE")[0]), ["foo", "bar"]);
    assert_eq!(pair.subscribe("foo", 9), Subscribed::Asked);
}

#[test]
fn a_name_wanted_again_in_time_stays() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.run();
    pair.unsubscribe("foo");
    pair.wait(1_999);
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Already);
    pair.wait(60_000);
    pair.expect(&[Told::Confirmed(1)]);
    assert!(pair.server.taken("UNSUBSCRIBE").is_empty());
}

#[test]
fn each_time_unwanted_counts_its_own_two_seconds() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.run();
    pair.unsubscribe("foo");
    pair.wait(1_500);
    pair.subscribe("foo", 1);
    pair.unsubscribe("foo");
    pair.told();
    pair.wait(1_999);
    pair.expect(&[]);
    pair.wait(1);
    pair.expect(&[Told::Released(1)]);
}

#[test]
fn a_name_given_up_twice_in_one_round_is_ended_once() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.run();
    pair.told();
    pair.unsubscribe("foo");
    pair.subscribe("foo", 1);
    pair.unsubscribe("foo");
    pair.wait(5_000);
    pair.expect(&[Told::Released(1)]);
    assert_eq!(names(pair.server.taken("UNSUBSCRIBE")[0]), ["foo"]);
}

#[test]
fn a_name_wanted_again_while_its_unsubscribe_is_on_its_way_waits_for_a_new_confirmation() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.run();
    pair.told();
    pair.unsubscribe("foo");
    pair.wait_in_silence(2_000);
    pair.send();
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Asked);
    pair.serve();
    pair.deliver(usize::MAX);
    pair.expect(&[]);
    assert!(!pair.server.channels.contains(&b"foo"[..]));
    pair.run();
    pair.expect(&[Told::Confirmed(1)]);
}

#[test]
fn the_confirmation_of_an_older_subscribe_is_not_taken_for_a_newer() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.send();
    pair.unsubscribe("foo");
    pair.wait_in_silence(2_000);
    pair.send();
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Asked);
    pair.send();
    // SUBSCRIBE, UNSUBSCRIBE and SUBSCRIBE are in transit: only the answer to the last one counts.
    assert!(pair.server.take_command());
    pair.deliver(usize::MAX);
    pair.expect(&[]);
    assert!(pair.server.take_command());
    pair.deliver(usize::MAX);
    pair.expect(&[]);
    assert!(pair.server.take_command());
    pair.deliver(usize::MAX);
    pair.expect(&[Told::Confirmed(1)]);
}

#[test]
fn a_name_given_up_before_its_confirmation_leaves_without_one() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.send();
    pair.unsubscribe("foo");
    pair.run();
    pair.expect(&[]);
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Already);
    pair.unsubscribe("foo");
    pair.wait(2_000);
    pair.expect(&[Told::Released(1)]);
}

#[test]
fn a_name_given_up_before_it_was_asked_for_is_forgotten_at_once() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.unsubscribe("foo");
    pair.expect(&[Told::Released(1)]);
    pair.subscribe("bar", 1);
    pair.run();
    pair.expect(&[Told::Confirmed(1)]);
    assert_eq!(names(pair.server.taken("SUBSCRIBE")[1]), ["bar"]);
}

#[test]
fn a_pattern_that_follows_a_forgotten_channel_is_asked_for_as_a_pattern() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.unsubscribe("foo");
    pair.want(SubscriptionKind::Pattern, "b*", 2);
    pair.run();
    pair.expect(&[Told::Released(1), Told::Confirmed(2)]);
    assert_eq!(names(pair.server.taken("PSUBSCRIBE")[0]), ["b*"]);
}

#[test]
fn only_the_forbidden_names_of_a_command_are_refused() {
    let mut pair = Pair::subscriber();
    let forbidden = [0, 499, 500, 501, 999];
    for id in forbidden {
        pair.server
            .forbidden
            .insert(format!("name{id}").into_bytes());
    }
    for id in 0..1_000 {
        pair.subscribe(&format!("name{id}"), id);
    }
    pair.run();
    let told = pair.told();
    let mut refused: Vec<_> = told
        .iter()
        .filter_map(|t| {
            if let Told::Refused(id) = t {
                Some(*id)
            } else {
                None
            }
        })
        .collect();
    refused.sort();
    assert_eq!(refused, forbidden);
    assert_eq!(
        told.iter()
            .filter(|t| matches!(t, Told::Confirmed(_)))
            .count(),
        995
    );
    assert!(pair.server.taken("SUBSCRIBE").len() < 100);
    assert!(!pair.link.owes());
}

#[test]
fn a_refused_name_is_asked_for_again_when_wanted_again_and_forgotten_when_not() {
    let mut pair = Pair::subscriber();
    pair.server.forbidden.insert(b"foo".to_vec());
    pair.subscribe("foo", 1);
    pair.run();
    pair.expect(&[Told::Refused(1)]);
    pair.server.forbidden.clear();
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Asked);
    pair.run();
    pair.expect(&[Told::Confirmed(1)]);
    pair.server.forbidden.insert(b"bar".to_vec());
    pair.subscribe("bar", 2);
    pair.run();
    pair.unsubscribe("bar");
    pair.expect(&[Told::Refused(2), Told::Released(2)]);
}

#[test]
fn names_stay_where_unsubscribe_is_forbidden() {
    let mut pair = Pair::subscriber();
    pair.server
        .errors
        .insert("UNSUBSCRIBE", "-NOPERM no permissions to run 'unsubscribe'");
    pair.subscribe("foo", 1);
    pair.run();
    pair.unsubscribe("foo");
    pair.wait_in_silence(2_000);
    pair.send();
    pair.told();
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Asked);
    pair.wait(60_000);
    pair.expect(&[Told::Confirmed(1)]);
    pair.unsubscribe("foo");
    pair.wait(60_000);
    pair.expect(&[]);
    assert_eq!(pair.subscribe("foo", 1), Subscribed::Already);
}

#[test]
fn after_a_loss_all_that_is_wanted_is_asked_for_again_and_the_gap_told() {
    let mut pair = Pair::subscriber();
    for id in 0..2_500 {
        pair.subscribe(&format!("name{id}"), id);
    }
    pair.want(SubscriptionKind::Pattern, "p*", 2_500);
    pair.run();
    pair.unsubscribe("name7");
    pair.told();
    pair.wait(3_000 - 2_000);
    pair.cut("reset");
    pair.expect(&[Told::Down("reset".to_owned()), Told::Released(7)]);
    assert_eq!(pair.subscribe("new", 7), Subscribed::Away);
    assert!(!pair.link.owes());
    pair.wait(100);
    let told = pair.told();
    assert!(matches!(told[0], Told::Up(Some(1..=100))), "{:?}", told[0]);
    let confirmed = told
        .iter()
        .filter(|t| matches!(t, Told::Confirmed(_)))
        .count();
    assert_eq!(confirmed, 2_501);
    assert_eq!(told.len(), 2_503);
    // The gap begins when the link last heard from the server, a second before the loss.
    let restored = told.iter().find_map(|t| {
        if let Told::Restored(gap) = t {
            Some(*gap)
        } else {
            None
        }
    });
    assert!(matches!(restored, Some(1_001..=1_100)), "{restored:?}");
    assert_eq!(pair.server.taken("SUBSCRIBE").len(), 4);
}

#[test]
fn a_loss_while_names_are_being_restored_prolongs_the_gap() {
    let mut pair = Pair::subscriber();
    for id in 0..1_500 {
        pair.subscribe(&format!("name{id}"), id);
    }
    pair.run();
    let heard = pair.now;
    pair.cut("reset");
    pair.wait_in_silence(200);
    pair.connect();
    while !pair.link.is_up() {
        pair.send();
        pair.serve();
        pair.deliver(100);
    }
    pair.send();
    pair.serve();
    pair.deliver(16_384);
    assert!(pair.told().iter().any(|t| matches!(t, Told::Confirmed(_))));
    pair.cut("reset");
    pair.wait(5_000);
    let told = pair.told();
    let gaps: Vec<_> = told
        .iter()
        .filter(|t| matches!(t, Told::Restored(_)))
        .collect();
    assert_eq!(gaps.len(), 1);
    assert!(matches!(gaps[0], Told::Restored(gap) if *gap <= pair.now - heard && *gap > 200));
}

#[test]
fn no_gap_is_told_where_nothing_was_confirmed() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.cut("reset");
    pair.wait(1_000);
    let told = pair.told();
    assert!(told.contains(&Told::Confirmed(1)));
    assert!(!told.iter().any(|t| matches!(t, Told::Restored(_))));
}

#[test]
fn a_name_refused_after_a_loss_does_not_hold_back_the_rest() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.subscribe("bar", 2);
    pair.run();
    pair.told();
    pair.server.forbidden.insert(b"bar".to_vec());
    pair.cut("reset");
    pair.wait(100);
    let told = pair.told();
    assert!(told.contains(&Told::Refused(2)) && told.contains(&Told::Confirmed(1)));
    assert!(matches!(told.last(), Some(Told::Restored(_))));
}

#[test]
fn a_name_given_up_while_the_link_is_down_is_forgotten() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.run();
    pair.cut("reset");
    pair.told();
    pair.unsubscribe("foo");
    pair.expect(&[Told::Released(1)]);
    pair.wait(1_000);
    assert_eq!(pair.server.taken("SUBSCRIBE").len(), 1, "the probe's");
    assert!(!pair.told().iter().any(|t| matches!(t, Told::Restored(_))));
}

#[test]
fn a_stopped_server_is_found_out_while_a_subscription_waits() {
    let mut pair = Pair::subscriber();
    pair.subscribe("foo", 1);
    pair.send();
    pair.wait_in_silence(9_999);
    pair.expect(&[]);
    pair.wait_in_silence(1);
    assert!(
        pair.told()
            .contains(&Told::Disconnect("no reply in time".to_owned()))
    );
}
