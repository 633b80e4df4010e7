//! Header values that are lists (RFC 9110, 5.6.1).

/// `value` without surrounding spaces and tabs.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list. A recipient ignores empty ones.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether the list contains `wanted`, ignoring case. `wanted` is in lower case.
pub(super) fn contains(value: &[u8], wanted: &str) -> bool {
    let is_wanted = |element: &[u8]| {
        let pairs = element.iter().zip(wanted.as_bytes());
        // No early exit at the first difference: it would cost more than comparing the rest of a
        // short word.
        let differ = pairs.fold(0, |differ, (a, b)| differ | (a.to_ascii_lowercase() ^ b));
        element.len() == wanted.len() && differ == 0
    };
    // Nearly always `wanted` is the whole list.
    is_wanted(value) || elements(value).any(is_wanted)
}

/// Whether it is a token (RFC 9110, 5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
