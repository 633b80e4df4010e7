//! The wheel against a sorted map that does the same, slowly.

use std::collections::{BTreeMap, BTreeSet};

use fanout::Wheel;
use proptest::prelude::*;

const TICK: u64 = 100;
const START: u64 = 1_000_003;

fn expired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
    let mut out = Vec::new();
    while wheel.expire(now, 3, &mut out) {}
    out.sort_unstable();
    out
}

#[test]
fn a_deadline_is_never_early_and_at_most_a_tick_late() {
    let mut wheel = Wheel::new(TICK, START);
    wheel.schedule(7, START + 250);
    assert_eq!(wheel.next_due(), Some(START + 300));
    assert_eq!(expired(&mut wheel, START + 249), []);
    assert_eq!(expired(&mut wheel, START + 299), []);
    assert_eq!(expired(&mut wheel, START + 300), [7]);
    assert_eq!((wheel.next_due(), wheel.is_empty()), (None, true));
}

#[test]
fn a_deadline_turns_away_waits_in_its_slot() {
    let mut wheel = Wheel::new(TICK, START);
    wheel.schedule(0, START + 1024 * TICK * 3 + 500);
    let mut now = START;
    let mut calls = 0;
    while let Some(due) = wheel.next_due() {
        assert!(due > now);
        now = due;
        calls += 1;
        if expired(&mut wheel, now) == [0] {
            break;
        }
    }
    assert_eq!((now, calls), (START + 1024 * TICK * 3 + 500, 4));
}

#[test]
fn a_call_that_comes_hours_late_finds_everything() {
    let mut wheel = Wheel::new(TICK, START);
    for key in 0..5000 {
        wheel.schedule(key, START + u64::from(key) * 37);
    }
    assert_eq!(
        expired(&mut wheel, START + 10_000_000),
        Vec::from_iter(0..5000)
    );
    wheel.schedule(1, START + 10_000_100);
    assert_eq!(wheel.next_due(), Some(START + 10_000_100));
}

#[test]
fn a_cut_expire_goes_on_where_it_stopped_though_keys_come_and_go() {
    let mut wheel = Wheel::new(TICK, START);
    (0..10).for_each(|key| wheel.schedule(key, START + 100));
    let mut out = Vec::new();
    assert!(wheel.expire(START + 100, 4, &mut out));
    assert_eq!((out.len(), wheel.next_due()), (4, Some(START + 100)));
    // The scan stands at key 5, which is cancelled, and a key that is already due is added.
    assert!(wheel.cancel(5));
    wheel.schedule(20, START);
    while wheel.expire(START + 100, 4, &mut out) {}
    out.sort_unstable();
    assert_eq!(out, [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!(expired(&mut wheel, START + 200), [20]);
}

#[derive(Clone, Debug)]
enum Step {
    Schedule(u32, i64),
    Cancel(u32),
    /// Time passes; then at most this many keys are looked at.
    Expire(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..40u32;
    prop_oneof![
        4 => (key.clone(), -500..3000i64).prop_map(|(key, after)| Step::Schedule(key, after)),
        1 => (key.clone(), 0..400_000i64).prop_map(|(key, after)| Step::Schedule(key, after)),
        1 => key.prop_map(Step::Cancel),
        3 => (0..700u64, 1..6usize).prop_map(|(later, max)| Step::Expire(later, max)),
        1 => (0..300_000u64, 1..50usize).prop_map(|(later, max)| Step::Expire(later, max)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]
    #[test]
    fn it_does_what_a_sorted_map_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut wheel = Wheel::new(TICK, START);
        let mut model = BTreeMap::<u32, u64>::new();
        let mut now = START;
        // When a timer would come that is set by `next_due`, and sooner by `take_soonest`.
        let mut timer = u64::MAX;
        for step in steps {
            match step {
                Step::Schedule(key, after) => {
                    let at = now.saturating_add_signed(after);
                    wheel.schedule(key, at);
                    model.insert(key, at.max(now));
                }
                Step::Cancel(key) => {
                    prop_assert_eq!(wheel.cancel(key), model.remove(&key).is_some());
                }
                Step::Expire(later, max) => {
                    now += later;
                    let mut out = Vec::new();
                    let more = wheel.expire(now, max, &mut out);
                    prop_assert!(out.len() <= max);
                    for key in out {
                        prop_assert!(model.remove(&key).is_some_and(|at| at <= now), "early");
                    }
                    // What is due at once may come at one of the next two ticks.
                    let late = model.values().filter(|at| **at + 3 * TICK <= now).count();
                    prop_assert!(more || late == 0, "{} forgotten", late);
                    prop_assert!(!more || wheel.next_due().is_some_and(|due| due <= now));
                    timer = wheel.next_due().unwrap_or(u64::MAX);
                }
            }
            timer = wheel.take_soonest().map_or(timer, |soonest| soonest.min(timer));
            prop_assert!(wheel.next_due().is_none_or(|due| timer <= due));
            prop_assert_eq!(wheel.len(), model.len());
            match (wheel.next_due(), model.values().min()) {
                (None, None) => {}
                (Some(due), Some(&at)) => prop_assert!(due < at.max(now) + 3 * TICK),
                (due, at) => prop_assert!(false, "{:?} for {:?}", due, at),
            }
        }
        let keys = BTreeSet::from_iter(model.into_keys());
        prop_assert_eq!(expired(&mut wheel, now + 1_000_000), Vec::from_iter(keys));
    }
}
