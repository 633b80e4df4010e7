//! UTF-8 validation of a text that arrives in pieces (RFC 3629; RFC 6455, 8.1).
//!
//! Whole code points of a piece are checked in bulk. The few bytes at its end that begin an
//! incomplete code point go through `Utf8::push`. It knows after each byte whether the text can
//! still become valid, so an invalid text fails at its first bad byte, not at its last.

/// The text is not UTF-8, whatever may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// The position within a code point. `default()` is between two code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf8 {
    /// Continuation bytes still missing.
    missing: u8,
    /// The range of the next continuation byte.
    lowest: u8,
    highest: u8,
}

impl Default for Utf8 {
    fn default() -> Self {
        Self::awaiting(0, 0x80, 0xbf)
    }
}

impl Utf8 {
    const fn awaiting(missing: u8, lowest: u8, highest: u8) -> Self {
        Self {
            missing,
            lowest,
            highest,
        }
    }

    /// Checks the next piece.
    ///
    /// # Errors
    /// The piece has a byte after which no continuation can make the text valid.
    #[inline]
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        // Most pieces begin and end between two code points.
        match piece {
            [.., 0x00..=0x7f] if self.missing == 0 => check_whole(piece),
            _ => self.feed_cut(piece),
        }
    }

    /// Checks a piece that may begin or end within a code point.
    fn feed_cut(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        while self.missing > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            self.push(byte)?;
            piece = rest;
        }
        let (whole, begun) = piece.split_at(piece.len() - unfinished(piece));
        check_whole(whole)?;
        begun.iter().try_for_each(|&byte| self.push(byte))
    }

    /// Whether the text may end here.
    pub fn is_complete(self) -> bool {
        self.missing == 0
    }

    // RFC 3629, 4: the second byte's range excludes overlong forms, surrogates and everything
    // beyond U+10FFFF.
    fn push(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        *self = match (self.missing, byte) {
            (0, 0x00..=0x7f) => Self::default(),
            (0, 0xc2..=0xdf) => Self::awaiting(1, 0x80, 0xbf),
            (0, 0xe0) => Self::awaiting(2, 0xa0, 0xbf),
            (0, 0xed) => Self::awaiting(2, 0x80, 0x9f),
            (0, 0xe1..=0xef) => Self::awaiting(2, 0x80, 0xbf),
            (0, 0xf0) => Self::awaiting(3, 0x90, 0xbf),
            (0, 0xf4) => Self::awaiting(3, 0x80, 0x8f),
            (0, 0xf1..=0xf3) => Self::awaiting(3, 0x80, 0xbf),
            (1.., _) if (self.lowest..=self.highest).contains(&byte) => {
                Self::awaiting(self.missing - 1, 0x80, 0xbf)
            }
            _ => return Err(InvalidUtf8),
        };
        Ok(())
    }
}

#[inline]
fn check_whole(code_points: &[u8]) -> Result<(), InvalidUtf8> {
    match simdutf8::basic::from_utf8(code_points) {
        Ok(_) => Ok(()),
        Err(_) => Err(InvalidUtf8),
    }
}

/// How many bytes at the end begin an incomplete code point.
fn unfinished(piece: &[u8]) -> usize {
    let tail = &piece[piece.len().saturating_sub(3)..];
    for (behind, &byte) in (1..).zip(tail.iter().rev()) {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0.. => 4,
            _ => 1,
        };
        return if length > behind { behind } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The naive twin: the standard library on the whole text so far.
    fn could_go_on(text: &[u8]) -> Result<bool, InvalidUtf8> {
        match std::str::from_utf8(text) {
            Ok(_) => Ok(true),
            Err(e) if e.error_len().is_none() => Ok(false),
            Err(_) => Err(InvalidUtf8),
        }
    }

    fn byte_by_byte(text: &[u8]) -> Result<bool, InvalidUtf8> {
        let mut state = Utf8::default();
        for (i, &byte) in text.iter().enumerate() {
            let got = state.feed(&[byte]).map(|()| state.is_complete());
            assert_eq!(got, could_go_on(&text[..=i]), "{text:02x?} at {i}");
            got?;
        }
        Ok(state.is_complete())
    }

    fn check_all_splits(text: &[u8]) {
        let want = byte_by_byte(text);
        for split in 0..=text.len() {
            let mut state = Utf8::default();
            let (head, tail) = text.split_at(split);
            let got = state
                .feed(head)
                .and_then(|()| state.feed(tail))
                .map(|()| state.is_complete());
            assert_eq!(got, want, "{text:02x?} split at {split}");
        }
    }

    #[test]
    fn state_is_three_bytes() {
        assert_eq!(size_of::<Utf8>(), 3);
    }

    #[test]
    fn every_three_byte_text_agrees_with_the_standard_library() {
        for lead in 0..=0xff {
            for second in 0..=0xff {
                for third in [
                    0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xf0, 0xff,
                ] {
                    let _ = byte_by_byte(&[lead, second, third]);
                }
            }
        }
    }

    #[test]
    fn every_scalar_value_is_accepted_however_it_is_cut() {
        for scalar in (0..=0x10ffff).step_by(61).filter_map(char::from_u32) {
            check_all_splits(scalar.to_string().as_bytes());
        }
    }

    #[test]
    fn long_texts_with_one_bad_place_agree_at_every_split() {
        for bad in [
            "c0 80",
            "e0 80 80",
            "ed a0 80",
            "f0 80 80 80",
            "f4 90 80 80",
            "ff",
            "c3",
            "80",
        ] {
            let bad: Vec<u8> = bad
                .split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            for at in [0, 1, 62, 63, 64, 65, 130] {
                let mut text = "κόσμε ".repeat(20).into_bytes();
                text.truncate(at);
                text.extend_from_slice(&bad);
                text.extend_from_slice(b" and more");
                check_all_splits(&text);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_agree_at_every_split(text in prop::collection::vec(any::<u8>(), 0..40)) {
            check_all_splits(&text);
        }

        #[test]
        fn any_text_is_accepted_at_every_split(text in "\\PC{0,60}") {
            check_all_splits(text.as_bytes());
        }
    }
}
