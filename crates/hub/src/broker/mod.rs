//! Brokers: where messages come from and go to. `redis` is the only one so far.

mod link_socket;
mod redis;
mod seam;

pub use redis::Redis;
pub use seam::{BrokerStatus, Brokers, Event, NotPublished, Published, Run, Sink, Subscribed};
