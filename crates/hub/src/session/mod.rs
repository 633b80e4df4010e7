//! One WebSocket client: what it has begun, what it is still owed, how it ends.
//!
//! ```text
//! Opening ──101 is out──> Open ──Close queued──> Closing ──Close is out──> Lingering ──> gone
//!                          └──────────── connection lost ──────> Lost ──────────────> gone
//! ```
//!
//! A session that keeps up is little more than a position in its feed. [`Outbox`] and [`Notes`] are
//! boxes that most clients never need.

mod cause;
mod inbox;
mod kept;
pub mod life;
mod liveness;
mod notes;
mod outbox;
mod pulse;
mod reading;
mod sending;
mod state;
mod summary;
pub mod work;

pub use cause::{Cause, Unpublished};
#[cfg(feature = "test-panic")]
pub use inbox::panic_if_asked;
pub use inbox::{End, Inbox};
pub use kept::Kept;
pub use life::Life;
pub use liveness::{Check, LINGER_MS, PARTING_MS};
pub use notes::Notes;
pub use outbox::Outbox;
pub use pulse::{Pulse, TICK_MS};
pub use state::{Leaving, Phase, Session, Weight};
pub use summary::Summary;
