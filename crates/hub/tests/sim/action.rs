//! The actions of a schedule, and how they are drawn.
//!
//! An action carries its own numbers, so that a schedule still makes sense when some of its actions
//! are removed. A client is named by the number given to its handshake. An action whose client is
//! not there does nothing.

use crate::random::Random;

/// One step of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The worker handles one event.
    Event { pick: u32 },
    /// The worker handles up to this many events.
    Events { most: u32 },
    /// Everything flows that flows by itself: eager clients read and send, servers answer.
    Flow,
    /// Everything happens that needs no time. After that, nobody may be owed anything that needs
    /// none.
    Settle,
    /// Time passes, at most until the worker's timer.
    Wait { ms: u32 },
    /// Time passes while the worker is held up.
    HoldUp { ms: u32 },
    /// A client connects.
    Connect {
        client: u32,
        ask: u32,
        room: u32,
        kind: u32,
    },
    /// A client says something: [`Said`] by number.
    Say { client: u32, what: u32, size: u32 },
    /// A client says many short things.
    Burst { client: u32, what: u32, count: u32 },
    /// Part of what a client has to send goes out.
    Upload { client: u32, most: u32 },
    /// A client reads part of what was sent to it.
    Take { client: u32, most: u32 },
    /// A client starts or stops reading and sending by itself.
    Eager { client: u32, is_eager: bool },
    /// A client sends its FIN.
    Fin { client: u32 },
    /// A client resets its connection.
    Reset { client: u32 },
    /// Somebody publishes.
    Publish {
        server: u32,
        channel: u32,
        size: u32,
        count: u32,
    },
    /// A server handles commands and answers.
    Serve { server: u32 },
    /// A connection of a server breaks in the middle of its output.
    Cut { server: u32, which: u32, kept: u32 },
    /// All connections of a server end.
    Kill { server: u32 },
    /// A server changes its behaviour: [`crate::world::World::behave`].
    Behave { server: u32, how: u32 },
    /// nginx is told to quit gracefully.
    Quit,
}

/// The bias of a world: what its schedule has more of.
pub struct Taste {
    pub clients: usize,
    pub faults: usize,
    pub publishes: usize,
    pub quits: bool,
    pub hold_ups: bool,
    pub bits: usize,
    pub is_heavy: bool,
    pub room_bits: usize,
    pub bursts: bool,
}

impl Taste {
    pub fn draw(random: &mut Random, is_tight: bool, is_heavy: bool) -> Taste {
        Taste {
            clients: if is_heavy {
                20
            } else {
                random.pick(&[1, 3, 8, 20])
            },
            faults: random.pick(&[0, 1, 4, 12]),
            publishes: random.pick(&[10, 40, 100]),
            quits: random.once_in(6),
            hold_ups: random.once_in(4),
            bits: if is_heavy {
                15
            } else {
                random.pick(&[8, 12, 14])
            },
            is_heavy,
            room_bits: match (is_tight, is_heavy) {
                (true, _) => 11,
                (_, true) => 22,
                _ => 17,
            },
            bursts: random.once_in(5),
        }
    }
}

/// Draws the next action. `there` has the numbers of clients that can still act.
#[rustfmt::skip] // one line each
pub fn draw(random: &mut Random, taste: &Taste, there: &[u32], next_client: u32) -> Action {
    let number = |random: &mut Random| random.next() as u32;
    if there.is_empty() || (there.len() < taste.clients && random.once_in(12)) {
        return connect(random, taste, next_client);
    }
    let client = random.pick(there);
    let server = u32::from(random.once_in(4));
    match random.below(1000) {
        0..380 => Action::Event { pick: number(random) },
        380..500 => Action::Events { most: random.skewed(6) as u32 },
        500..580 => Action::Flow,
        580..640 => Action::Wait { ms: random.skewed(13) as u32 },
        640..730 => Action::Take { client, most: random.skewed(17) as u32 },
        730..780 => Action::Upload { client, most: random.skewed(14) as u32 },
        780..800 if taste.bursts => {
            let count = 1 + random.skewed(11) as u32;
            Action::Burst { client, what: number(random), count }
        }
        780..860 => {
            let size = random.skewed(taste.bits.min(16)) as u32;
            Action::Say { client, what: number(random), size }
        }
        860..865 => Action::Fin { client },
        865..870 => Action::Reset { client },
        870..880 => Action::Eager { client, is_eager: random.once_in(2) },
        880..910 => Action::Serve { server },
        _ => draw_rest(random, taste, client, server),
    }
}

fn connect(random: &mut Random, taste: &Taste, client: u32) -> Action {
    Action::Connect {
        client,
        ask: random.next() as u32,
        room: match random.below(8) {
            0 => 8 + random.skewed(9) as u32,
            1..6 if taste.is_heavy => 8 << 20,
            _ => 512 + random.skewed(taste.room_bits) as u32,
        },
        kind: random.next() as u32,
    }
}

fn draw_rest(random: &mut Random, taste: &Taste, client: u32, server: u32) -> Action {
    let which = random.below(60 + taste.publishes + taste.faults);
    let number = |random: &mut Random| random.next() as u32;
    match which {
        0..8 => Action::Fin { client },
        8..14 => Action::Reset { client },
        14..16 => Action::Settle,
        16 if taste.quits && random.once_in(4) => Action::Quit,
        17..22 if taste.hold_ups => Action::HoldUp {
            ms: random.skewed(14) as u32,
        },
        22..30 if taste.is_heavy => Action::Publish {
            server,
            channel: number(random),
            // This needs more than one write.
            size: (1 << 20) + random.below(1 << 20) as u32,
            count: 1,
        },
        which if which < 60 + taste.publishes => Action::Publish {
            server,
            channel: number(random),
            size: random.skewed(taste.bits) as u32,
            count: 1 + random.skewed(5) as u32,
        },
        _ => match random.below(8) {
            0..2 => Action::Cut {
                server,
                which: number(random),
                kept: random.skewed(10) as u32,
            },
            2 => Action::Kill { server },
            _ => Action::Behave {
                server,
                how: number(random),
            },
        },
    }
}
