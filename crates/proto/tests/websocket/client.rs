//! An independent client: tungstenite.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use proto::websocket::frame::{self, Opcode};
use proto::websocket::{close, handshake};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Message, Role, WebSocket};

use crate::support::{Peer, ROOMY};
use crate::twin::{Ending, Said};

/// Both directions of a socket, in memory.
#[derive(Default)]
struct Wire {
    from_server: io::Cursor<Vec<u8>>,
    to_server: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.from_server.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to_server.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client(from_server: Vec<u8>) -> WebSocket<Wire> {
    let wire = Wire {
        from_server: io::Cursor::new(from_server),
        ..Wire::default()
    };
    WebSocket::from_raw_socket(wire, Role::Client, None)
}

#[test]
fn its_handshake_is_accepted_with_the_key_that_it_awaits() {
    let key = tungstenite::handshake::client::generate_key();
    let headers = [
        ("Host", "localhost"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", &key),
    ];
    let line = handshake::RequestLine {
        method_is_get: true,
        version: handshake::HttpVersion::V11,
        has_body: false,
    };
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let accept = handshake::check(&line, headers).unwrap().accept();
    assert_eq!(
        accept,
        tungstenite::handshake::derive_accept_key(key.as_bytes()).as_bytes()
    );
}

#[test]
fn it_understands_our_close_and_answers_it() {
    let mut client = client(close::frame(close::CloseCode::SERVICE_RESTART, "soon").to_vec());
    let Message::Close(Some(said)) = client.read().unwrap() else {
        panic!("no close")
    };
    assert_eq!((u16::from(said.code), said.reason.as_str()), (1012, "soon"));
    let _ = client.flush();
    let mut peer = Peer::new(ROOMY);
    peer.feed(&client.get_ref().to_server);
    peer.expect(&[Said::Close(Some(1012))]);
    assert_eq!(peer.ending, Ending::Closed);
}

fn message() -> impl Strategy<Value = Said> {
    prop_oneof![
        "\\PC{0,200}".prop_map(|text| Said::Text(text.into())),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Said::Binary),
        prop::collection::vec(any::<u8>(), 65_530..65_540).prop_map(Said::Binary),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(Said::Ping),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(Said::Pong),
    ]
}

fn as_theirs(said: &Said) -> Message {
    match said.clone() {
        Said::Text(text) => Message::text(String::from_utf8(text).unwrap()),
        Said::Binary(bytes) => Message::binary(bytes),
        Said::Ping(bytes) => Message::Ping(bytes.into()),
        Said::Pong(bytes) => Message::Pong(bytes.into()),
        Said::Close(_) => Message::Close(None),
        Said::Unread => unreachable!("nothing is compressed"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_it_sends_is_what_we_receive(
        messages in prop::collection::vec(message(), 0..8),
        piece in 1usize..5000,
    ) {
        let mut client = client(vec![]);
        for message in &messages {
            client.send(as_theirs(message)).unwrap();
        }
        let mut peer = Peer::new(ROOMY);
        for piece in client.get_ref().to_server.chunks(piece) {
            peer.feed(piece);
        }
        prop_assert_eq!(peer.said, messages);
        prop_assert_eq!(peer.ending, Ending::Idle);
    }

    #[test]
    fn its_fragments_become_one_message(
        fragments in prop::collection::vec("\\PC{0,30}", 1..6),
        piece in 1usize..50,
    ) {
        let mut client = client(vec![]);
        for (i, fragment) in fragments.iter().enumerate() {
            let data = if i == 0 { Data::Text } else { Data::Continue };
            let last = i + 1 == fragments.len();
            let frame = Frame::message(fragment.clone(), OpCode::Data(data), last);
            client.send(Message::Frame(frame)).unwrap();
        }
        let mut peer = Peer::new(ROOMY);
        for piece in client.get_ref().to_server.chunks(piece) {
            peer.feed(piece);
        }
        prop_assert_eq!(peer.said, [Said::Text(fragments.concat().into())]);
    }

    #[test]
    fn what_we_send_is_what_it_receives(messages in prop::collection::vec(message(), 0..8)) {
        let mut out = Vec::new();
        for message in &messages {
            let (opcode, payload) = match message {
                Said::Text(text) => (Opcode::Text, text),
                Said::Binary(bytes) => (Opcode::Binary, bytes),
                Said::Ping(bytes) => (Opcode::Ping, bytes),
                Said::Pong(bytes) => (Opcode::Pong, bytes),
                Said::Close(_) | Said::Unread => unreachable!("none is generated"),
            };
            frame::append(&mut out, opcode, payload);
        }
        let mut client = client(out);
        for message in &messages {
            prop_assert_eq!(client.read().unwrap(), as_theirs(message));
        }
    }
}
