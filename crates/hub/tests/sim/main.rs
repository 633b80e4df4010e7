//! One worker in a virtual world. Its clock, its clients, its Redis and the order of its events are
//! drawn from a seed, and a naive model says after each step what must hold.
//!
//! ```text
//!   seed ──> action ──> apply ──> client   redis          each is one thing that happens
//!                         │         └── net ──┘            sockets, epoll, nginx's flags
//!                         v               │
//!                       world <──────── outside            nginx's part, the seam to the hub
//!                         │
//!                         v
//!             check, deadlines, client, rest               what must hold
//! ```
//!
//! What is simulated: clients with small kernel buffers that read, stall, send in any pieces, leave
//! at any byte; TLS, which commits what it was offered; two Redis servers that die, refuse, stall,
//! are slow, forbid names and cut connections within a message; posts; reload, quit and
//! `worker_shutdown_timeout`; a worker that is held up; sends one by one and in batches.
//!
//! What is checked:
//! - each client hears whole frames, of each message published from its 101 on, in order, once.
//!   What it does not hear was skipped by its policy and counted, or the link was lost and the
//!   client is told;
//! - each echo comes back in order; each message for Redis is published once, in order, or its
//!   client is told; each request is answered; a Close has a cause that the model knows, and comes
//!   once;
//! - what TLS has committed is offered again unchanged; nothing is written after a shutdown;
//! - the memory account is the sum of what sessions hold, and stays within its limit;
//! - no client waits for anything that needs no time, and no deadline is missed;
//! - when all have left, nothing is left over: here, in the account, or at Redis.
//!
//! Not simulated: what nginx decides before the content phase, HTTP beyond the two handlers,
//! panics.
//!
//! The simulation finds bugs. These were put back one at a time; each was found after this many
//! steps from seed 0 on:
//!
//! | bug | steps |
//! | --- | --- |
//! | a `Released` frees the channel though a handshake has asked for its name again | 200,000 |
//! | a handshake that gives up unsubscribes what others wait for | 4,200 |
//! | a client that closes while its Close is on its way gets a second one | 500,000 |
//! | a closing client's socket is judged by a read into a buffer that is lent, and reset | 45,000 |
//! | a client counts as silent though its socket has data that was not looked at | 350,000 |
//! | what TLS was offered is forgotten | 3,400 |
//! | `drop_oldest` forgets a partly sent frame | 3,500 |
//! | `latest` sends the frames that it keeps in reverse | 31,000 |
//! | a cursor that is moved by one byte counts as at a boundary | 260,000 |
//! | after a short write the worker does not wait for the socket | 3,700 |
//! | what a client held stays in the account after it has left | 1,100 |
//!
//! Not found in a million steps: a turn that is lost when a round has nothing left; a client that
//! is not told of a gap because its 101 was not sent yet; a frame of more than one write that is
//! not continued.
//!
//! A failing seed is shrunk to a short schedule that fails in the same way. That schedule is
//! printed with what the worker did. `scripts/simulate` runs the simulation for longer.

mod action;
mod apply;
mod check;
mod client;
mod deadlines;
mod frames;
mod net;
mod outside;
mod pipe;
mod random;
mod redis;
mod rest;
mod run;
mod settings;
mod shrink;
mod world;

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use action::Action;
use run::Outcome;

/// Threads that run schedules: the tests of the other crates want a core, too.
const THREADS: usize = 2;

/// What a test tells of how it may be run otherwise.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} wants a number")),
    )
}

/// Seeds that are tried one after the other by several threads, until enough steps are done, or time
/// has passed, or one fails.
struct Trial {
    next: AtomicU64,
    steps: AtomicU64,
    most_steps: u64,
    end: Instant,
    failed: Mutex<Option<(u64, Vec<Action>)>>,
}

impl Trial {
    fn run(&self) {
        let mut actions = Vec::new();
        while self.steps.load(Ordering::Relaxed) < self.most_steps
            && Instant::now() < self.end
            && self.failed.lock().is_ok_and(|failed| failed.is_none())
        {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let outcome = run::draw(seed, &mut actions);
            self.steps.fetch_add(outcome.steps, Ordering::Relaxed);
            if outcome.wrong.is_some()
                && let Ok(mut failed) = self.failed.lock()
            {
                failed.get_or_insert((seed, std::mem::take(&mut actions)));
            }
        }
    }
}

/// Says what a schedule is about, and how to see it again.
fn tell(seed: u64, actions: &[Action]) -> String {
    let (short, Outcome { wrong, .. }) = shrink::shrink(seed, actions);
    println!(
        "seed {seed} fails; what is left of its {} actions:",
        actions.len()
    );
    outside::IS_TRACED.set(true);
    run::replay(seed, &short);
    outside::IS_TRACED.set(false);
    println!("run it again: scripts/simulate --seed {seed}");
    wrong.unwrap_or_else(|| "it does not fail again: something is not from the seed".to_owned())
}

#[test]
fn what_is_promised_holds_whatever_happens() {
    run::note_panics();
    let began = Instant::now();
    let seconds = number("SIMULATE_SECONDS");
    let first = number("SIMULATE_SEED").unwrap_or(0);
    let is_one = seconds.is_none() && number("SIMULATE_SEED").is_some();
    let trial = Trial {
        next: AtomicU64::new(first),
        steps: AtomicU64::new(0),
        most_steps: match seconds {
            Some(_) => u64::MAX,
            None => u64::from(!is_one) * 1_000_000 + u64::from(is_one),
        },
        end: began + Duration::from_secs(seconds.unwrap_or(3_600)),
        failed: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..if is_one { 1 } else { THREADS } {
            scope.spawn(|| trial.run());
        }
    });
    let steps = trial.steps.load(Ordering::Relaxed);
    let last = trial.next.load(Ordering::Relaxed) - 1;
    // Past the test's own output, which nobody sees when it passes.
    let _ = writeln!(
        std::io::stderr(),
        "seeds {first} to {last}: {steps} steps in {:.1} s",
        began.elapsed().as_secs_f32()
    );
    let failed = trial.failed.lock().expect("no thread panics").take();
    if let Some((seed, actions)) = failed {
        let wrong = tell(seed, &actions);
        let _ = std::panic::take_hook();
        panic!("seed {seed}: {wrong}");
    }
}

#[test]
fn a_seed_means_the_same_each_time() {
    let mut actions = Vec::new();
    for seed in 0..12 {
        let drawn = run::draw(seed, &mut actions);
        let again = run::replay(seed, &actions);
        assert_eq!(
            (drawn.steps, drawn.digest),
            (again.steps, again.digest),
            "seed {seed}"
        );
    }
}
