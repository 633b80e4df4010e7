//! The modules of the harness. `lib.rs` is the map.

pub mod browser;
pub mod client;
pub mod crowd;
pub mod deflated;
pub mod frames;
pub mod http;
pub mod http2;
#[path = "../../crates/proto/tests/websocket/inflated.rs"]
pub mod inflated;
pub mod kernel;
pub mod nginx;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod settings;
pub mod stage;
pub mod stream;
pub mod sum_worker;
pub mod wait;
