//! Why a session ends: one type for the Close, the log, the counters and the documents.

use std::fmt;

use proto::websocket::close::{CloseCode, CloseReceived};
use proto::websocket::misbehaved::Misbehaved;

use super::state::Leaving;
use crate::counters::Counters;
use crate::outside::sockets::Level;
use crate::settings::Location;

/// Why a session ends. `docs/answers.md` has a row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client sent a Close.
    Client(CloseReceived),
    /// The connection broke, or the client left without a Close.
    Lost,
    /// The client broke the protocol.
    Misbehaved(Misbehaved),
    /// The client was silent for `websocket_timeout`.
    Silent,
    /// A message of the client came too slowly.
    Unfinished,
    /// The client fell behind by more than `websocket_send_queue` allows.
    TooSlow,
    /// Memory was short while the client was within a large message: the connection is cut.
    CutOff,
    /// There was no memory for what the client sent, or for echoes that it did not take.
    Memory,
    /// There was no memory for the client's compression history.
    CompressionMemory,
    /// A message of the client was not published.
    NotPublished(Unpublished),
    /// The worker closes the client.
    Leaving(Leaving),
    /// A bug of the module.
    Internal,
}

/// Why a client's message was not published, or may not have been. The client learns nothing about
/// Redis's users and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpublished {
    /// Redis is away.
    Away,
    /// The queue to Redis is full.
    QueueFull,
    /// Redis's ACL forbids it.
    Forbidden,
    /// Redis refused the message.
    Refused,
    /// Redis went away before it answered.
    Lost,
}

impl Cause {
    /// The close code as logged: 1005 for a Close without a code, 1006 if no Close is sent.
    pub fn code(self, location: &Location) -> u16 {
        let code = match self {
            Cause::Client(received) => return received.code.map_or(1005, CloseCode::get),
            Cause::Lost | Cause::CutOff => return 1006,
            Cause::Misbehaved(misbehaved) => misbehaved.close_code(),
            Cause::Silent => CloseCode::GOING_AWAY,
            Cause::Unfinished | Cause::TooSlow => CloseCode::POLICY,
            Cause::Memory | Cause::CompressionMemory | Cause::NotPublished(_) => {
                CloseCode::TRY_AGAIN
            }
            Cause::Leaving(Leaving::Exit) => location.drain().code,
            Cause::Leaving(Leaving::Gap) => location.gap_code(),
            Cause::Leaving(Leaving::Forbidden) => CloseCode::POLICY,
            Cause::Internal => CloseCode::INTERNAL,
        };
        code.get()
    }

    /// What the client is sent, in its own framing; `None` if nothing.
    pub fn ending(self, location: &Location) -> Option<Vec<u8>> {
        match self {
            Cause::Client(received) => Some(received.reply().to_vec()),
            cause => {
                let code = CloseCode::new(cause.code(location))?;
                Some(location.framing().ending(code, &cause.to_string()))
            }
        }
    }

    /// The counter in the status; `None` if the event behind it is already counted, or is normal.
    pub fn counter(self, counters: &mut Counters) -> Option<&mut u64> {
        match self {
            Cause::Client(_)
            | Cause::Lost
            | Cause::Memory
            | Cause::CompressionMemory
            | Cause::NotPublished(_) => None,
            Cause::Misbehaved(_) => Some(&mut counters.protocol_errors),
            Cause::Silent | Cause::Unfinished => Some(&mut counters.timed_out),
            Cause::TooSlow | Cause::CutOff => Some(&mut counters.slow_closed),
            Cause::Leaving(Leaving::Exit) => Some(&mut counters.drained),
            Cause::Leaving(Leaving::Gap) => Some(&mut counters.gap_closed),
            Cause::Leaving(Leaving::Forbidden) => Some(&mut counters.forbidden_closed),
            Cause::Internal => Some(&mut counters.panics),
        }
    }

    /// The level of the log line; `None` if there is no line.
    pub fn level(self) -> Option<Level> {
        match self {
            Cause::Client(_) | Cause::Lost => None,
            Cause::Misbehaved(_)
            | Cause::Silent
            | Cause::Unfinished
            | Cause::TooSlow
            | Cause::CutOff
            | Cause::CompressionMemory
            | Cause::NotPublished(_)
            | Cause::Leaving(_) => Some(Level::Info),
            Cause::Memory => Some(Level::Warn),
            Cause::Internal => Some(Level::Error),
        }
    }

    /// The description in `docs/answers.md`.
    pub fn documented(self) -> &'static str {
        match self {
            Cause::Client(_) => "the client's own Close",
            Cause::Lost => "a connection that broke, or was closed without a Close",
            Cause::Misbehaved(_) => {
                "a frame or message that the protocol or a limit does not allow"
            }
            Cause::Silent => "silence",
            Cause::Unfinished => "a message that comes too slowly",
            Cause::TooSlow => "a client that reads too slowly",
            Cause::CutOff => "memory that is short while the client is within a large message",
            Cause::Memory => "memory that is short",
            Cause::CompressionMemory => "memory for compression that is short",
            Cause::NotPublished(_) => "a message that was not published",
            Cause::Leaving(Leaving::Exit) => "a reload or quit",
            Cause::Leaving(Leaving::Gap) => "messages that may have been missed",
            Cause::Leaving(Leaving::Forbidden) => "Redis's ACL",
            Cause::Internal => "a bug of the module",
        }
    }

    /// One of each, for tests that the documents list them all.
    pub fn all() -> impl Iterator<Item = Cause> {
        let first = Cause::Client(CloseReceived { code: None });
        std::iter::successors(Some(first), |cause| cause.next())
    }

    /// The cause after this one in [`Cause::all`]. The match is total, so the compiler asks for the
    /// place of a new cause.
    fn next(self) -> Option<Cause> {
        Some(match self {
            Cause::Client(_) => Cause::Lost,
            Cause::Lost => Cause::Misbehaved(Misbehaved::Unmasked),
            Cause::Misbehaved(_) => Cause::Silent,
            Cause::Silent => Cause::Unfinished,
            Cause::Unfinished => Cause::TooSlow,
            Cause::TooSlow => Cause::CutOff,
            Cause::CutOff => Cause::Memory,
            Cause::Memory => Cause::CompressionMemory,
            Cause::CompressionMemory => Cause::NotPublished(Unpublished::Away),
            Cause::NotPublished(_) => Cause::Leaving(Leaving::Exit),
            Cause::Leaving(Leaving::Exit) => Cause::Leaving(Leaving::Gap),
            Cause::Leaving(Leaving::Gap) => Cause::Leaving(Leaving::Forbidden),
            Cause::Leaving(Leaving::Forbidden) => Cause::Internal,
            Cause::Internal => return None,
        })
    }
}

/// The reason in the Close and in the log.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Client(_) => "closed by client",
            Cause::Lost => "connection lost",
            Cause::Misbehaved(misbehaved) => return misbehaved.fmt(f),
            Cause::Silent => "client is silent",
            Cause::Unfinished => "message comes too slowly",
            Cause::TooSlow => "client is too slow for \"websocket_send_queue\"",
            Cause::CutOff | Cause::Memory => "out of websocket_memory",
            Cause::CompressionMemory => "out of websocket_memory for compression",
            Cause::NotPublished(Unpublished::Away) => "redis is away",
            Cause::NotPublished(Unpublished::QueueFull) => "queue to redis is full",
            Cause::NotPublished(Unpublished::Forbidden) => "redis forbids the channel",
            Cause::NotPublished(Unpublished::Refused) => "redis refused the message",
            Cause::NotPublished(Unpublished::Lost) => "redis went away before it answered",
            Cause::Leaving(Leaving::Exit) => "server is restarting",
            Cause::Leaving(Leaving::Gap) => "messages may have been missed",
            Cause::Leaving(Leaving::Forbidden) => "redis forbids the channel",
            Cause::Internal => "internal error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_has_the_code_that_is_logged() {
        let location = Location::default();
        for cause in Cause::all() {
            let (code, ending) = (cause.code(&location), cause.ending(&location));
            let told = ending.map(|frame| frame[2..].to_vec());
            match (cause, told) {
                (Cause::Lost | Cause::CutOff, told) => assert_eq!(told, None),
                (Cause::Client(_), told) => assert_eq!(told, Some(vec![])),
                (cause, told) => {
                    let told = told.expect("a Close");
                    assert_eq!(told[..2], code.to_be_bytes());
                    assert_eq!(told[2..], *cause.to_string().as_bytes());
                }
            }
        }
    }
}
