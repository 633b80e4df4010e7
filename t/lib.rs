//! Harness of the end-to-end tests. Each test has a real nginx and a real Redis of its own, and
//! clients that share no code with the module.
//!
//! ```text
//!   Client (tungstenite)  Raw (hand-made bytes)  Crowd (a thousand at once)  Browser, Python
//!                   \            |                  |              /
//!                    Nginx (master, workers, error log) --- Proxy (holds, delays, cuts) --- Redis
//! ```
//!
//! A test reads as a dialogue between them. When it is dropped, `Nginx` fails its test if the error
//! log has an `alert`, `crit` or `emerg`, if a socket or a sanitizer report is left, or if a worker
//! is not the one it started with. Nothing here waits for a fixed time: [`until`] polls, with a
//! deadline that only a failing test reaches.
//!
//! Environment variables select what is tested: see [`settings`].
#![forbid(unsafe_code)]

mod harness;

pub use harness::browser::Browser;
pub use harness::client::Client;
pub use harness::crowd::{Crowd, Member};
pub use harness::deflated::Deflated;
pub use harness::frames::{self, Frame};
pub use harness::http::{self, Request, Response};
pub use harness::http2;
pub use harness::inflated::inflate;
pub use harness::kernel;
pub use harness::nginx::{Conf, Nginx};
pub use harness::ports;
pub use harness::process;
pub use harness::proxy::Proxy;
pub use harness::raw::{End, Raw};
pub use harness::redis::{Redis, Reply, Session};
pub use harness::settings;
pub use harness::stage;
pub use harness::stream::{Stream, Transport, certificate};
pub use harness::sum_worker::SumWorker;
pub use harness::wait::{never, patience, until, until_some};
