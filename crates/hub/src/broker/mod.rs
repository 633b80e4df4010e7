//! Brokers: where messages come from and go to. `redis` is the one there is.

pub mod redis;

pub use redis::Redis;
