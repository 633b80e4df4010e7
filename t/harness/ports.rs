//! Ports of 127.0.0.1 that nobody uses.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

/// A port that is free now, outside the range from which the kernel takes ports for outgoing
/// connections: so a server that is down for a while gets its port back.
pub fn free() -> u16 {
    static TURN: AtomicU64 = AtomicU64::new(0);
    for _ in 0..1000 {
        let random = RandomState::new().hash_one(TURN.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (random % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 between 12000 and 32000");
}
