//! Half-open handshakes, for the test that many of them harm no one. A process of its own holds
//! them, as one process may not have enough descriptors for all.
//!
//! `half_open_holder ADDRESS COUNT [FILE]` opens COUNT connections to ADDRESS, sends the contents
//! of FILE over each, prints `open` and holds them until its standard input ends. Then it resets
//! all of them.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address: SocketAddr = arguments[0].parse().expect("an address");
    let count: usize = arguments[1].parse().expect("a number");
    let said = arguments.get(2).map(std::fs::read).transpose();
    let said = said.expect("a file").unwrap_or_default();
    t::process::allow_many_descriptors();
    let connections: Vec<TcpStream> = (0..count).map(|_| open(address, &said)).collect();
    println!("open");
    let _ = std::io::stdin().read(&mut [0]);
    for connection in &connections {
        let socket = socket2::SockRef::from(connection);
        // By RST: waiting for late packets would leave too few ports for the next round.
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }
}

fn open(address: SocketAddr, said: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).expect("a connection");
    connection.write_all(said).expect("half a handshake sent");
    connection
}
