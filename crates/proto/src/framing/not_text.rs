//! The error for bytes that a text framing cannot carry.

/// The framing must be text, but a name or the payload is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;

impl std::fmt::Display for NotText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("message is not UTF-8")
    }
}

impl std::error::Error for NotText {}
