//! Reports of a run's results for people.
mod markdown;
mod svg;

pub use markdown::{costs, last, latencies, memory, rates, ratios, used, waits};
pub use svg::ratios as plot;
