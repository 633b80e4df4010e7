//! What nginx.conf says: the table of directives, and the types that hold their values.

mod location;
mod main;
mod table;

pub use location::{Gap, Location, Service};
pub use main::{Broker, Main};
pub use table::DIRECTIVES;
