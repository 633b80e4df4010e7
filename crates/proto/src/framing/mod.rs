//! How payloads are delimited, how a silent client is kept alive, and how it is told why its stream
//! ends.
//!
//! | framing | message | keep-alive | end |
//! | --- | --- | --- | --- |
//! | WebSocket | a frame, compressed where that was agreed | Ping | Close |
//! | event stream | an event of `data:` lines | a comment | an event `close` |
//! | NDJSON | a line | an empty line | a line `{"close":…}` |
//!
//! `payload` defines what the payload is. A message is framed once for each [`MessageFormat`] that
//! some client wants.

mod ending_object;
mod event_stream;
mod format;
mod ndjson;
mod not_text;
mod websocket;

pub use format::{Framing, MessageFormat};
pub use not_text::NotText;
pub use websocket::{Compression, FrameKind};
