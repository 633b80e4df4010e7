//! The types of settings.

use std::fmt;

use fanout::SlowPolicy;
use proto::framing::FrameKind;
use proto::payload::Envelope;
use proto::websocket::close::CloseCode;

use super::written::{Time, Words};

/// Whether a client's request may be freed while its connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Unless another module needs the request.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Words for Detach {
    const WORDS: &'static [(&'static str, Detach)] = &[
        ("auto", Detach::Auto),
        ("on", Detach::On),
        ("off", Detach::Off),
    ];
}

impl Words for Envelope {
    const WORDS: &'static [(&'static str, Envelope)] = &[
        ("off", Envelope::Off),
        ("json", Envelope::Json),
        ("redis", Envelope::Redis),
    ];
}

impl Words for FrameKind {
    const WORDS: &'static [(&'static str, FrameKind)] = &[
        ("auto", FrameKind::Auto),
        ("text", FrameKind::Text),
        ("binary", FrameKind::Binary),
    ];
}

impl Words for SlowPolicy {
    const WORDS: &'static [(&'static str, SlowPolicy)] = &[
        ("close", SlowPolicy::Close),
        ("drop_oldest", SlowPolicy::DropOldest),
        ("latest", SlowPolicy::Latest),
    ];
}

impl Words for bool {
    const WORDS: &'static [(&'static str, bool)] = &[("on", true), ("off", false)];
}

/// A name that may contain variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// As written, its variables unevaluated.
    pub text: &'static [u8],
    /// It contains variables: its value differs between requests.
    pub has_variables: bool,
    /// The number by which the outside knows it.
    pub number: usize,
}

/// What a location does with its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Takes WebSocket clients.
    WebSocket,
    /// Publishes the bodies of posts.
    Publisher,
    /// Shows the worker's counters.
    Status,
}

/// One argument of `websocket_subscribe` or `websocket_psubscribe`.
#[derive(Clone, Copy)]
pub struct Subscription {
    /// Channel or pattern.
    pub kind: fanout::NameKind,
    /// Its name, with variables.
    pub name: Template,
}

/// What clients are told when they may have missed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Their connection is closed with this code. They reconnect and know.
    Close(CloseCode),
    /// Nothing.
    Keep,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Close(code) => write!(f, "close {}", code.get()),
            Gap::Keep => f.write_str("keep"),
        }
    }
}

/// How clients are closed when the worker exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// The period over which the closes are spread, in milliseconds.
    pub over: u64,
    /// The close code.
    pub code: CloseCode,
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Time(self.over), self.code.get())
    }
}

/// A fraction less than 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// The numerator.
    pub part: u64,
    /// The denominator, not 0.
    pub whole: u64,
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.whole)
    }
}
