//! The configuration: the table of directives, and the types that hold their values.

mod check;
mod effect;
mod location;
mod main;
mod mention;
mod names;
mod nginx_conf;
mod process;
mod table;

pub use location::Location;
pub use main::Main;
pub use nginx_conf::NginxConf;
pub use process::Process;
#[cfg(test)]
pub use process::ProcessSetting;
pub use table::{DIRECTIVES, PROCESS_DIRECTIVES};
