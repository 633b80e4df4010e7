//! What a run found, for people.
mod markdown;
mod svg;

pub use markdown::{costs, latencies, memory, ratios};
pub use svg::ratios as plot;
