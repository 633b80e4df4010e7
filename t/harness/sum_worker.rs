//! The worker program of the request/response example.

use super::process::{self, Signal};
use super::redis::Redis;
use super::settings;
use super::wait::until;
use std::process::{Child, Command, Stdio};

/// The running program. It is stopped when this is dropped.
pub struct SumWorker(Child);

impl SumWorker {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(redis: &Redis) -> Self {
        let child = Command::new(settings::python())
            .arg(settings::examples().join("sum-worker.py"))
            .args(["--port", &redis.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the worker program");
        let worker = Self(child);
        until("the worker program listens", || {
            redis.command(&["PUBSUB", "NUMPAT"]).integer() > 0
        });
        worker
    }
}

impl Drop for SumWorker {
    fn drop(&mut self) {
        process::signal(self.0.id(), Signal::TERM);
        let _ = self.0.wait();
    }
}
