//! Other demand on a server while it fans out: plain HTTP requests and new clients.
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use rustix::net::RecvFlags;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Pid;

use super::{latencies, open};
use crate::peers::{PLAIN, PLAIN_BODY, SUBSCRIBE, Server};
use crate::{cpu, handshake, net};

/// Time between two GETs.
const GET_EVERY: Duration = Duration::from_millis(2);
/// Time between two handshakes.
const HANDSHAKE_EVERY: Duration = Duration::from_millis(5);
/// The first source address that the crowd does not use.
const FIRST_HANDSHAKE: usize = 100_000;

/// How long requests and handshakes waited. A wait longer than the interval also counts for those
/// that would have arrived meanwhile.
pub struct Waits {
    /// GETs on one keep-alive connection.
    pub gets: Asked,
    /// Connect, upgrade and 101, to the channel of the crowd.
    pub handshakes: Asked,
}

/// Nanoseconds from each request to its answer.
pub struct Asked {
    /// Time that passed.
    pub waited: Histogram<u64>,
    /// CPU time of the server, for this or other work: what the wait would be if the server had its
    /// core for itself. The kernel updates it at each of its ticks, and when the server stops
    /// running.
    pub used: Histogram<u64>,
}

/// Sends requests to `server` while `work` runs. Returns what `work` returned.
///
/// # Errors
/// Those of `work`; a request that was not answered correctly.
pub fn meanwhile<T>(server: &Server, work: impl FnOnce() -> Result<T>) -> Result<(T, Waits)> {
    let over = AtomicBool::new(false);
    let (address, pid) = (server.address, server.pid);
    let getter = Getter::connect(address)?;
    let request = handshake::request(SUBSCRIBE, "");
    thread::scope(|scope| {
        let gets = scope.spawn(|| ask_until(&over, pid, GET_EVERY, |_| getter.get()));
        let handshakes = scope.spawn(|| {
            ask_until(&over, pid, HANDSHAKE_EVERY, |nth| {
                let (socket, _) = open(address, &request, FIRST_HANDSHAKE + nth)?;
                // Close by a reset: sockets in TIME_WAIT would accumulate.
                Ok(set_socket_linger(&socket, Some(Duration::ZERO))?)
            })
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let waits = Waits {
            gets: joined(gets).context("GET")?,
            handshakes: joined(handshakes).context("handshake")?,
        };
        Ok((done?, waits))
    })
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let ended = thread.join();
    ended.map_err(|_| anyhow!("its thread panicked"))?
}

/// Calls `ask` every `every`, with the number of the request.
fn ask_until(
    over: &AtomicBool,
    pid: Pid,
    every: Duration,
    mut ask: impl FnMut(usize) -> Result<()>,
) -> Result<Asked> {
    // The crowd's thread has the same core and is always busy: it must not keep this one waiting.
    // If raising the priority is not allowed, that wait counts as the server's.
    let _ = rustix::process::nice(-10);
    let (mut waited, mut used) = (latencies(), latencies());
    let mut due = Instant::now();
    let mut nth = 0;
    while !over.load(Ordering::Relaxed) {
        let before = cpu::used(pid)?;
        let begin = Instant::now();
        ask(nth)?;
        record(&mut waited, begin.elapsed(), every);
        record(&mut used, cpu::used(pid)?.saturating_sub(before), every);
        nth += 1;
        due = (due + every).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(Asked { waited, used })
}

/// Records a wait. A wait longer than the interval delayed later requests, so the rest of it is
/// recorded for each of them.
fn record(waited: &mut Histogram<u64>, wait: Duration, every: Duration) {
    let (wait, every) = (wait.as_nanos() as u64, every.as_nanos() as u64);
    let mut left = Some(wait);
    while let Some(wait) = left {
        waited.saturating_record(wait);
        left = wait.checked_sub(every).filter(|&left| left > 0);
    }
}

/// A keep-alive connection.
struct Getter {
    socket: OwnedFd,
    request: Vec<u8>,
}

impl Getter {
    fn connect(address: SocketAddrV4) -> Result<Self> {
        Ok(Self {
            socket: net::connect(address, FIRST_HANDSHAKE - 1)?,
            request: format!("GET {PLAIN} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        })
    }

    fn get(&self) -> Result<()> {
        net::send_all(&self.socket, &self.request)?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 2048]);
        while !is_whole(&answer) {
            let (read, _) = rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty())?;
            ensure!(read > 0, "closed without an answer");
            answer.extend_from_slice(&buffer[..read]);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "another status");
        Ok(())
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let body = answer.strip_suffix(PLAIN_BODY.as_bytes());
    body.is_some_and(|head| head.ends_with(b"\r\n\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_counts_for_those_who_could_not_ask() {
        let mut waited = latencies();
        let ms = Duration::from_millis;
        record(&mut waited, ms(1), ms(2));
        assert_eq!(waited.len(), 1);
        record(&mut waited, ms(7), ms(2));
        // 7, 5, 3 and 1 ms.
        assert_eq!(waited.len(), 5);
        assert_eq!(waited.count_between(6_900_000, 7_100_000), 1);
        assert_eq!(waited.count_between(900_000, 1_100_000), 2);
    }

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{PLAIN_BODY}");
        for cut in 0..answer.len() {
            assert!(!is_whole(&answer.as_bytes()[..cut]), "cut at {cut}");
        }
        assert!(is_whole(answer.as_bytes()));
    }
}
