//! The configuration of a location and of the whole worker, as plain values.
//!
//! A directive that sets a value is one line of a table (`table.rs` defines its form): its name,
//! its field, its type and default, one sentence. The code that reads the configuration matches on
//! the enum of the directives, so none can be forgotten.

mod location;
mod main;
mod table;
mod values;
pub mod written;

pub use location::{Location, LocationSetting, ServiceDirective};
pub use main::{Main, MainSetting};
pub use values::{Detach, Drain, Fraction, Gap, Service, Subscription, Template};
pub use written::Words;

/// Longest name of a channel, in bytes.
pub const MAX_CHANNEL: usize = 512;
