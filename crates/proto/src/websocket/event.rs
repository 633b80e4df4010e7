//! Events of a connection: what the client did.

use super::close::CloseReceived;
use super::message::{MessageKind, Payload};

/// What a client did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole, valid message.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// Its bytes.
        payload: Payload,
    },
    /// A whole compressed message that was not inflated, because nobody reads it.
    Unread,
    /// A Ping. Answer it with [`ControlFrame::pong`](super::frame::ControlFrame::pong).
    Ping(Payload),
    /// A Pong.
    Pong(Payload),
    /// The last event. Answer it with [`CloseReceived::reply`] unless a Close was sent before.
    Close(CloseReceived),
}
