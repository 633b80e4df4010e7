//! One seed: a world and its schedule.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::action::{self, Action, Taste};
use crate::random::Random;
use crate::settings::profile;
use crate::world::World;

/// Actions of one schedule, not counting its end.
pub const LENGTH: usize = 1_500;

/// The result of a schedule.
pub struct Outcome {
    pub steps: u64,
    /// What did not hold.
    pub wrong: Option<String>,
    /// A digest of everything that happened.
    pub digest: u64,
}

/// Draws a schedule while performing it. `actions` receives what was performed.
pub fn draw(seed: u64, actions: &mut Vec<Action>) -> Outcome {
    actions.clear();
    let mut random = Random::new(seed);
    let taste = Taste::draw(&mut random, profile(seed).is_tight, profile(seed).is_heavy);
    let (mut there, mut next_client) = (Vec::new(), 1);
    guarded(seed, |world| {
        for _ in 0..LENGTH {
            world.there(&mut there);
            let action = action::draw(&mut random, &taste, &there, next_client);
            if let Action::Connect { client, .. } = action {
                next_client = client + 1;
            }
            actions.push(action);
            world.step(action);
            if world.wrong.is_some() {
                return;
            }
        }
    })
}

/// Performs the actions of a schedule again.
pub fn replay(seed: u64, actions: &[Action]) -> Outcome {
    guarded(seed, |world| {
        for &action in actions {
            world.step(action);
            if world.wrong.is_some() {
                return;
            }
        }
    })
}

fn guarded(seed: u64, work: impl FnOnce(&mut World)) -> Outcome {
    let mut steps = 0;
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        work(&mut world);
        if world.wrong.is_none() {
            world.come_to_rest();
        }
        steps = world.steps;
        let wrong = world.wrong.take();
        let digest = world.digest();
        (wrong, digest)
    }));
    match done {
        Ok((wrong, digest)) => Outcome {
            steps,
            wrong,
            digest,
        },
        Err(_) => {
            let (steps, panic) = PANIC.take();
            Outcome {
                steps,
                wrong: Some(panic),
                digest: 0,
            }
        }
    }
}

thread_local! {
    /// The number of steps before the newest panic, and its place and message.
    static PANIC: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    pub static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// A panic in a world is an outcome like any other, and prints nothing.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let said = info.payload();
        let text = said.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text
            .or_else(|| said.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        PANIC.set((STEPS.get(), format!("panic at {place}: {text}")));
    }));
}
