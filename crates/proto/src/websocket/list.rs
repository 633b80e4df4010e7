//! Header values that are lists (RFC 9110, 5.6.1).

/// `value` without the spaces and tabs around it.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list; a recipient passes over empty ones.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether the list has `wanted`, which is in lower case, in any case.
pub(super) fn contains(value: &[u8], wanted: &str) -> bool {
    let is_wanted = |element: &[u8]| {
        let pairs = element.iter().zip(wanted.as_bytes());
        // Without an end at the first difference, which costs more than the rest of a short word.
        let differ = pairs.fold(0, |differ, (a, b)| differ | (a.to_ascii_lowercase() ^ b));
        element.len() == wanted.len() && differ == 0
    };
    // Nearly always it is the whole list.
    is_wanted(value) || elements(value).any(is_wanted)
}

/// A token of RFC 9110, 5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
