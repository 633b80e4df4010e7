//! Which clients are treated when memory is short, and what it costs to find them.

mod shell;

use fanout::{ClientId, Furthest, SlowClass, SlowPolicy};
use shell::{PATIENT, Shell};

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
    // Only the bytes that they held in common were freed.
    assert_eq!(shell.registry.furthest_behind(), None);
    shell.registry.end_shortage();
    assert!(shell.registry.furthest_behind().is_some_and(
        |it| matches!(it, Furthest::Lags(client) if shell.registry.lag_bytes(client) < 4100)
    ));
}

/// A log is freed when its last reader has left it, so readers of one log are treated together.
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

/// All clients that are named now.
fn named(shell: &mut Shell) -> Vec<Furthest> {
    shell.registry.end_shortage();
    std::iter::from_fn(|| shell.registry.furthest_behind()).collect()
}

/// A client within a frame of a mebibyte, of which its socket has taken a byte.
fn within_a_frame(shell: &mut Shell, name: &str, class: SlowClass) -> ClientId {
    let client = shell.join(&[name], class);
    shell.room(client, 1);
    shell.publish(name, &"x".repeat(1 << 20));
    client
}

const DROPS: SlowClass = SlowClass {
    policy: SlowPolicy::DropOldest,
    ..PATIENT
};

/// If partly sent frames fill the memory, no client's lag frees it.
#[test]
fn those_within_large_frames_are_named_too_and_first_if_they_have_stopped() {
    let mut shell = Shell::default();
    shell.registry.tell_time(1_000);
    let lags = shell.join(&["lags"], PATIENT);
    shell.room(lags, 0);
    shell.publish("lags", &"x".repeat(200_000));
    let closed = within_a_frame(&mut shell, "closed", PATIENT);
    let dropping = within_a_frame(&mut shell, "dropping", DROPS);
    shell.flush();
    shell.registry.tell_time(2_500);
    let order = [
        Furthest::InFrame(closed),
        Furthest::Lags(lags),
        Furthest::InFrame(dropping),
    ];
    assert_eq!(named(&mut shell), order);
}

/// A reader 80 ms away takes a large message piece by piece; others have stopped within theirs.
/// Only time tells them apart, however often everything is offered meanwhile.
#[test]
fn who_takes_a_large_frame_slowly_is_treated_after_those_who_have_stopped() {
    let mut shell = Shell::default();
    let lags = shell.join(&["lags"], PATIENT);
    let reader = shell.join(&["lags"], PATIENT);
    shell.room(lags, 0);
    shell.publish("lags", &"x".repeat(200_000));
    let stopped = within_a_frame(&mut shell, "stopped", PATIENT);
    let moving = within_a_frame(&mut shell, "moving", PATIENT);
    shell.flush();
    for now in 0..5 {
        shell.registry.tell_time(now);
        shell.publish("lags", "!");
        shell.flush();
    }
    // Five passes in 4 ms do not mean that a client has stopped. The lag comes first: policies can
    // free it.
    assert_eq!(named(&mut shell)[0], Furthest::Lags(lags));
    for now in (0..2_000).step_by(80) {
        shell.registry.tell_time(now);
        shell.registry.sent(moving, 20_000, 0);
    }
    shell.registry.tell_time(2_000);
    let order = [
        Furthest::InFrame(stopped),
        Furthest::Lags(lags),
        Furthest::InFrame(moving),
    ];
    assert_eq!(named(&mut shell), order);
    assert!(shell.registry.is_current(reader));
}

/// A client is named at most once a round, and none is left out.
#[test]
fn a_round_goes_on_where_messages_come_between() {
    let mut shell = Shell::default();
    let behind: Vec<_> = (0..10).map(|_| shell.join(&["foo"], DROPS)).collect();
    behind.iter().for_each(|client| shell.room(*client, 0));
    shell.publish("foo", "first");
    shell.flush();
    let mut named = Vec::new();
    for _ in 0..5 {
        named.extend((0..2).filter_map(|_| shell.registry.furthest_behind()));
        shell.publish("foo", "next");
        shell.flush();
    }
    named.sort_by_key(|it| match it {
        Furthest::Lags(client) | Furthest::InFrame(client) => *client,
    });
    let all: Vec<_> = behind.into_iter().map(Furthest::Lags).collect();
    assert_eq!(named, all);
}

/// What the shell does after each flush while memory is short.
fn treat_all(shell: &mut Shell) -> usize {
    let mut treated = 0;
    while let Some(Furthest::Lags(client)) = shell.registry.furthest_behind() {
        shell.registry.treat(client, &mut shell.out);
        treated += 1;
    }
    treated
}

/// Each client holds only the newest message, and its policy keeps that.
#[test]
fn where_nothing_can_be_freed_nobody_is_looked_at_for_each_message() {
    let mut shell = Shell::default();
    let latest = SlowClass {
        policy: SlowPolicy::Latest,
        ..PATIENT
    };
    let behind: Vec<_> = (0..1_000).map(|_| shell.join(&["foo"], latest)).collect();
    behind.iter().for_each(|client| shell.room(*client, 0));
    let reader = shell.join(&["bar"], PATIENT);
    shell.publish("foo", &"x".repeat(200_000));
    shell.flush();
    assert_eq!(treat_all(&mut shell), 1_000);
    let looks = shell.registry.looks();
    for _ in 0..1_000 {
        shell.publish("bar", "for those who read");
        shell.flush();
        shell.registry.unoffered();
        assert_eq!(treat_all(&mut shell), 0);
    }
    assert_eq!(shell.registry.looks(), looks);
    // Another message as large can be freed again: one round frees it, and one more finds nothing.
    shell.publish("foo", &"y".repeat(200_000));
    shell.flush();
    assert_eq!(treat_all(&mut shell), 2_000);
    assert!(shell.registry.log_bytes() < 210_000 && shell.registry.is_current(reader));
}

/// What counts is what was left after others had let go, not what was held before.
#[test]
fn it_is_looked_again_when_more_is_held_than_at_the_least() {
    let mut shell = Shell::default();
    let (large, small) = (shell.join(&["large"], DROPS), shell.join(&["small"], DROPS));
    shell.room(large, 0);
    shell.room(small, 0);
    shell.publish("large", &"x".repeat(900_000));
    shell.flush();
    while shell.registry.furthest_behind().is_some() {}
    shell.drain(large);
    shell.registry.unoffered();
    for _ in 0..20 {
        shell.publish("small", &"x".repeat(4_000));
    }
    shell.flush();
    assert_eq!(
        shell.registry.furthest_behind(),
        Some(Furthest::Lags(small))
    );
}
