//! The memory that a client costs.

use proto::websocket::connection::{Connection, Event, Limits, Payload};

use crate::support::{Peer, ROOMY, binary, cont, hex, ping, stream, text};
use crate::twin::{Ending, Said};

#[test]
fn an_idle_connection_is_two_words() {
    assert!(size_of::<Connection>() <= 16, "{}", size_of::<Connection>());
}

#[test]
fn what_one_read_holds_whole_stays_in_place() {
    let frames = [text("Hello"), binary(&[0xff; 70_000]), text(""), ping("p")];
    for frame in frames {
        let mut buf = frame.bytes();
        let (mut connection, mut at) = (Connection::default(), 0);
        let event = connection
            .receive(&mut buf, &mut at, &ROOMY)
            .unwrap()
            .unwrap();
        let (Event::Message { payload, .. } | Event::Ping(payload)) = event else {
            panic!("{event:?}");
        };
        assert!(matches!(payload, Payload::InPlace(_)), "{frame:?}");
    }
}

#[test]
fn nothing_is_allocated_for_what_one_read_holds_whole() {
    let texts = ["Hello", &"κόσμε ".repeat(7), &"ASCII ".repeat(11_000)];
    let frames: Vec<_> = texts
        .into_iter()
        .flat_map(|payload| [text(payload), binary(payload.as_bytes()), ping("p")])
        .collect();
    let mut buf = stream(&frames);
    let (mut connection, mut at, mut events) = (Connection::default(), 0, 0);
    let spent = allocation_counter::measure(|| {
        while let Ok(Some(event)) = connection.receive(&mut buf, &mut at, &ROOMY) {
            events += 1;
            drop(event);
        }
    });
    assert_eq!((events, at), (frames.len(), buf.len()));
    assert_eq!(spent.count_total, 0);
}

#[test]
fn a_message_of_several_reads_is_allocated_and_freed() {
    let frame = text(&"a".repeat(3000)).bytes();
    let spent = allocation_counter::measure(|| {
        let mut peer = Connection::default();
        for piece in frame.chunks(1000) {
            let mut buf = [0; 1000];
            buf[..piece.len()].copy_from_slice(piece);
            let mut at = 0;
            while let Ok(Some(_)) = peer.receive(&mut buf[..piece.len()], &mut at, &ROOMY) {}
        }
    });
    assert!(spent.count_total > 0);
    assert_eq!(spent.bytes_current, 0);
}

#[test]
fn half_a_ping_leaves_nothing_behind() {
    let mut peer = Peer::new(ROOMY);
    let bytes = ping("halved").bytes();
    peer.feed(&bytes[..8]);
    assert_eq!(peer.ending, Ending::Midway);
    assert!((1..256).contains(&peer.connection.held_bytes()));
    peer.feed(&bytes[8..]);
    peer.expect(&[Said::Ping(b"halved".to_vec())]);
    assert_eq!(peer.ending, Ending::Idle);
}

#[test]
fn a_header_alone_buys_next_to_nothing() {
    let mut peer = Peer::new(Limits {
        max_message: 1 << 40,
        max_frame: 1 << 40,
    });
    peer.feed(&hex("82 ff 0000000100000000 00000000"));
    assert_eq!(peer.ending, Ending::Midway);
    assert!(
        peer.connection.held_bytes() < 128,
        "{}",
        peer.connection.held_bytes()
    );
    peer.feed(&[0]);
    assert!(
        peer.connection.held_bytes() < 1024,
        "{}",
        peer.connection.held_bytes()
    );
}

#[test]
fn an_announced_message_has_room_for_sixteen_times_what_has_come() {
    let mut peer = Peer::new(Limits {
        max_message: 1 << 40,
        max_frame: 1 << 40,
    });
    let header = hex("82 ff 0000000100000000 00000000");
    peer.feed(&header);
    assert_eq!(peer.connection.room(), 0, "a header has none");
    let mut come = header.len();
    for bytes in [1, 100, 1000, 50_000] {
        peer.feed(&vec![0; bytes]);
        come += bytes;
        let held = peer.connection.held_bytes();
        assert!(held <= 16 * come + 128, "{held} for {come}");
    }
}

#[test]
fn a_message_is_moved_no_more_once_a_sixteenth_has_come() {
    let mut peer = Peer::new(ROOMY);
    let frame = binary(&[1; 64 << 10]).bytes();
    let (begin, rest) = frame.split_at(4 << 10);
    peer.feed(begin);
    let held = peer.connection.held_bytes();
    assert!(held >= 64 << 10, "{held}");
    let (most, last) = rest.split_at(rest.len() - 1);
    peer.feed(most);
    assert_eq!(peer.connection.held_bytes(), held);
    peer.feed(last);
    peer.expect(&[Said::Binary(vec![1; 64 << 10])]);
}

#[test]
fn what_is_read_in_place_is_not_allocated_again() {
    let frame = binary(&[1; 64 << 10]).bytes();
    let (begin, rest) = frame.split_at(4 << 10);
    let (mut connection, mut at) = (Connection::default(), 0);
    let begun = connection.receive(&mut begin.to_vec(), &mut at, &ROOMY);
    assert_eq!(begun, Ok(None));
    assert_eq!(connection.room(), rest.len());
    let spent = allocation_counter::measure(|| {
        let read = connection.read_in_place(|message| message.extend_from_slice(rest));
        assert_eq!(read, Ok(()));
    });
    assert_eq!(spent.count_total, 0);
    let event = connection.receive(&mut [], &mut 0, &ROOMY);
    let Ok(Some(Event::Message { payload, .. })) = event else {
        panic!("{event:?}");
    };
    assert_eq!(payload, Payload::Assembled(vec![1; 64 << 10]));
    assert!(!connection.is_mid_message());
}

#[test]
#[should_panic(expected = "no more than there is room for")]
fn more_than_there_is_room_for_is_not_taken() {
    let mut connection = Connection::default();
    let mut begun = binary(&[1; 300]).bytes();
    begun.truncate(200);
    let event = connection.receive(&mut begun, &mut 0, &ROOMY);
    assert_eq!(event, Ok(None));
    let room = connection.room();
    let _ = connection.read_in_place(|message| message.extend(vec![1; room + 1]));
}

#[test]
fn a_known_end_is_not_overshot() {
    let mut peer = Peer::new(ROOMY);
    let frame = binary(&[1; 300]).bytes();
    peer.feed(&frame[..200]);
    assert!(
        peer.connection.held_bytes() < 300 + 128,
        "{}",
        peer.connection.held_bytes()
    );
    peer.feed(&frame[200..]);
    peer.expect(&[Said::Binary(vec![1; 300])]);
}

#[test]
fn fragments_of_one_byte_share_one_buffer() {
    let mut peer = Peer::new(ROOMY);
    peer.send(text("x").more());
    let mut growths = 0;
    for _ in 0..100_000 {
        let before = peer.connection.held_bytes();
        peer.send(cont("x").more());
        growths += usize::from(peer.connection.held_bytes() != before);
    }
    assert!(growths < 20, "moved {growths} times");
    assert!(peer.connection.held_bytes() <= 2 * 100_001 + 1024);
    peer.send(cont(""));
    peer.expect(&[Said::Text(vec![b'x'; 100_001])]);
    assert_eq!(peer.connection.held_bytes(), 0);
}

#[test]
fn empty_fragments_cost_nothing() {
    let mut peer = Peer::new(ROOMY);
    peer.send(text("").more());
    for _ in 0..1000 {
        peer.send(cont("").more());
    }
    assert!(peer.connection.held_bytes() < 128);
}
