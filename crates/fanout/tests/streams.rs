//! Random clients against a plain list of frames per client: every stream is exact.

mod world;

use proptest::prelude::*;
use world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_client_gets_its_frames_whole_and_in_order(
        clients in 1..12usize,
        steps in prop::collection::vec(any::<[u8; 4]>(), 1..250),
    ) {
        let mut world = World::new(clients);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn so_does_a_crowd_in_one_feed(
        class in 0..5u8,
        steps in prop::collection::vec(any::<[u8; 4]>(), 1..250),
    ) {
        let mut world = World::new(24);
        for client in 0..24 {
            world.step([0, client, 0, (class << 2) | ((client % 2) << 1)]);
            world.step([2, client, 0, 0]);
        }
        for [verb, a, b, c] in steps {
            // All joins and publishes are to the first channel.
            match verb % 16 {
                0 | 1 => world.step([0, a, 0, (class << 2) | (c & 2)]),
                3..=6 => world.step([3, 0, b, c]),
                _ => world.step([verb, a, b, c]),
            }
        }
        world.finish();
    }
}
