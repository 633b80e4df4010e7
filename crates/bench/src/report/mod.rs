//! What a run found, for people.
mod markdown;

pub use markdown::{costs, latencies, ratios};
