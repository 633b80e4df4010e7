//! The CPU time of a process, including the kernel's work for it, and the core it may use.
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the server that is measured.
pub const SERVER: usize = 0;
/// The core of everything else.
pub const LOAD: usize = 1;

/// Runs `start` with this thread on `core`. The processes it starts inherit that.
///
/// # Errors
/// The machine has no such core, or `start` failed.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    pin(core)?;
    let started = start();
    pin(LOAD)?;
    started
}

/// Pins this thread to `core`.
///
/// # Errors
/// The machine has no such core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}

/// The user and kernel time of all threads of a process. On loopback the kernel's part includes
/// what it does for the receiver up to its socket.
///
/// # Errors
/// There is no such process, or it has ended.
pub fn used(pid: Pid) -> Result<Duration> {
    let pid = pid.as_raw_nonzero();
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the server has ended")? {
        let thread = thread?.path();
        if let Ok(text) = fs::read_to_string(thread.join("schedstat")) {
            total += from_schedstat(&text)?;
        } else if let Ok(text) = fs::read_to_string(thread.join("stat")) {
            total += from_stat(&text)?;
        } // Otherwise the thread has just ended.
    }
    Ok(total)
}

/// How long a single-threaded process was ready to run while others had its core. `None` if the
/// kernel does not report it.
pub fn kept_off(pid: Pid) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", pid.as_raw_nonzero())).ok()?;
    let nanoseconds = text.split(' ').nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The first field: nanoseconds on a CPU.
fn from_schedstat(text: &str) -> Result<Duration> {
    let first = text.split(' ').next().context("empty schedstat")?;
    Ok(Duration::from_nanos(first.parse()?))
}

/// `utime` and `stime`, the 14th and 15th field, in ticks of 10 ms. The second field, the name, may
/// contain blanks and parentheses.
fn from_stat(text: &str) -> Result<Duration> {
    let (_, after_name) = text.rsplit_once(") ").context("stat without a name")?;
    let mut times = after_name.split(' ').skip(11).map(str::parse::<u64>);
    let (Some(user), Some(system)) = (times.next(), times.next()) else {
        bail!("stat has too few fields");
    };
    Ok(Duration::from_millis(10 * (user? + system?)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn both_sources_are_read() {
        assert_eq!(
            from_schedstat("481703 0 3\n").unwrap(),
            Duration::from_nanos(481_703)
        );
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0 9 1 2";
        assert_eq!(from_stat(stat).unwrap(), Duration::from_millis(420));
        assert!(from_stat("7 (a) S 1").is_err());
    }

    #[test]
    fn a_process_that_works_uses_time() {
        let own = rustix::process::getpid();
        let before = used(own).unwrap();
        let begin = Instant::now();
        // Threads of other tests may end meanwhile, which removes their time.
        while used(own).unwrap() <= before {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "no time was used"
            );
        }
    }

    #[test]
    fn a_process_that_has_ended_has_none() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        child.wait().unwrap();
        assert!(used(pid).is_err());
    }
}
