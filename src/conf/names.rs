//! Names of channels in nginx.conf: those that no request can make valid, and those that probably
//! mean something else.

use hub::settings::MAX_CHANNEL;
use proto::redis::PROBE_PREFIX;

/// What is wrong with a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every request would be answered 400. Holds the advice.
    Refused(&'static str),
    /// It is one name that looks like several. Holds what it is, and what is probably meant.
    Doubtful(&'static str),
}

/// Checks the `template` of a directive's argument, with its variables as written; `is_pattern` if
/// Redis's wildcards are allowed. Names of variables have none of the characters in question.
pub fn judge(template: &[u8], has_variables: bool, is_pattern: bool) -> Option<Fault> {
    let has = |characters: &[u8]| template.iter().any(|b| characters.contains(b));
    if template.is_empty() {
        Some(Fault::Refused("a channel needs a name"))
    } else if template.starts_with(PROBE_PREFIX) {
        Some(Fault::Refused(
            "\"ngx_ws_probe:\" is reserved for the module's own probes",
        ))
    } else if template.iter().any(u8::is_ascii_control) {
        Some(Fault::Refused("a channel's name has no control characters"))
    } else if !has_variables && template.len() > MAX_CHANNEL {
        Some(Fault::Refused("a channel's name has at most 512 bytes"))
    } else if !is_pattern && has(b"*?[") {
        Some(Fault::Doubtful(
            "is one channel of that very name, patterns are for \"websocket_psubscribe\"",
        ))
    } else if has(b",") {
        Some(Fault::Doubtful(
            "is one name with a comma in it, several are separated by spaces",
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_they_are_written() {
        let of = |template: &str, is_pattern| {
            judge(template.as_bytes(), template.contains('$'), is_pattern)
        };
        for fine in [
            "foo",
            "news:$a",
            "a${b}c",
            "ü",
            "__keyspace@0__:x",
            "a;b",
            "a]b",
        ] {
            assert_eq!(of(fine, false), None, "{fine}");
            assert_eq!(of(fine, true), None, "{fine}");
        }
        for refused in ["", "ngx_ws_probe:", "ngx_ws_probe:$a", "a\tb", "$a\n"] {
            for is_pattern in [false, true] {
                let fault = of(refused, is_pattern);
                assert!(matches!(fault, Some(Fault::Refused(_))), "{refused:?}");
            }
        }
        for glob in ["news.*", "$a?", "[ab]"] {
            assert!(
                matches!(of(glob, false), Some(Fault::Doubtful(_))),
                "{glob}"
            );
            assert_eq!(of(glob, true), None, "{glob}");
        }
        for list in ["foo,bar", "$a,b"] {
            for is_pattern in [false, true] {
                let fault = of(list, is_pattern);
                assert!(matches!(fault, Some(Fault::Doubtful(_))), "{list}");
            }
        }
    }

    #[test]
    fn a_literal_name_has_512_bytes_at_most() {
        let name = |len| vec![b'x'; len];
        assert_eq!(judge(&name(512), false, false), None);
        assert!(matches!(
            judge(&name(513), false, false),
            Some(Fault::Refused(_))
        ));
        assert_eq!(judge(&name(513), true, false), None, "not a name yet");
    }
}
