//! What nginx.conf says: the table of directives, and the types that hold their values.

mod location;
mod main;
mod process;
mod table;

pub use location::{Gap, Location, Service};
pub use main::{Broker, Main};
pub use process::Process;
pub use table::{DIRECTIVES, PROCESS_DIRECTIVES};
