//! Free ports of 127.0.0.1.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex, PoisonError};

/// A port that is free now. It is outside the range from which the kernel takes ports for outgoing
/// connections, so a server that is down for a while gets its port back. No port is returned twice,
/// because a server asks for all its ports before it listens on any.
pub fn free() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for turn in 0..1000 {
        let random = RandomState::new().hash_one(turn);
        let port = 12_000 + (random % 20_000) as u16;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 between 12000 and 32000");
}
