//! Conversations.

use crate::support::{Peer, ROOMY, binary, close, cont, ping, text};
use crate::twin::{Ending, Said};

fn says_text(text: &str) -> Said {
    Said::Text(text.into())
}

fn says_ping(text: &str) -> Said {
    Said::Ping(text.into())
}

#[test]
fn ping_between_fragments_is_told_before_the_message_ends() {
    let mut peer = Peer::new(ROOMY);
    peer.send(text("Hel").more());
    peer.expect(&[]);
    peer.send(ping("x"));
    peer.expect(&[says_ping("x")]);
    peer.send(cont("lo"));
    peer.expect(&[says_text("Hello")]);
    assert_eq!(peer.ending, Ending::Idle);
}

#[test]
fn what_has_come_of_a_message_is_told() {
    let mut peer = Peer::new(ROOMY);
    assert_eq!(peer.connection.message_bytes(), None);
    peer.feed(&text("Hel").more().bytes()[..1]);
    assert_eq!(peer.connection.message_bytes(), None);
    peer.feed(&text("Hel").more().bytes()[1..]);
    assert_eq!(peer.connection.message_bytes(), Some(3));
    let next = cont("lo").more().bytes();
    peer.feed(&next[..next.len() - 1]);
    assert_eq!(peer.connection.message_bytes(), Some(4));
    peer.feed(&next[next.len() - 1..]);
    peer.send(cont("").more());
    peer.feed(&ping("x").bytes()[..3]);
    assert_eq!(peer.connection.message_bytes(), Some(5));
    peer.feed(&ping("x").bytes()[3..]);
    peer.expect(&[says_ping("x")]);
    peer.send(cont("!"));
    assert_eq!(peer.connection.message_bytes(), None);
    peer.expect(&[says_text("Hello!")]);
}

#[test]
fn half_a_ping_within_a_message_does_not_disturb_it() {
    let mut peer = Peer::new(ROOMY);
    peer.send(text("Hel").more());
    let bytes = ping("and still more").bytes();
    for piece in bytes.chunks(5) {
        peer.feed(piece);
    }
    peer.expect(&[says_ping("and still more")]);
    peer.send(cont("l").more());
    peer.send(cont("o"));
    peer.expect(&[says_text("Hello")]);
}

#[test]
fn frames_of_one_read_come_in_order() {
    let mut peer = Peer::new(ROOMY);
    let frames = [text("a"), binary(b"\xff"), ping("p"), text("b")];
    peer.feed(
        &frames
            .iter()
            .flat_map(|frame| frame.bytes())
            .collect::<Vec<_>>(),
    );
    peer.expect(&[
        says_text("a"),
        Said::Binary(vec![0xff]),
        says_ping("p"),
        says_text("b"),
    ]);
}

#[test]
fn nothing_after_a_close_is_read() {
    let mut peer = Peer::new(ROOMY);
    peer.feed(&[close(1001, "bye").bytes(), text("late").bytes()].concat());
    peer.expect(&[Said::Close(Some(1001))]);
    assert_eq!(peer.ending, Ending::Closed);
    assert!(!peer.connection.is_mid_message());
}

#[test]
fn a_close_within_a_message_frees_what_it_held() {
    let mut peer = Peer::new(ROOMY);
    peer.send(text("unfinished").more());
    peer.send(close(1000, ""));
    peer.expect(&[Said::Close(Some(1000))]);
    assert_eq!(peer.connection.held_bytes(), 0);
}

#[test]
#[cfg(not(debug_assertions))]
fn a_connection_that_is_over_swallows_everything() {
    use proto::websocket::connection::Connection;
    let mut connection = Connection::default();
    let mut buf = [close(1000, "").bytes(), text("late").bytes()].concat();
    let mut at = 0;
    assert!(
        connection
            .receive(&mut buf, &mut at, &ROOMY)
            .unwrap()
            .is_some()
    );
    assert_eq!(connection.receive(&mut buf, &mut at, &ROOMY), Ok(None));
    assert_eq!(at, buf.len());
}
