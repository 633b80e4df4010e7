//! The cost of a delivery: the module compared with bare loops and other servers in the same run.
//!
//! ```text
//!   core 0                                     core 1
//!   the server that is measured  <── Redis <── publisher ┐
//!   (module, bare loop or peer)  ──> subscribers         ┘ one generator, which checks each frame
//! ```
//!
//! A scenario ([`scenario`]) is a load ([`load`]) and the bare loop it is compared with
//! ([`reference`]). [`run`] starts the servers ([`peers`]), gives each the load in turns, and takes
//! the CPU time of each turn from the kernel ([`cpu`]). [`memory`] measures idle subscribers.
//! [`fairness`] measures how long others wait meanwhile, and how fast clients can publish.
//! [`report`] prints tables.
//!
//! The same binary contains the bare loops and the Rust peers, as subcommands. Each runs in a
//! separate process, as nginx does.
#![forbid(unsafe_code)]

mod cli;
mod cpu;
mod fairness;
mod frame;
mod handshake;
mod load;
mod memory;
mod net;
mod peers;
mod process;
mod reference;
mod report;
mod resp;
mod run;
mod scenario;
mod statistics;
mod subscription;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
