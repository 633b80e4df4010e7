//! Compares the reply parser with that of the `redis` crate.

use proto::redis::resp::{self, Malformed, Message, Parsed, Reply};
use redis::Value as Theirs;

/// Our reading of `bytes` in the crate's types, and its length.
pub fn ours(bytes: &[u8]) -> Result<Option<(Theirs, usize)>, Malformed> {
    match resp::parse(bytes)? {
        Parsed::Partial { need } => {
            assert!(need > bytes.len(), "would not wait for anything");
            Ok(None)
        }
        Parsed::Whole { reply, len } => Ok(Some((translated(&reply, bytes), len))),
    }
}

fn translated(reply: &Reply, bytes: &[u8]) -> Theirs {
    let bulk = |range: &std::ops::Range<usize>| Theirs::BulkString(bytes[range.clone()].to_vec());
    let word = |text: &str| Theirs::BulkString(text.as_bytes().to_vec());
    match reply {
        Reply::Message(Message {
            pattern: Some(pattern),
            channel,
            payload,
            ..
        }) => Theirs::Array(vec![
            word("pmessage"),
            bulk(pattern),
            bulk(channel),
            bulk(payload),
        ]),
        Reply::Message(Message {
            pattern: None,
            channel,
            payload,
            sharded,
        }) => {
            let kind = if *sharded { "smessage" } else { "message" };
            Theirs::Array(vec![word(kind), bulk(channel), bulk(payload)])
        }
        Reply::Change(change) => {
            let verb = format!("{:?}", change.verb).to_ascii_lowercase();
            let name = change.name.as_ref().map_or(Theirs::Nil, bulk);
            Theirs::Array(vec![word(&verb), name, Theirs::Int(change.count)])
        }
        Reply::Value(value) => translated_value(value, bytes),
    }
}

fn translated_value(value: &resp::Value, bytes: &[u8]) -> Theirs {
    match value {
        resp::Value::Status(range) if &bytes[range.clone()] == b"OK" => Theirs::Okay,
        resp::Value::Status(range) => {
            Theirs::SimpleString(String::from_utf8_lossy(&bytes[range.clone()]).into_owned())
        }
        resp::Value::Error(range) => {
            let line = [b"-", &bytes[range.clone()], b"\r\n"].concat();
            redis::parse_redis_value(&line).unwrap_or(Theirs::Nil)
        }
        resp::Value::Integer(number) => Theirs::Int(*number),
        resp::Value::Bulk(range) => Theirs::BulkString(bytes[range.clone()].to_vec()),
        resp::Value::Null => Theirs::Nil,
        resp::Value::Array(values) => Theirs::Array(
            values
                .iter()
                .map(|value| translated_value(value, bytes))
                .collect(),
        ),
    }
}

/// The crate reads a reply that we read whole in the same way, and does not take anything shorter
/// for whole. Nor does it take for whole what is incomplete to us. (We are stricter: "+5" or " 5"
/// is no number.)
pub fn compare(bytes: &[u8]) {
    match ours(bytes) {
        Ok(Some((value, len))) => {
            // The crate requires lines to be UTF-8, we do not.
            if str::from_utf8(&bytes[..len]).is_ok() {
                assert_eq!(redis::parse_redis_value(&bytes[..len]).unwrap(), value);
            }
            assert!(redis::parse_redis_value(&bytes[..len - 1]).is_err());
        }
        Ok(None) => assert!(redis::parse_redis_value(bytes).is_err()),
        Err(_) => {}
    }
}
