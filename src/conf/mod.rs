//! What nginx.conf says: the table of directives, and the types that hold their values.

mod check;
mod location;
mod main;
mod mention;
mod names;
mod process;
mod table;

pub use location::{Gap, Location, Service};
pub use main::{Broker, Main};
pub use mention::Place;
pub use names::MAX_CHANNEL;
pub use process::Process;
pub use table::{DIRECTIVES, PROCESS_DIRECTIVES};
