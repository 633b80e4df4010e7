//! Who is treated when memory is short, and what it costs to find them.

mod shell;

use fanout::{Furthest, SlowClass, SlowPolicy};
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
