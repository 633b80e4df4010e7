//! How values are written in a configuration.

use std::fmt;

use proto::websocket::origin::Policy;

/// A value that is one of a set of words.
pub trait Words: Copy + PartialEq + 'static {
    /// Each word and its value.
    const WORDS: &'static [(&'static str, Self)];
}

/// All words of a type.
pub fn words<T: Words>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

/// The word for a value; empty if it has none.
pub fn word<T: Words>(value: T) -> String {
    let mut words = T::WORDS.iter();
    let found = words.find(|(_, meaning)| *meaning == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

/// A number of bytes.
pub fn bytes(value: impl TryInto<u64>) -> String {
    Size(value.try_into().unwrap_or(u64::MAX)).to_string()
}

/// Milliseconds.
pub fn time(milliseconds: u64) -> String {
    Time(milliseconds).to_string()
}

/// A value by its `Display`.
pub fn text(value: impl fmt::Display) -> String {
    value.to_string()
}

/// Which pages may connect.
pub fn origin(policy: &Policy) -> String {
    let text = match policy {
        Policy::Same => "same",
        Policy::Any => "any",
        Policy::List(_) => "a list",
    };
    text.to_owned()
}

/// Bytes.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            bytes if bytes.is_multiple_of(1 << 30) => write!(f, "{}g", bytes >> 30),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}m", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{}k", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

/// Milliseconds.
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use fanout::SlowPolicy;
    use proto::framing::FrameKind;
    use proto::payload::Envelope;

    use super::super::Detach;
    use super::*;

    #[test]
    fn numbers_are_shown_as_one_writes_them() {
        let sizes = [
            (0, "0"),
            (1, "1"),
            (1025, "1025"),
            (64 << 10, "64k"),
            (3 << 30, "3g"),
        ];
        for (bytes, shown) in sizes {
            assert_eq!(Size(bytes).to_string(), shown);
        }
        for (ms, shown) in [(1500, "1500ms"), (60_000, "60s")] {
            assert_eq!(Time(ms).to_string(), shown);
        }
    }

    fn leads_back<T: Words + fmt::Debug>() {
        for (written, value) in T::WORDS {
            assert_eq!(word(*value), *written, "{value:?}");
        }
    }

    #[test]
    fn a_word_leads_to_its_value_and_back() {
        leads_back::<bool>();
        leads_back::<Envelope>();
        leads_back::<FrameKind>();
        leads_back::<SlowPolicy>();
        leads_back::<Detach>();
    }
}
