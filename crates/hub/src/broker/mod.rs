//! Brokers: where messages come from and go to. `redis` is the one there is.

mod link_socket;
mod redis;
mod seam;

pub use redis::Redis;
pub use seam::{BrokerStatus, Brokers, Event, NotPublished, Published, Run, Sink, Subscribed};
