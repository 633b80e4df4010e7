//! A bare loop ([`crate::reference`]) in a separate process.
use anyhow::Result;

use super::{Lab, Server};
use crate::reference::Writes;

/// Starts the loop with one of this program's commands.
pub fn start(lab: &Lab, name: &str, command: &str, writes: Writes) -> Result<Server> {
    let how = match writes {
        Writes::PerDelivery => "per-delivery",
        Writes::PerWakeUp => "per-wake-up",
    };
    lab.start_ourselves(name, [command, how])
}
