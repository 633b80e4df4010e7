//! Random lives of clients, drawn from the fuzzer's bytes: every stream is exact. The first byte
//! gives the number of clients, and each four bytes after it are one step.
#![no_main]

#[path = "../../crates/fanout/tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use world::World;

/// Every byte of every client is compared. Longer lives cost more than they find.
const MOST_STEPS: usize = 150;

fuzz_target!(|bytes: &[u8]| {
    let Some((clients, steps)) = bytes.split_first() else {
        return;
    };
    let mut world = World::new(usize::from(clients % 16) + 1);
    for step in steps.chunks_exact(4).take(MOST_STEPS) {
        world.step([step[0], step[1], step[2], step[3]]);
    }
    world.finish();
});
