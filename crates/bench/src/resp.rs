//! The part of Redis's protocol that a publisher and a subscriber need.
use std::io::{self, Write as _};
use std::ops::Range;

/// Appends a command.
pub fn push_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    let written: io::Result<()> = (|| {
        write!(out, "*{}\r\n", words.len())?;
        for word in words {
            write!(out, "${}\r\n", word.len())?;
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    })();
    debug_assert!(written.is_ok(), "a Vec takes all");
}

/// A push at the beginning of a subscriber's link.
#[derive(Debug, PartialEq, Eq)]
pub struct Push {
    /// The published message. `None` for a confirmation.
    pub payload: Option<Range<usize>>,
    /// Where the next push begins.
    pub end: usize,
}

/// The push at the beginning of `bytes`, once it is complete: an array of three. The last element
/// is a bulk string (a message) or an integer (a confirmation).
pub fn next_push(bytes: &[u8]) -> Option<Push> {
    let (_, at) = number(bytes, 0)?;
    let at = skip_bulk(bytes, at)?;
    let at = skip_bulk(bytes, at)?;
    let (len, start) = number(bytes, at)?;
    if bytes[at] != b'$' {
        return Some(Push {
            payload: None,
            end: start,
        });
    }
    let end = start + len + 2;
    (bytes.len() >= end).then_some(Push {
        payload: Some(start..start + len),
        end,
    })
}

fn skip_bulk(bytes: &[u8], at: usize) -> Option<usize> {
    let (len, start) = number(bytes, at)?;
    Some(start + len + 2)
}

/// The number in the line at `at`, after its type byte, and where the next line begins.
fn number(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, &byte) in bytes.get(at + 1..)?.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + usize::from(byte - b'0'),
            _ => return (bytes.len() >= at + i + 3).then_some((value, at + i + 3)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_found_once_they_are_whole() {
        let mut bytes = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".to_vec();
        let confirmed = bytes.len();
        push_command(&mut bytes, &[b"message", b"c", b"12\r\n5"]);
        assert_eq!(
            next_push(&bytes),
            Some(Push {
                payload: None,
                end: confirmed
            })
        );
        let message = &bytes[confirmed..];
        for cut in 0..message.len() {
            assert_eq!(next_push(&message[..cut]), None, "cut at {cut}");
        }
        let push = next_push(message).unwrap();
        assert_eq!(push.end, message.len());
        assert_eq!(&message[push.payload.unwrap()], b"12\r\n5");
    }
}
