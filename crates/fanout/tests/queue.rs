//! The queue against a list that does the same, slowly.

use fanout::{ClientId, Queue};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Push(u32),
    Remove(u32),
    Pop,
}

fn step() -> impl Strategy<Value = Step> {
    let client = prop_oneof![0..8u32, 0..200u32];
    prop_oneof![
        4 => client.clone().prop_map(Step::Push),
        2 => client.prop_map(Step::Remove),
        2 => Just(Step::Pop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]
    #[test]
    fn it_does_what_a_list_does(steps in prop::collection::vec(step(), 1..120)) {
        let (mut queue, mut list) = (Queue::default(), Vec::new());
        for step in steps {
            match step {
                Step::Push(client) => {
                    queue.push(ClientId(client));
                    if !list.contains(&client) {
                        list.push(client);
                    }
                }
                Step::Remove(client) => {
                    let was_in = list.contains(&client);
                    list.retain(|&other| other != client);
                    prop_assert_eq!(queue.remove(ClientId(client)), was_in);
                }
                Step::Pop => {
                    let first = (!list.is_empty()).then(|| ClientId(list.remove(0)));
                    prop_assert_eq!(queue.pop(), first);
                }
            }
            prop_assert_eq!(queue.first(), list.first().map(|&first| ClientId(first)));
            prop_assert_eq!(queue.is_empty(), list.is_empty());
            for client in 0..201 {
                prop_assert_eq!(queue.contains(ClientId(client)), list.contains(&client));
            }
        }
        let left = std::iter::from_fn(|| queue.pop()).map(|client| client.0);
        prop_assert_eq!(Vec::from_iter(left), list);
    }
}

#[test]
fn who_leaves_and_comes_again_waits_from_then_on() {
    let mut queue = Queue::default();
    (1..4).for_each(|client| queue.push(ClientId(client)));
    assert!(queue.remove(ClientId(1)));
    queue.push(ClientId(1));
    queue.push(ClientId(2));
    let order = std::iter::from_fn(|| queue.pop()).map(|client| client.0);
    assert_eq!(Vec::from_iter(order), [2, 3, 1]);
}
