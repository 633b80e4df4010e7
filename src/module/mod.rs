//! The composition root: the one place that knows both the hub and nginx.

mod outside;
pub mod variables;

use crate::conf::Main;
use outside::Nginx;

/// The hub of an nginx worker.
pub type Hub = hub::Hub<Nginx>;

/// A worker's hub. `io_uring`: use it if the system has it.
///
/// # Errors
/// The system has no random numbers.
pub fn hub(main: &'static Main, io_uring: bool) -> std::io::Result<Hub> {
    Hub::new(&main.settings, Nginx::new(main, io_uring))
}
