//! Upwards from nginx: what its events are told to.

use std::ffi::CStr;

use hub::answer::Effect;
use hub::outside::{ClientId, PeerId};

use super::client_slot::ClientSlots;
use super::request::Request;
use super::slot::Slot;
use super::timer::Wants;

/// What serves this module's clients in a worker process: nginx's events call its methods.
///
/// None of them may call nginx where that calls back into the module: what does is left as an
/// [`Effect`], and done once nothing is borrowed. All is compiled for one host, so a call costs what a
/// direct call costs.
pub trait Host: Sized + 'static {
    /// What the lines of the log call it.
    const NAME: &'static str;
    /// What nginx's log lines of a client, such as a failed `recv()`, end with: "while …".
    const ACTION: &'static CStr;

    /// What is kept for a client.
    type Session: 'static;
    /// A client's life in numbers.
    type Summary: Clone + 'static;

    /// Where the process keeps its host.
    fn slot() -> &'static Slot<Self>;

    /// The process has begun.
    fn start(&mut self);

    /// The process exits, and no event comes any more.
    fn stop(&mut self);

    /// There is neither an effect, nor a change of what [`Host::wants`] tells. Asked after each event.
    fn is_settled(&mut self) -> bool;

    /// The next thing to do once nothing is borrowed.
    fn next_effect(&mut self) -> Option<Effect>;

    /// When to call again, if that has changed.
    fn wants(&mut self) -> Option<Wants>;

    /// The timer that it [wanted](Wants::due).
    fn tick(&mut self, now: u64);

    /// The next round of the event loop, which it [wanted](Wants::turn).
    fn turn(&mut self);

    /// Does what the host has left: by [`super::effects::perform`], for this host. (The road from events to
    /// their host does not know who else goes on it.)
    fn perform(effect: Effect);

    /// Where its clients sit.
    fn slots(&mut self) -> &mut ClientSlots<Self::Session>;

    /// A client's life in numbers so far.
    fn summary(&mut self, id: ClientId) -> Option<Self::Summary>;

    /// Of a client's life, the bytes that it was sent after the answer's header.
    fn bytes_sent(summary: &Self::Summary) -> u64;

    /// Whether a client's request may be freed while its connection lives; `is_needed` tells whether
    /// another module waits for the request's end.
    fn may_detach(&mut self, id: ClientId, is_needed: impl FnOnce() -> bool) -> bool;

    /// The 101 is out, and the connection is the client's: `early` is what it has sent already.
    fn client_open(&mut self, id: ClientId, early: Vec<u8>);

    /// The client's socket does not take the 101 at once.
    fn client_opens_slowly(&mut self, id: ClientId);

    /// The client's socket may be read.
    fn client_readable(&mut self, id: ClientId);

    /// The client's socket may be written.
    fn client_writable(&mut self, id: ClientId);

    /// A client is read whose turn has come: [`Effect::Read`].
    fn take_turn(&mut self, id: ClientId);

    /// nginx wants the client to leave: a graceful quit, or at once if `forced`.
    fn client_told_to_close(&mut self, id: ClientId, forced: bool);

    /// The client's connection or request ends.
    fn client_gone(&mut self, id: ClientId);

    /// An event of the client's has panicked.
    fn client_panicked(&mut self, id: ClientId);

    /// Takes a parked request out, to answer it.
    fn take_parked(&mut self, number: u64) -> Option<Request>;

    /// nginx has ended a parked request on its own account.
    fn parked_gone(&mut self, number: u64);

    /// A peer's socket may be read.
    fn peer_readable(&mut self, id: PeerId);

    /// A peer's socket may be written.
    fn peer_writable(&mut self, id: PeerId);

    /// nginx wants the connection to a peer to end.
    fn peer_told_to_close(&mut self, id: PeerId);
}
