//! Any names and payloads in every format: whole frames, and JSON that serde_json reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::framing::{FrameKind, Framing, MessageFormat};
use proto::payload::{Envelope, Message};
use serde_json::Value;

// The first byte is the length of the channel's name.
fuzz_target!(|input: &[u8]| {
    let [name_len, rest @ ..] = input else { return };
    let (channel, payload) = rest.split_at(usize::from(*name_len).min(rest.len()));
    for envelope in [Envelope::Off, Envelope::Json, Envelope::Redis] {
        for frame in [FrameKind::Auto, FrameKind::Text, FrameKind::Binary] {
            let mut out = Vec::new();
            let format = MessageFormat {
                envelope,
                framing: Framing::WebSocket(frame),
            };
            let message = Message {
                channel,
                pattern: None,
                payload,
            };
            if format.append(message, &mut None, &mut out).is_err() {
                assert!(out.is_empty() && frame == FrameKind::Text);
                continue;
            }
            let body = body(&out);
            match envelope {
                Envelope::Off => assert_eq!(body, payload),
                Envelope::Json => check(&json(body)["data"], payload),
                Envelope::Redis => check(&json(body)[2], payload),
            }
        }
    }
});

fn body(frame: &[u8]) -> &[u8] {
    let (header, len) = match frame[1] {
        127 => (
            10,
            u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
        ),
        126 => (4, u16::from_be_bytes([frame[2], frame[3]]).into()),
        short => (2, short.into()),
    };
    assert_eq!(frame.len(), header + len);
    &frame[header..]
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("the envelope is JSON")
}

fn check(said: &Value, payload: &[u8]) {
    match std::str::from_utf8(payload) {
        Ok(text) => assert_eq!(said, text),
        Err(_) => assert!(said["base64"].is_string()),
    }
}
