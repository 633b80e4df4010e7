//! The host: the trait that nginx's events are passed to.

use std::ffi::CStr;

use hub::answer::Effect;
use hub::outside::{ClientId, PeerId};

use super::client_slot::ClientSlots;
use super::request::Request;
use super::slot::Slot;
use super::timer::Wants;

/// Serves this module's clients in a worker process. nginx's events call its methods.
///
/// No method may call into nginx where that may call back into the module. Such calls are left as
/// [`Effect`]s, and performed when nothing is borrowed. Everything is compiled for one host, so a
/// call costs no more than a direct call.
pub trait Host: Sized + 'static {
    /// Its name in log lines.
    const NAME: &'static str;
    /// How nginx's log lines about a client end, such as that of a failed `recv()`: "while …".
    const ACTION: &'static CStr;

    /// The state of a client.
    type Session: 'static;
    /// The figures of a client.
    type Summary: Clone + 'static;

    /// Where the process keeps its host.
    fn slot() -> &'static Slot<Self>;

    /// The process has started.
    fn start(&mut self);

    /// The process exits, and no more events come.
    fn stop(&mut self);

    /// Whether there is no effect, and no change in what [`Host::wants`] returns. Called after each
    /// event.
    fn is_settled(&mut self) -> bool;

    /// The next effect to perform when nothing is borrowed.
    fn next_effect(&mut self) -> Option<Effect>;

    /// When to call again, if that has changed.
    fn wants(&mut self) -> Option<Wants>;

    /// The timer that the host [wanted](Wants::due).
    fn tick(&mut self, now: u64);

    /// The next round of the event loop, which the host [wanted](Wants::turn).
    fn turn(&mut self);

    /// Performs an effect of the host, by [`super::effects::perform`] for this type. (The code
    /// between events and host does not know which callbacks use it.)
    fn perform(effect: Effect);

    /// The table of its clients.
    fn slots(&mut self) -> &mut ClientSlots<Self::Session>;

    /// The figures of a client so far.
    fn summary(&mut self, id: ClientId) -> Option<Self::Summary>;

    /// The bytes in the figures that the client was sent after the answer's header.
    fn bytes_sent(summary: &Self::Summary) -> u64;

    /// Whether a client's request may be freed while its connection is open. `is_needed` tells
    /// whether another module waits for the request's end.
    fn may_detach(&mut self, id: ClientId, is_needed: impl FnOnce() -> bool) -> bool;

    /// The 101 has been sent, and the connection is the client's. `early` is what the client has
    /// already sent.
    fn client_open(&mut self, id: ClientId, early: Vec<u8>);

    /// The client's socket did not take all of the 101 at once.
    fn client_opens_slowly(&mut self, id: ClientId);

    /// The client's socket is readable.
    fn client_readable(&mut self, id: ClientId);

    /// The client's socket is writable.
    fn client_writable(&mut self, id: ClientId);

    /// The turn of a client to be read has come: [`Effect::Read`].
    fn take_turn(&mut self, id: ClientId);

    /// nginx wants the client to leave: a graceful quit, or at once if `forced`.
    fn client_told_to_close(&mut self, id: ClientId, forced: bool);

    /// The client's connection or request ends.
    fn client_gone(&mut self, id: ClientId);

    /// An event of the client panicked.
    fn client_panicked(&mut self, id: ClientId);

    /// Takes a parked request out, to answer it.
    fn take_parked(&mut self, number: u64) -> Option<Request>;

    /// nginx ended a parked request by itself.
    fn parked_gone(&mut self, number: u64);

    /// A peer's socket is readable.
    fn peer_readable(&mut self, id: PeerId);

    /// A peer's socket is writable.
    fn peer_writable(&mut self, id: PeerId);

    /// nginx wants the connection to a peer closed.
    fn peer_told_to_close(&mut self, id: PeerId);
}
