//! RESP2 replies, returned as ranges of the buffer: a push costs no allocation.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

/// The longest bulk string, in bytes: Redis's own default limit (`proto-max-bulk-len`).
pub const MAX_BULK: usize = 512 << 20;
/// The longest line (status, error, number), in bytes.
pub const MAX_LINE: usize = 64 << 10;
/// The length of a line's end, `\r
/// `, in bytes.
pub(super) const LINE_END: usize = 2;
/// The deepest nesting of arrays. Pub/sub needs one level.
pub const MAX_DEPTH: usize = 8;
/// The most elements of one reply. Pub/sub needs four.
pub const MAX_ELEMENTS: usize = 1_024;

/// The result of reading the beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a reply. Read again once the buffer holds at least `need` bytes.
    Partial {
        /// The number of bytes needed, counted from the reply's first.
        need: usize,
    },
    /// One reply.
    Whole {
        /// The reply. Its ranges count from the reply's first byte.
        reply: Reply,
        /// The reply's length in bytes.
        len: usize,
    },
}

/// One reply from the server. Ranges count from its first byte.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// `message`, `pmessage` or `smessage`.
    Message(Message),
    /// `subscribe`, `unsubscribe` and the like: one name was subscribed or unsubscribed.
    Change(Change),
    /// Any other reply.
    Value(Value),
}

/// A published message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The pattern that matched (`pmessage`).
    pub pattern: Option<Range<usize>>,
    /// The channel it was published to.
    pub channel: Range<usize>,
    /// What was published.
    pub payload: Range<usize>,
    /// Whether it came through a sharded channel (`smessage`).
    pub sharded: bool,
}

/// The answer for one name of a `SUBSCRIBE` or `UNSUBSCRIBE`.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Which command it answers.
    pub verb: Verb,
    /// The name. `None` if an `UNSUBSCRIBE` without names found nothing to end.
    pub name: Option<Range<usize>>,
    /// How many subscriptions the connection now has.
    pub count: i64,
}

/// The commands that change subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Subscribe,
    Unsubscribe,
    Psubscribe,
    Punsubscribe,
    Ssubscribe,
    Sunsubscribe,
}

/// A reply that is not a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// `+OK`
    Status(Range<usize>),
    /// `-ERR what is wrong`
    Error(Range<usize>),
    /// `:1`
    Integer(i64),
    /// `$3` and its bytes
    Bulk(Range<usize>),
    /// `$-1` or `*-1`
    Null,
    /// `*2` and its elements
    Array(Vec<Value>),
}

/// The data is not RESP2 or exceeds a limit. The connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A byte that begins no reply type.
    Mark(u8),
    /// An invalid length or number.
    Number,
    /// A bulk string without its end of line.
    BulkEnd,
    /// A line longer than [`MAX_LINE`].
    LongLine,
    /// A bulk string longer than [`MAX_BULK`].
    LongBulk,
    /// More elements than [`MAX_ELEMENTS`].
    ManyElements,
    /// Arrays nested deeper than [`MAX_DEPTH`].
    Deep,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(mark) => write!(f, "reply begins with byte 0x{mark:02x}"),
            Self::Number => f.write_str("invalid number in a reply"),
            Self::BulkEnd => f.write_str("bulk string without its end"),
            Self::LongLine => f.write_str("too long line in a reply"),
            Self::LongBulk => f.write_str("too long bulk string"),
            Self::ManyElements => f.write_str("reply of too many elements"),
            Self::Deep => f.write_str("too deeply nested reply"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Reads the reply at the beginning of `buffer`.
///
/// # Errors
/// The stream is not RESP2 or exceeds a limit.
pub fn parse(buffer: &[u8]) -> Result<Parsed, Malformed> {
    let mut scan = Scan {
        buffer,
        at: 0,
        elements: 0,
    };
    match scan.reply() {
        Ok(reply) => Ok(Parsed::Whole {
            reply,
            len: scan.at,
        }),
        Err(Stop::Short { need }) => Ok(Parsed::Partial { need }),
        Err(Stop::Malformed(why)) => Err(why),
    }
}

/// The channel of a `message` that begins a buffer, in the form that every Redis writes. Its
/// payload follows as a [`plain_bulk`]. [`parse`] reads this form and all others.
///
/// This is the hot path of a subscriber: nearly all its input is in this form.
#[inline]
pub(super) fn plain_channel(buffer: &[u8]) -> Option<Range<usize>> {
    if !buffer.starts_with(MESSAGE) {
        return None;
    }
    plain_bulk(buffer, MESSAGE.len())
}

/// The bulk string whose `$` is at `mark`, if it is complete and its length has one to four digits.
#[inline]
pub(super) fn plain_bulk(buffer: &[u8], mark: usize) -> Option<Range<usize>> {
    let line = buffer.get(mark..mark + 7)?;
    let (length, digits) = short_length(&line[1..])?;
    let begin = mark + 1 + digits + LINE_END;
    let end = begin + length;
    let is_bulk = line[0] == b'$' && buffer.get(end..end + LINE_END)? == b"\r\n";
    is_bulk.then_some(begin..end)
}

/// The payloads of complete messages at the beginning of `buffer` that all begin with `head`, read
/// like [`plain_bulk`] does. `used` counts their bytes.
#[inline]
pub(super) fn plain_messages<'a>(
    buffer: &'a [u8],
    head: &[u8],
    used: &mut usize,
) -> impl Iterator<Item = &'a [u8]> {
    std::iter::from_fn(move || {
        let rest = &buffer[*used..];
        if !begins_with(rest, head) {
            return None;
        }
        let payload = plain_bulk(rest, head.len())?;
        *used += payload.end + LINE_END;
        Some(&rest[payload])
    })
}

/// [`starts_with`](slice::starts_with) without a call of C's `memcmp`. Pieces of constant length
/// compile to a few moves each; the last piece may overlap the one before.
#[inline]
fn begins_with(buffer: &[u8], head: &[u8]) -> bool {
    const PIECE: usize = 16;
    let Some(begin) = buffer.get(..head.len()) else {
        return false;
    };
    let Some(last) = head.last_chunk::<PIECE>() else {
        return begin == head;
    };
    let mut pieces = begin.chunks_exact(PIECE).zip(head.chunks_exact(PIECE));
    begin.last_chunk() == Some(last)
        && pieces.all(|(a, b)| a.first_chunk::<PIECE>() == b.first_chunk())
}

/// A length of one to four digits with its end of line, and the number of digits.
#[inline]
fn short_length(line: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (digits, pair) in line.windows(2).take(5).enumerate() {
        let digit = pair[0].wrapping_sub(b'0');
        if digit <= 9 {
            length = length * 10 + usize::from(digit);
        } else if digits > 0 && pair == b"\r\n" {
            return Some((length, digits));
        } else {
            return None;
        }
    }
    None
}

/// Why reading stopped before the end of a reply.
enum Stop {
    Short { need: usize },
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

/// The beginning of a message: an array of three whose first element is its kind.
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n";

struct Scan<'a> {
    buffer: &'a [u8],
    at: usize,
    elements: usize,
}

impl Scan<'_> {
    fn reply(&mut self) -> Result<Reply, Stop> {
        if self.peek()? == b'*'
            && let Some(push) = self.push()?
        {
            return Ok(push);
        }
        self.value(0).map(Reply::Value)
    }

    /// Reads a push: an array of three or four whose first element is its kind. `None` if the array
    /// is something else; nothing is consumed then.
    fn push(&mut self) -> Result<Option<Reply>, Stop> {
        let begin = self.at;
        self.at += 1;
        let count = self.number()?;
        if (count == 3 || count == 4) && self.peek()? == b'$' {
            let kind = self.bulk()?;
            let push = match (self.range(&kind), count) {
                (Some(b"message"), 3) => self.message(false, false)?,
                (Some(b"pmessage"), 4) => self.message(true, false)?,
                (Some(b"smessage"), 3) => self.message(false, true)?,
                (Some(b"subscribe"), 3) => self.change(Verb::Subscribe)?,
                (Some(b"unsubscribe"), 3) => self.change(Verb::Unsubscribe)?,
                (Some(b"psubscribe"), 3) => self.change(Verb::Psubscribe)?,
                (Some(b"punsubscribe"), 3) => self.change(Verb::Punsubscribe)?,
                (Some(b"ssubscribe"), 3) => self.change(Verb::Ssubscribe)?,
                (Some(b"sunsubscribe"), 3) => self.change(Verb::Sunsubscribe)?,
                _ => None,
            };
            if push.is_some() {
                return Ok(push);
            }
        }
        self.at = begin;
        Ok(None)
    }

    /// Reads the rest of a message after its kind. `None` if its elements are not strings.
    fn message(&mut self, has_pattern: bool, sharded: bool) -> Result<Option<Reply>, Stop> {
        let pattern = match has_pattern {
            true => match self.string()? {
                Some(pattern) => Some(pattern),
                None => return Ok(None),
            },
            false => None,
        };
        let Some(channel) = self.string()? else {
            return Ok(None);
        };
        let Some(payload) = self.string()? else {
            return Ok(None);
        };
        Ok(Some(Reply::Message(Message {
            pattern,
            channel,
            payload,
            sharded,
        })))
    }

    fn change(&mut self, verb: Verb) -> Result<Option<Reply>, Stop> {
        if self.peek()? != b'$' {
            return Ok(None);
        }
        let name = self.bulk()?;
        if self.peek()? != b':' {
            return Ok(None);
        }
        self.at += 1;
        let count = self.number()?;
        Ok(Some(Reply::Change(Change { verb, name, count })))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(Malformed::ManyElements.into());
        }
        match self.peek()? {
            b'+' => self.line().map(Value::Status),
            b'-' => self.line().map(Value::Error),
            b':' => {
                self.at += 1;
                self.number().map(Value::Integer)
            }
            b'$' => Ok(self.bulk()?.map_or(Value::Null, Value::Bulk)),
            b'*' => self.array(depth),
            mark => Err(Malformed::Mark(mark).into()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth == MAX_DEPTH {
            return Err(Malformed::Deep.into());
        }
        self.at += 1;
        let count = match self.number()? {
            -1 => return Ok(Value::Null),
            count => usize::try_from(count).map_err(|_| Malformed::Number)?,
        };
        if count > MAX_ELEMENTS - self.elements {
            return Err(Malformed::ManyElements.into());
        }
        (0..count)
            .map(|_| self.value(depth + 1))
            .collect::<Result<_, _>>()
            .map(Value::Array)
    }

    /// Reads a bulk string that is not null. `None` otherwise; nothing is consumed then.
    fn string(&mut self) -> Result<Option<Range<usize>>, Stop> {
        if self.peek()? != b'$' {
            return Ok(None);
        }
        self.bulk()
    }

    fn bulk(&mut self) -> Result<Option<Range<usize>>, Stop> {
        self.at += 1;
        let length = match self.number()? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| Malformed::Number)?,
        };
        if length > MAX_BULK {
            return Err(Malformed::LongBulk.into());
        }
        let begin = self.at;
        let end = begin + length;
        match self.buffer.get(end..end + 2) {
            Some(b"\r\n") => {
                self.at = end + 2;
                Ok(Some(begin..end))
            }
            Some(_) => Err(Malformed::BulkEnd.into()),
            None => Err(Stop::Short { need: end + 2 }),
        }
    }

    /// Reads a decimal number and its end of line.
    fn number(&mut self) -> Result<i64, Stop> {
        let mut at = self.at;
        let negative = self.byte(at)? == b'-';
        at += usize::from(negative);
        let first_digit = at;
        let mut number: i64 = 0;
        loop {
            let byte = self.byte(at)?;
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            let signed = if negative {
                -i64::from(digit)
            } else {
                i64::from(digit)
            };
            number = number
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(signed))
                .ok_or(Malformed::Number)?;
            at += 1;
            // Leading zeros would let a number grow without end.
            if at - first_digit > 19 {
                return Err(Malformed::Number.into());
            }
        }
        if at == first_digit || self.byte(at)? != b'\r' || self.byte(at + 1)? != b'\n' {
            return Err(Malformed::Number.into());
        }
        self.at = at + 2;
        Ok(number)
    }

    /// The rest of a line after its type byte.
    fn line(&mut self) -> Result<Range<usize>, Stop> {
        let begin = self.at + 1;
        let mut from = begin;
        while let Some(found) = memchr(b'\r', self.buffer.get(from..).unwrap_or_default()) {
            let end = from + found;
            if end - begin > MAX_LINE {
                break;
            }
            if self.byte(end + 1)? == b'\n' {
                self.at = end + 2;
                return Ok(begin..end);
            }
            from = end + 1;
        }
        if self.buffer.len().saturating_sub(begin) > MAX_LINE {
            return Err(Malformed::LongLine.into());
        }
        Err(Stop::Short {
            need: self.buffer.len() + 1,
        })
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.byte(self.at)
    }

    #[inline]
    fn byte(&self, at: usize) -> Result<u8, Stop> {
        match self.buffer.get(at) {
            Some(byte) => Ok(*byte),
            None => Err(Stop::Short { need: at + 1 }),
        }
    }

    fn range(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.clone().map(|range| &self.buffer[range])
    }
}

/// The first word of an error, which is its kind.
pub(super) fn error_code(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asserts that both readers agree on the beginning of a buffer.
    fn check(buffer: &[u8]) -> bool {
        let Some(channel) = plain_channel(buffer) else {
            return false;
        };
        let Some(payload) = plain_bulk(buffer, channel.end + LINE_END) else {
            return false;
        };
        let len = payload.end + LINE_END;
        let reply = Reply::Message(Message {
            pattern: None,
            channel,
            payload,
            sharded: false,
        });
        assert_eq!(parse(buffer), Ok(Parsed::Whole { reply, len }));
        true
    }

    fn push(channel: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = MESSAGE.to_vec();
        for part in [channel, payload] {
            bytes.extend(format!("${}\r\n", part.len()).into_bytes());
            bytes.extend(part);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[test]
    fn the_hot_path_takes_what_redis_writes() {
        for length in [1, 9, 10, 128, 999, 1_000, 9_999] {
            assert!(check(&push(b"foo", &vec![b'\r'; length])), "{length}");
        }
    }

    proptest! {
        #[test]
        fn the_hot_path_reads_no_other_than_parse(
            channel in proptest::collection::vec(any::<u8>(), 0..20),
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
            wrong in any::<prop::sample::Index>(),
            byte in prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'0')],
        ) {
            let bytes = push(&channel, &payload);
            check(&bytes);
            check(&bytes[..cut.index(bytes.len())]);
            let mut damaged = bytes;
            let at = wrong.index(damaged.len());
            damaged[at] = byte;
            check(&damaged);
        }
    }
}
