//! The framings, and how each of them writes a message.

use std::borrow::Cow;

use crate::payload::{Envelope, Message};
use crate::websocket::close::CloseCode;

use super::not_text::NotText;
use super::websocket::{Compression, FrameKind};
use super::{event_stream, ndjson, websocket};

/// How messages are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// WebSocket frames of this kind.
    WebSocket(FrameKind),
    /// Server-sent events.
    EventStream,
    /// Lines of JSON.
    NdJson,
}

impl Default for Framing {
    fn default() -> Self {
        Framing::WebSocket(FrameKind::default())
    }
}

/// The format in which a client receives messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageFormat {
    /// What surrounds a message's payload.
    pub envelope: Envelope,
    /// What carries the payload.
    pub framing: Framing,
}

impl MessageFormat {
    /// Appends a whole message. `utf8`: see [`Message::is_text`].
    ///
    /// # Errors
    /// The framing must be text, and something is not UTF-8. `out` is then unchanged.
    #[inline(always)]
    pub fn append(
        self,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        match self.framing {
            Framing::WebSocket(kind) => kind.append(self.envelope, message, utf8, out),
            Framing::EventStream => event_stream::append(self.envelope, message, utf8, out),
            Framing::NdJson => {
                ndjson::append(self.envelope, message, utf8, out);
                Ok(())
            }
        }
    }

    /// The same, compressed if the framing has its own compression.
    ///
    /// # Errors
    /// Those of `append`.
    pub fn append_deflated(
        self,
        message: Message<'_>,
        utf8: &mut Option<bool>,
        compression: Compression<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotText> {
        match self.framing {
            Framing::WebSocket(kind) => {
                kind.append_deflated(self.envelope, message, utf8, compression, out)
            }
            Framing::EventStream | Framing::NdJson => self.append(message, utf8, out),
        }
    }
}

impl Framing {
    /// What is sent to a silent client. Over WebSocket the client answers, otherwise its kernel
    /// does.
    pub fn keep_alive(self) -> Cow<'static, [u8]> {
        match self {
            Framing::WebSocket(_) => Cow::Owned(websocket::keep_alive().to_vec()),
            Framing::EventStream => Cow::Borrowed(event_stream::KEEP_ALIVE),
            Framing::NdJson => Cow::Borrowed(ndjson::KEEP_ALIVE),
        }
    }

    /// The last bytes that a client is sent: they say why its stream ends.
    pub fn ending(self, code: CloseCode, reason: &str) -> Vec<u8> {
        match self {
            Framing::WebSocket(_) => websocket::ending(code, reason).to_vec(),
            Framing::EventStream => event_stream::ending(code, reason),
            Framing::NdJson => ndjson::ending(code, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    type Framed = Result<(u8, Vec<u8>), NotText>;

    /// The opcode and payload of the one frame that is appended to existing bytes.
    fn framed(
        format: MessageFormat,
        channel: &[u8],
        pattern: Option<&[u8]>,
        payload: &[u8],
    ) -> Framed {
        let mut out = b"before".to_vec();
        let outcome = format.append(message(channel, pattern, payload), &mut None, &mut out);
        let frame = out.strip_prefix(b"before").unwrap();
        if let Err(refused) = outcome {
            assert_eq!(frame, b"", "a refused message left bytes");
            return Err(refused);
        }
        let (header_len, len) = match frame[1] {
            127 => (
                10,
                u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize,
            ),
            126 => (
                4,
                u16::from_be_bytes(frame[2..4].try_into().unwrap()).into(),
            ),
            short => (2, short.into()),
        };
        assert_eq!(frame[0] & 0xf0, 0x80);
        assert_eq!(frame.len(), header_len + len);
        assert_eq!(header_len, crate::websocket::frame::header_len(len));
        Ok((frame[0] & 0xf, frame[header_len..].to_vec()))
    }

    fn frames(envelope: Envelope, frame: FrameKind) -> MessageFormat {
        MessageFormat {
            envelope,
            framing: Framing::WebSocket(frame),
        }
    }

    fn message<'a>(channel: &'a [u8], pattern: Option<&'a [u8]>, payload: &'a [u8]) -> Message<'a> {
        Message {
            channel,
            pattern,
            payload,
        }
    }

    const FRAMES: [FrameKind; 3] = [FrameKind::Auto, FrameKind::Text, FrameKind::Binary];

    #[test]
    fn off_sends_the_payload_as_the_kind_of_frame_says() {
        for (frame, payload, want) in [
            (FrameKind::Auto, "hé".as_bytes(), Ok(1)),
            (FrameKind::Auto, b"\xff", Ok(2)),
            (FrameKind::Auto, b"", Ok(1)),
            (FrameKind::Text, "hé".as_bytes(), Ok(1)),
            (FrameKind::Text, b"\xc3", Err(NotText)),
            (FrameKind::Binary, b"h", Ok(2)),
            (FrameKind::Binary, b"\xff", Ok(2)),
        ] {
            let got = framed(frames(Envelope::Off, frame), b"\xff", None, payload);
            assert_eq!(
                got,
                want.map(|opcode| (opcode, payload.to_vec())),
                "{frame:?} {payload:?}"
            );
        }
    }

    #[test]
    fn envelopes_are_as_documented() {
        for (envelope, pattern, want) in [
            (Envelope::Json, None, r#"{"channel":"foo","data":"hello"}"#),
            (
                Envelope::Json,
                Some("f*"),
                r#"{"pattern":"f*","channel":"foo","data":"hello"}"#,
            ),
            (Envelope::Redis, None, r#"["message","foo","hello"]"#),
            (
                Envelope::Redis,
                Some("f*"),
                r#"["pmessage","f*","foo","hello"]"#,
            ),
        ] {
            for (frame, opcode) in FRAMES.into_iter().zip([1, 1, 2]) {
                let pattern = pattern.map(str::as_bytes);
                let got = framed(frames(envelope, frame), b"foo", pattern, b"hello");
                assert_eq!(got, Ok((opcode, want.into())), "{envelope:?} {frame:?}");
            }
        }
    }

    #[test]
    fn json_in_the_payload_stays_a_string() {
        let (_, got) = framed(
            frames(Envelope::Json, FrameKind::Auto),
            b"c",
            None,
            br#"{"a":7}"#,
        )
        .unwrap();
        assert_eq!(got, br#"{"channel":"c","data":"{\"a\":7}"}"#);
    }

    #[test]
    fn what_is_not_utf8_is_base64_unless_the_frame_must_be_text() {
        for (channel, pattern, payload, want) in [
            (
                &b"c"[..],
                None,
                &b"\xff"[..],
                r#"["message","c",{"base64":"/w=="}]"#,
            ),
            (b"\xff", None, b"x", r#"["message",{"base64":"/w=="},"x"]"#),
            (
                b"c",
                Some(&b"\xff*"[..]),
                b"x",
                r#"["pmessage",{"base64":"/yo="},"c","x"]"#,
            ),
        ] {
            let framed = |frame| framed(frames(Envelope::Redis, frame), channel, pattern, payload);
            assert_eq!(framed(FrameKind::Auto), Ok((1, want.into())));
            assert_eq!(framed(FrameKind::Binary), Ok((2, want.into())));
            assert_eq!(framed(FrameKind::Text), Err(NotText));
        }
    }

    #[test]
    fn the_cached_answer_is_kept_and_trusted() {
        let (mut utf8, mut out) = (None, Vec::new());
        let auto = MessageFormat::default();
        auto.append(message(b"c", None, b"\xff"), &mut utf8, &mut out)
            .unwrap();
        assert_eq!(utf8, Some(false));
        let text = frames(Envelope::Off, FrameKind::Text);
        assert_eq!(
            text.append(message(b"c", None, b"\xff"), &mut utf8, &mut out),
            Err(NotText)
        );
        let binary = frames(Envelope::Off, FrameKind::Binary);
        let mut unasked = None;
        binary
            .append(message(b"c", None, b"\xff"), &mut unasked, &mut out)
            .unwrap();
        assert_eq!(unasked, None, "a binary frame needs no check");
    }

    #[test]
    fn every_length_around_a_longer_header_is_framed_right() {
        for len in (0..300).chain(65_440..65_540) {
            // Escapes make the body longer than guessed.
            for filling in ["x", "\"", "\u{1}"] {
                let payload = filling.repeat(len);
                let auto = frames(Envelope::Redis, FrameKind::Auto);
                let (_, got) = framed(auto, b"c", None, payload.as_bytes()).unwrap();
                if len % 50 == 0 {
                    let got: Value = serde_json::from_slice(&got).unwrap();
                    assert_eq!(got, json!(["message", "c", payload]));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_message_can_be_read_back_from_its_envelope(
            channel in prop::collection::vec(any::<u8>(), 1..8),
            pattern in prop::option::of("\\PC{1,8}"),
            payload in prop_oneof![
                "\\PC{0,200}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
        ) {
            let form = |bytes: &[u8]| match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
            };
            let mut want = json!({ "channel": form(&channel), "data": form(&payload) });
            if let Some(pattern) = &pattern {
                want["pattern"] = json!(pattern);
            }
            let auto = frames(Envelope::Json, FrameKind::Auto);
            let pattern = pattern.as_deref().map(str::as_bytes);
            let (opcode, got) = framed(auto, &channel, pattern, &payload).unwrap();
            prop_assert_eq!(opcode, 1);
            prop_assert_eq!(serde_json::from_slice::<Value>(&got).unwrap(), want);
        }
    }

    /// What a browser's EventSource makes of a stream (WHATWG HTML, 9.2.6): the type and data of
    /// each event.
    fn heard(stream: &[u8]) -> Vec<(String, String)> {
        let text = std::str::from_utf8(stream).expect("UTF-8");
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut kind, mut data) = (Vec::new(), String::new(), Vec::new());
        for line in text.split('\n') {
            match line.split_once(':') {
                None if line.is_empty() => {
                    if !data.is_empty() {
                        events.push((std::mem::take(&mut kind), data.join("\n")));
                    }
                    (kind, data) = (String::new(), Vec::new());
                }
                Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value)),
                Some(("event", value)) => value.trim_start().clone_into(&mut kind),
                Some(("", _)) => {}
                other => panic!("a field that nobody wrote: {other:?}"),
            }
        }
        events
    }

    const EVENTS: MessageFormat = MessageFormat {
        envelope: Envelope::Off,
        framing: Framing::EventStream,
    };

    const LINES: MessageFormat = MessageFormat {
        envelope: Envelope::Off,
        framing: Framing::NdJson,
    };

    #[test]
    fn an_event_stream_takes_no_bytes_that_are_not_utf8() {
        let mut out = b"before".to_vec();
        let refused = EVENTS.append(message(b"c", None, b"\xff"), &mut None, &mut out);
        assert_eq!((refused, &out[..]), (Err(NotText), &b"before"[..]));
        let json = MessageFormat {
            envelope: Envelope::Json,
            ..EVENTS
        };
        out.clear();
        assert!(
            json.append(message(b"c", None, b"\xff"), &mut None, &mut out)
                .is_ok()
        );
        let told = r#"{"channel":"c","data":{"base64":"/w=="}}"#;
        assert_eq!(heard(&out), [(String::new(), told.to_owned())]);
    }

    #[test]
    fn each_framing_is_kept_alive_and_ends_in_its_own_way() {
        let (code, reason) = (CloseCode::SERVICE_RESTART, "a \"b\"");
        let web_socket = Framing::default();
        assert_eq!(*web_socket.keep_alive(), [0x89, 0]);
        assert_eq!(web_socket.ending(code, "bye"), b"\x88\x05\x03\xf4bye");
        let told = r#"{"code":1012,"reason":"a \"b\""}"#;
        let stream = [
            &*Framing::EventStream.keep_alive(),
            &Framing::EventStream.ending(code, reason),
        ];
        assert_eq!(
            heard(&stream.concat()),
            [("close".to_owned(), told.to_owned())]
        );
        let lines = [
            &*Framing::NdJson.keep_alive(),
            &Framing::NdJson.ending(code, reason),
        ]
        .concat();
        assert_eq!(lines, format!("\n{{\"close\":{told}}}\n").into_bytes());
    }

    proptest! {
        #[test]
        fn any_text_is_one_event_with_no_field_of_its_own(
            texts in prop::collection::vec("[a:\n\r\0é ]{0,20}", 1..5),
        ) {
            let mut out = Vec::new();
            for text in &texts {
                EVENTS.append(message(b"c", None, text.as_bytes()), &mut None, &mut out).unwrap();
            }
            let told = texts.iter().map(|text| text.replace("\r\n", "\n").replace('\r', "\n"));
            let heard: Vec<String> = heard(&out).into_iter().map(|(_, data)| data).collect();
            prop_assert_eq!(heard, told.collect::<Vec<_>>());
        }

        #[test]
        fn any_message_is_one_line_of_json(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = Vec::new();
            LINES.append(message(b"c", None, &payload), &mut None, &mut out).unwrap();
            let line = out.strip_suffix(b"\n").unwrap();
            prop_assert!(!line.contains(&b'\n'));
            let want = match std::str::from_utf8(&payload) {
                Ok(text) => json!(text),
                Err(_) => json!({ "base64": STANDARD.encode(&payload) }),
            };
            prop_assert_eq!(serde_json::from_slice::<Value>(line).unwrap(), want);
        }
    }
}
