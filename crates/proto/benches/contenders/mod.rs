//! WebSocket servers behind one trait, each driven through its own API over a socket in memory, and
//! the check that all of them read the same.
//!
//! Three of them need a newer compiler than this crate, or bring many crates with them. They take
//! part only with `RUSTFLAGS='--cfg all_contenders'`.

mod fastwebsockets;
mod ours;
pub mod rows;
mod socket;
#[cfg(all_contenders)]
mod sockudo;
mod soketto;
#[cfg(all_contenders)]
mod tokio_websockets;
mod tungstenite;
#[cfg(all_contenders)]
mod yawc;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rows::{echo_rows, receive_rows};

pub use fastwebsockets::Fastwebsockets;
pub use ours::Proto;
pub use proto::websocket::connection::MessageKind;
pub use rows::Row;
pub use socket::Socket;
#[cfg(all_contenders)]
pub use sockudo::Sockudo;
pub use soketto::Soketto;
#[cfg(all_contenders)]
pub use tokio_websockets::TokioWebsockets;
pub use tungstenite::Tungstenite;
#[cfg(all_contenders)]
pub use yawc::Yawc;

/// No row has a larger message.
pub const MAX_MESSAGE: usize = 16 << 20;

/// What a contender reports of its client.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The server's side of one connection, after the handshake.
pub trait Contender {
    /// Whether it checks that texts are UTF-8.
    const CHECKS_UTF8: bool = true;

    /// A connection over `socket`.
    fn new(socket: Socket) -> Self;

    /// Reads this many messages and hands each of them on.
    fn receive(&mut self, messages: usize, deliver: impl FnMut(MessageKind, &[u8])) -> Outcome;

    /// Reads this many messages and sends each of them back.
    fn echo(&mut self, messages: usize) -> Outcome;

    /// Sends a message.
    fn send(&mut self, kind: MessageKind, payload: &[u8]);
}

/// A contender that can also open a connection.
pub trait Greeter {
    /// Reads a request and answers 101.
    fn greet(socket: Socket);
}

/// The value of a future that never waits, such as those over a socket in memory.
pub fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a socket in memory never waits"),
    }
}

/// Panics unless all contenders read, send and answer what they should.
pub fn assert_all_agree() {
    assert_honest::<Proto>();
    assert_honest::<Tungstenite>();
    assert_honest::<Fastwebsockets>();
    assert_honest::<Soketto>();
    assert_greets::<Proto>();
    assert_greets::<Tungstenite>();
    assert_greets::<Soketto>();
    #[cfg(all_contenders)]
    {
        assert_honest::<TokioWebsockets>();
        assert_honest::<Sockudo>();
        assert_honest::<Yawc>();
        assert_greets::<TokioWebsockets>();
        assert_greets::<Sockudo>();
    }
}

/// Panics unless `C` reads each row's messages, sends each of them back as it came, and, if it
/// claims to check UTF-8, refuses a text that is not UTF-8.
fn assert_honest<C: Contender>() {
    let name = std::any::type_name::<C>();
    for row in receive_rows() {
        let mut contender = C::new(Socket::new(&row));
        for round in 0..3 {
            let mut expected = row.messages.iter();
            let heard = contender.receive(row.messages.len(), |kind, payload| {
                let next = expected.next().map(|(kind, bytes)| (*kind, &bytes[..]));
                assert!(
                    next == Some((kind, payload)),
                    "{name}: {row}, round {round}: {kind:?} of {} bytes",
                    payload.len()
                );
            });
            heard.unwrap_or_else(|misdeed| panic!("{name}: {row}: {misdeed}"));
            assert_eq!(expected.len(), 0, "{name}: {row}, round {round}");
        }
    }
    for row in echo_rows() {
        let socket = Socket::new(&row);
        let sent = socket.sent();
        let mut contender = C::new(socket);
        let echoed = contender.echo(row.messages.len());
        echoed.unwrap_or_else(|misdeed| panic!("{name}: {row}: {misdeed}"));
        let expected = row.as_server_frames();
        assert!(*sent.borrow() == expected, "{name}: echo of {row}");
        sent.borrow_mut().clear();
        for (kind, payload) in &row.messages {
            contender.send(*kind, payload);
        }
        assert!(*sent.borrow() == expected, "{name}: sending {row}");
    }
    let bad = Row::of_one_text_that_is_not_utf8();
    let heard = C::new(Socket::new(&bad)).receive(1, |_, _| {});
    assert_eq!(heard.is_err(), C::CHECKS_UTF8, "{name}: bad UTF-8");
}

/// Panics unless `G` answers the request with the 101 for its key.
fn assert_greets<G: Greeter>() {
    let socket = Socket::new(&Row::request());
    let sent = socket.sent();
    G::greet(socket);
    let answer = String::from_utf8(sent.take()).expect("an answer is text");
    let answer = answer.to_ascii_lowercase();
    let name = std::any::type_name::<G>();
    assert!(answer.starts_with("http/1.1 101 "), "{name}: {answer}");
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
    ] {
        assert!(
            answer.split("\r\n").any(|has| has == line),
            "{name}: {answer}"
        );
    }
    assert!(answer.ends_with("\r\n\r\n"), "{name}: {answer}");
}
