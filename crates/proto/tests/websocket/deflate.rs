//! Compressed messages (RFC 7692, 6 and 7.2), in both directions.

use proptest::prelude::*;
use proto::framing::{Compression, FrameKind, Framing, MessageFormat};
use proto::payload::{Envelope, Message};
use proto::websocket::connection::Limits;
use proto::websocket::deflate::{Deflater, History, append_frame};
use proto::websocket::frame::{self, Opcode};
use zlib_rs::{Deflate, DeflateFlush};

use crate::inflated::inflate;
use crate::support::{Deflating, Frame, Peer, ROOMY, close, cont, hex, ping, run_on, stream, text};
use crate::twin::{Ending, Said, judge_deflated};

const SMALL: Limits = Limits {
    max_message: 300,
    max_frame: 300,
};

/// A client's compressor.
struct Client {
    zlib: Deflate,
    takeover: bool,
}

impl Client {
    fn without_takeover() -> Self {
        Self {
            zlib: Deflate::new(6, false, 15),
            takeover: false,
        }
    }

    fn with_takeover(window_bits: u8) -> Self {
        Self {
            zlib: Deflate::new(6, false, window_bits),
            takeover: true,
        }
    }

    fn payload(&mut self, message: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.zlib.reset();
        }
        let before = self.zlib.total_out();
        let mut out = vec![0; message.len() * 2 + 64];
        self.zlib
            .compress(message, &mut out, DeflateFlush::SyncFlush)
            .unwrap();
        out.truncate((self.zlib.total_out() - before) as usize);
        // zlib does not flush twice: an empty message after another one yields nothing.
        match out.strip_suffix(&[0, 0, 0xff, 0xff]) {
            Some(payload) => payload.to_vec(),
            None => out,
        }
    }

    fn text(&mut self, message: &str) -> Frame {
        Frame::raw(0xc1, self.payload(message.as_bytes()))
    }

    fn binary(&mut self, message: &[u8]) -> Frame {
        Frame::raw(0xc2, self.payload(message))
    }
}

fn json(bytes: usize) -> String {
    let mut text = String::new();
    for i in 0.. {
        if text.len() >= bytes {
            break;
        }
        let price = i * 7919 % 10_007;
        text += &format!("{{\"id\":{i},\"price\":{price},\"side\":\"buy\"}},");
    }
    text.truncate(bytes);
    text
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn the_rfcs_own_examples_are_read() {
    let hello = || Said::Text(b"Hello".to_vec());
    let mut failures = Vec::new();
    for (rule, bytes, want) in [
        ("7.2.3.1", "c1 87 00000000 f248cdc9c90700", vec![hello()]),
        (
            "7.2.3.1 fragmented",
            "41 83 00000000 f248cd 80 84 00000000 c9c90700",
            vec![hello()],
        ),
        (
            "7.2.3.2 without sharing the window",
            "c1 87 00000000 f248cdc9c90700 c1 87 00000000 f248cdc9c90700",
            vec![hello(), hello()],
        ),
        (
            "7.2.3.2 sharing the window",
            "c1 87 00000000 f248cdc9c90700 c1 85 00000000 f200110000",
            vec![hello(), hello()],
        ),
        (
            "7.2.3.3 no compression",
            "c1 8b 00000000 000500faff48656c6c6f00",
            vec![hello()],
        ),
        (
            "7.2.3.4 BFINAL",
            "c1 88 00000000 f348cdc9c9070000",
            vec![hello()],
        ),
        (
            "7.2.3.5 two blocks",
            "c1 8d 00000000 f248050000 00ffff cac9c90700",
            vec![hello()],
        ),
        (
            "7.2.3.6 empty",
            "c1 81 00000000 00",
            vec![Said::Text(vec![])],
        ),
        (
            "6.1 not every message is compressed",
            "81 85 00000000 48656c6c6f",
            vec![hello()],
        ),
        (
            "zlib's own flush of nothing, after a message",
            "c1 80 00000000",
            vec![Said::Text(vec![])],
        ),
        (
            "7.2.3.4 BFINAL twice",
            "c1 8f 00000000 f348cdc9c90700 f348cdc9c90700 00",
            vec![Said::Text(b"HelloHello".to_vec())],
        ),
        (
            "7.2.3.4 BFINAL, and a reference to what stands before it",
            "c1 8c 00000000 f348cdc9c90700 f200110000",
            vec![Said::Text(b"HelloHello".to_vec())],
        ),
    ] {
        let peer = Peer::deflating(ROOMY, Deflating::with_takeover(15));
        let (said, ending) = run_on(peer, [&hex(bytes)[..]]);
        if said != want || ending != Ending::Idle {
            failures.push(format!("{rule}: {said:?} {ending:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn misdeeds_get_the_codes_that_the_rfcs_name() {
    let mut failures = Vec::new();
    for (rule, bytes, code) in [
        (
            "6.1 RSV1 on a continuation",
            "41 81 00000000 00 c0 80 00000000",
            1002,
        ),
        ("6.1 RSV1 on a ping", "c9 80 00000000", 1002),
        ("6.1 RSV1 on a close", "c8 80 00000000", 1002),
        (
            "6.1 RSV1 on the continuation of a plain message",
            "01 80 00000000 c0 80 00000000",
            1002,
        ),
        ("6.1 RSV2", "e1 80 00000000", 1002),
        ("7.2.2 reserved kind of block", "c1 81 00000000 06", 1007),
        (
            "7.2.2 a length and its complement differ",
            "c1 86 00000000 000500fbff48",
            1007,
        ),
        (
            "7.2.2 ends within a stored block",
            "c2 85 00000000 000400fbff",
            1007,
        ),
        (
            "7.2.2 ends within a block's codes",
            "c2 86 00000000 14ce3bb6c610",
            1007,
        ),
        (
            "7.2.2 ends within a longer stored block",
            "c1 87 00000000 00ff0000ff4142",
            1007,
        ),
        ("7.2.2 ends within a code", "c2 83 00000000 f248cd", 1007),
        (
            "7.2.2 refers to before the beginning",
            "c1 85 00000000 f200110000",
            1007,
        ),
        (
            "7.2.3.4 BFINAL and nothing behind it",
            "c1 87 00000000 f348cdc9c90700",
            1007,
        ),
        ("6455 8.1 not UTF-8", "c1 87 00000000 000100feffff00", 1007),
        (
            "6455 8.1 a cut code point",
            "c1 87 00000000 000100feffc300",
            1007,
        ),
    ] {
        let peer = Peer::deflating(ROOMY, Deflating::without_takeover());
        let (said, ending) = run_on(peer, [&hex(bytes)[..]]);
        if ending != Ending::Misbehaved(code) {
            failures.push(format!("{rule}: {said:?} {ending:?}, not {code}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limits = Limits {
        max_message: 64 << 10,
        max_frame: 64 << 10,
    };
    for zeros in [(64 << 10) + 1, 1 << 20, 16 << 20] {
        let bomb = Client::without_takeover().binary(&vec![0; zeros]);
        let mut peer = Peer::deflating(limits, Deflating::without_takeover());
        peer.send(bomb);
        assert_eq!(peer.ending, Ending::Misbehaved(1009), "{zeros}");
    }
    let mut peer = Peer::deflating(limits, Deflating::without_takeover());
    peer.send(Client::without_takeover().binary(&[0; 64 << 10]));
    peer.expect(&[Said::Binary(vec![0; 64 << 10])]);
}

#[test]
fn limits_count_what_a_message_inflates_to() {
    let mut client = Client::without_takeover();
    for (bytes, ending) in [(300, Ending::Idle), (301, Ending::Misbehaved(1009))] {
        // Noise grows when it is compressed, and must still pass.
        for message in [noise(bytes), vec![b'x'; bytes]] {
            let mut peer = Peer::deflating(SMALL, Deflating::without_takeover());
            peer.send(client.binary(&message));
            assert_eq!(peer.ending, ending, "{bytes}");
        }
    }
    for message in [
        &b""[..],
        b"a",
        b"Hello",
        b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7",
    ] {
        let max_message = message.len() as u64;
        let limits = Limits {
            max_message,
            max_frame: max_message,
        };
        let mut peer = Peer::deflating(limits, Deflating::without_takeover());
        peer.send(client.binary(message));
        peer.expect(&[Said::Binary(message.to_vec())]);
    }
}

#[test]
fn compressed_bytes_are_refused_when_they_are_announced() {
    for frames in ["c2 fe 0200 00000000", "42 fe 0100 00000000"] {
        let mut peer = Peer::deflating(SMALL, Deflating::without_takeover());
        let mut bytes = hex(frames);
        if frames.starts_with('4') {
            bytes.extend([0; 256]);
            bytes.extend(hex("00 fe 0100 00000000"));
        }
        peer.feed(&bytes);
        assert_eq!(peer.ending, Ending::Misbehaved(1009), "{frames}");
    }
}

#[test]
fn endless_final_blocks_are_refused() {
    let mut peer = Peer::deflating(ROOMY, Deflating::with_takeover(15));
    peer.send(Frame::raw(
        0xc2,
        hex(&"0300".repeat(60)).into_iter().chain([0]).collect(),
    ));
    peer.expect(&[Said::Binary(vec![])]);
    peer.send(Frame::raw(
        0xc2,
        hex(&"0300".repeat(70)).into_iter().chain([0]).collect(),
    ));
    assert_eq!(peer.ending, Ending::Misbehaved(1007));
}

#[test]
fn control_frames_stand_between_compressed_fragments() {
    let payload = Client::without_takeover().payload("Hellö Hellö".as_bytes());
    let (head, tail) = payload.split_at(4);
    let mut peer = Peer::deflating(ROOMY, Deflating::without_takeover());
    peer.send(Frame::raw(0x41, head.to_vec()));
    peer.send(ping("x"));
    peer.expect(&[Said::Ping(b"x".to_vec())]);
    peer.send(Frame::raw(0x00, vec![]));
    peer.send(Frame::raw(0x80, tail.to_vec()));
    peer.expect(&[Said::Text("Hellö Hellö".into())]);
    peer.send(text("plain").more());
    peer.send(cont(" too"));
    peer.expect(&[Said::Text(b"plain too".to_vec())]);
    assert_eq!(peer.ending, Ending::Idle);
}

fn conversation(client: &mut Client) -> Vec<u8> {
    let payload = client.payload("κόσμε κόσμε κόσμε".as_bytes());
    let (head, rest) = payload.split_at(5);
    let (middle, tail) = rest.split_at(1);
    stream(&[
        client.text("Hé"),
        Frame::raw(0x41, head.to_vec()),
        ping("p"),
        Frame::raw(0x00, middle.to_vec()),
        Frame::raw(0x80, tail.to_vec()),
        text("é"),
        client.binary(&[7; 140]),
        client.text("Hé Hé"),
        close(1000, ""),
    ])
}

#[test]
fn a_compressed_conversation_is_the_same_at_every_split() {
    for takeover in [None, Some(9), Some(15)] {
        let window = takeover.map_or(0, |bits| 1 << bits);
        let peer = || match takeover {
            None => Peer::deflating(SMALL, Deflating::without_takeover()),
            Some(bits) => Peer::deflating(SMALL, Deflating::with_takeover(bits)),
        };
        let bytes = conversation(
            &mut takeover.map_or_else(Client::without_takeover, Client::with_takeover),
        );
        let want = judge_deflated(&bytes, SMALL.max_message, SMALL.max_frame, window);
        assert_eq!(want.1, Ending::Closed);
        for end in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(end);
            assert_eq!(run_on(peer(), [head, tail]), want, "split at {end}");
            let want = judge_deflated(head, SMALL.max_message, SMALL.max_frame, window);
            assert_eq!(run_on(peer(), head.chunks(1)), want, "ends at {end}");
        }
    }
}

#[test]
fn takeover_costs_its_window_and_no_more() {
    for window_bits in 9..=15 {
        let mut client = Client::with_takeover(window_bits);
        let mut peer = Peer::deflating(ROOMY, Deflating::with_takeover(window_bits));
        let held = |peer: &Peer| {
            let deflating = peer.deflating.as_ref().unwrap();
            let history = deflating.history.as_ref();
            history.map_or(0, |history| history.held_bytes())
        };
        let most = (1 << window_bits) + size_of::<History>();
        peer.send(text("nothing compressed"));
        peer.expect(&[Said::Text(b"nothing compressed".to_vec())]);
        assert_eq!(held(&peer), 0);
        for bytes in [0, 1, 30, 700, 100, 40_000, 5, 9000, 70_000, 333] {
            let message = json(bytes);
            peer.send(client.text(&message));
            peer.send(text("not in the window"));
            peer.expect(&[
                Said::Text(message.into()),
                Said::Text(b"not in the window".to_vec()),
            ]);
            assert!(held(&peer) <= most, "{}", held(&peer));
        }
        assert_eq!(held(&peer), most);
    }
}

#[test]
fn what_lies_before_the_agreed_window_is_gone() {
    let mut client = Client::with_takeover(15);
    let mut peer = Peer::deflating(ROOMY, Deflating::with_takeover(9));
    let far = noise(200);
    peer.send(client.binary(&far));
    peer.send(client.binary(&[0; 600]));
    assert_eq!(peer.ending, Ending::Idle);
    peer.send(client.binary(&far));
    assert_eq!(peer.ending, Ending::Misbehaved(1007));
}

#[test]
fn what_nobody_reads_is_not_inflated_and_its_frames_are_judged() {
    let unread = || Peer::deflating(SMALL, Deflating::unread());
    let mut client = Client::with_takeover(15);
    let words = json(250);
    let first = client.text(&words);
    let second = client.text(&words);
    let mut peer = unread();
    // Nothing is kept that the second could refer to. Nothing is inflated, so a bomb and noise
    // pass, too.
    let bomb = Client::without_takeover().binary(&[0; 100_000]);
    for frame in [first, second, bomb, Frame::raw(0xc1, noise(200))] {
        peer.send(frame);
        peer.expect(&[Said::Unread]);
    }
    peer.send(text("plain"));
    peer.send(Frame::raw(0x41, vec![6; 10]));
    peer.send(ping("between"));
    peer.send(Frame::raw(0x80, vec![6; 10]));
    peer.expect(&[
        Said::Text(b"plain".to_vec()),
        Said::Ping(b"between".to_vec()),
        Said::Unread,
    ]);
    assert!(peer.deflating.as_ref().unwrap().history.is_none());
    assert_eq!(peer.ending, Ending::Idle);
    for (rule, bytes, code) in [
        ("too big", "c2 fe 0200 00000000", 1009),
        (
            "RSV1 on a continuation",
            "41 81 00000000 00 c0 80 00000000",
            1002,
        ),
        ("RSV1 on a ping", "c9 80 00000000", 1002),
        ("RSV2", "e1 80 00000000", 1002),
        ("no mask", "c1 01 00", 1002),
        ("a plain text that is not UTF-8", "81 81 00000000 ff", 1007),
    ] {
        let (_, ending) = run_on(unread(), [&hex(bytes)[..]]);
        assert_eq!(ending, Ending::Misbehaved(code), "{rule}");
    }
}

#[test]
fn other_decompressors_read_what_we_compress() {
    for window_bits in 9..=15 {
        for level in 1..=9 {
            let mut deflater = Deflater::new(level, window_bits);
            for bytes in [64, 200, 5000, 100_000, 300_000, 64] {
                let message = json(bytes);
                let payload = deflater.message(message.as_bytes()).expect("it shrinks");
                assert!(payload.len() < bytes);
                assert_eq!(inflate(payload, window_bits), message.as_bytes());
            }
        }
    }
}

#[test]
fn what_is_compressed_is_smaller() {
    let mut deflater = Deflater::new(6, 15);
    for bytes in 0..300 {
        for message in [json(bytes).into_bytes(), noise(bytes), vec![b'x'; bytes]] {
            let payload = deflater.message(&message);
            assert!(payload.is_none_or(|payload| payload.len() < bytes));
        }
    }
    // A literal, a match and the flush take six bytes.
    for bytes in 7..258 {
        let payload = deflater.message(&vec![b'x'; bytes]);
        assert_eq!(payload.map(<[u8]>::len), Some(6), "{bytes}");
    }
}

#[test]
fn no_message_knows_of_the_one_before() {
    let mut deflater = Deflater::new(6, 15);
    let message = json(2000);
    let first = deflater.message(message.as_bytes()).unwrap().to_vec();
    assert_eq!(
        deflater.message(&noise(100_000)),
        None,
        "noise does not shrink"
    );
    assert_eq!(deflater.message(message.as_bytes()), Some(&first[..]));
}

#[test]
fn frames_are_compressed_when_it_pays() {
    let mut deflater = Deflater::new(6, 15);
    let (long, noise) = ("Hello ".repeat(100), noise(600));
    for (rule, payload, min_length, compressed) in [
        ("long enough", long.as_bytes(), 600, true),
        ("too short", long.as_bytes(), 601, false),
        ("does not shrink", &noise[..], 0, false),
        ("a byte", b"x", 0, false),
        ("nothing", b"", 0, false),
    ] {
        let mut out = b"before".to_vec();
        append_frame(&mut out, Opcode::Binary, payload, &mut deflater, min_length);
        let mut plain = b"before".to_vec();
        frame::append(&mut plain, Opcode::Binary, payload);
        assert_eq!(out[6], if compressed { 0xc2 } else { 0x82 }, "{rule}");
        assert_eq!(out == plain, !compressed, "{rule}");
    }
}

#[test]
fn every_kind_of_frame_can_be_compressed() {
    let mut deflater = Deflater::new(6, 12);
    let payload = "\"hello\" ".repeat(50);
    let mut count = 0;
    for envelope in [Envelope::Off, Envelope::Json, Envelope::Redis] {
        for frame in [FrameKind::Auto, FrameKind::Text, FrameKind::Binary] {
            for pattern in [None, Some(&b"f*"[..])] {
                let format = MessageFormat {
                    envelope,
                    framing: Framing::WebSocket(frame),
                };
                let (mut plain, mut out) = (Vec::new(), Vec::new());
                let message = Message {
                    channel: b"foo",
                    pattern,
                    payload: payload.as_bytes(),
                };
                format.append(message, &mut None, &mut plain).unwrap();
                let compression = Compression {
                    deflater: &mut deflater,
                    min_length: 64,
                    count: &mut count,
                };
                format
                    .append_deflated(message, &mut None, compression, &mut out)
                    .unwrap();
                assert_eq!(out[0], plain[0] | 0x40);
                assert!(out.len() < 126);
                assert_eq!(inflate(&out[2..], 12), plain[4..]);
            }
        }
    }
    let text = MessageFormat {
        envelope: Envelope::Off,
        framing: Framing::WebSocket(FrameKind::Text),
    };
    let message = Message {
        channel: b"foo",
        pattern: None,
        payload: b"\xff",
    };
    let mut out = Vec::new();
    let compression = Compression {
        deflater: &mut deflater,
        min_length: 0,
        count: &mut count,
    };
    text.append_deflated(message, &mut None, compression, &mut out)
        .expect_err("not UTF-8");
    assert!(out.is_empty());
    assert_eq!(count, 3 * 3 * 2);
}

/// A message, whether it goes compressed, and where it is cut into fragments.
type Plan = (Vec<u8>, bool, bool, Vec<prop::sample::Index>);

fn plan() -> impl Strategy<Value = Plan> {
    let payload = prop_oneof![
        4 => "[a-eé]{0,200}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (payload, any::<bool>(), any::<bool>(), cuts)
}

fn frames((message, is_text, compressed, cuts): &Plan, client: &mut Client) -> Vec<Frame> {
    let mut rest = match compressed {
        true => client.payload(message),
        false => message.clone(),
    };
    let mut first = if *is_text { 0x01 } else { 0x02 } | if *compressed { 0x40 } else { 0x00 };
    let mut frames = Vec::new();
    for cut in cuts {
        let tail = rest.split_off(cut.index(rest.len() + 1));
        frames.extend([Frame::raw(first, rest), ping("between")]);
        (first, rest) = (0x00, tail);
    }
    frames.push(Frame::raw(first | 0x80, rest));
    frames
}

proptest! {
    #[test]
    fn any_messages_in_any_pieces_are_as_the_twin_says(
        plans in prop::collection::vec(plan(), 0..10),
        window_bits in prop::option::of(9u8..=15),
        size in 1usize..300,
        max_message in 100u64..300,
        damage in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut client = window_bits.map_or_else(Client::without_takeover, Client::with_takeover);
        let frames: Vec<_> = plans.iter().flat_map(|plan| frames(plan, &mut client)).collect();
        let mut bytes = stream(&frames);
        if let (Some((at, bit)), false) = (damage, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << (bit % 8);
        }
        let limits = Limits { max_message, max_frame: 300 };
        let deflating = window_bits.map_or_else(Deflating::without_takeover, Deflating::with_takeover);
        let window = window_bits.map_or(0, |bits| 1 << bits);
        let mut got = run_on(Peer::deflating(limits, deflating), bytes.chunks(size));
        let mut want = judge_deflated(&bytes, max_message, 300, window);
        // A damaged message may also be too big. The library decides which one it reports first.
        if damage.is_some() {
            for (_, ending) in [&mut got, &mut want] {
                if *ending == Ending::Misbehaved(1009) {
                    *ending = Ending::Misbehaved(1007);
                }
            }
        }
        prop_assert_eq!(got, want);
    }

    #[test]
    fn whatever_we_compress_is_read_back(
        messages in prop::collection::vec((any::<u8>(), 0usize..3000), 1..6),
        level in 1u8..=9,
        window_bits in 9u8..=15,
    ) {
        let mut deflater = Deflater::new(level, window_bits);
        for (kind, bytes) in messages {
            let message = match kind % 3 {
                0 => json(bytes).into_bytes(),
                1 => noise(bytes),
                _ => vec![kind; bytes],
            };
            if let Some(payload) = deflater.message(&message) {
                prop_assert!(payload.len() < message.len());
                prop_assert_eq!(inflate(payload, window_bits), message);
            }
        }
    }
}
