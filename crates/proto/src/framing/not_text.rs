//! What can't be told in a framing that is text.

/// The framing must be text, and a name or the payload is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;

impl std::fmt::Display for NotText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("message is not UTF-8")
    }
}

impl std::error::Error for NotText {}
