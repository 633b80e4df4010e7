//! What a client did, as its connection tells it.

use super::close::CloseReceived;
use super::message::{MessageKind, Payload};

/// What a client did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message, checked.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// Its bytes.
        payload: Payload,
    },
    /// A whole compressed message that nobody wants to read: it was not inflated.
    Unread,
    /// To be answered by [`ControlFrame::pong`](super::frame::ControlFrame::pong).
    Ping(Payload),
    /// A sign of life.
    Pong(Payload),
    /// The last event: to be answered by [`CloseReceived::reply`] unless a Close was sent before.
    Close(CloseReceived),
}
