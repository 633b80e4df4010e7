//! The memory of an idle subscriber: the server's PSS with many subscribers minus that with the
//! first one.
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::load::open;
use crate::peers::{DEFLATE, Lab, Peer, SUBSCRIBE, Server};
use crate::reference::Writes;
use crate::{handshake, net};

/// The kind of subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `ws:`
    Plain,
    /// `wss:`, TLS 1.3.
    Tls,
    /// `ws:` with permessage-deflate.
    Deflate,
    /// `ws:` with 2 KB of cookies in the request.
    Cookies,
}

/// All kinds.
pub const ALL: &[Client] = &[Client::Plain, Client::Tls, Client::Deflate, Client::Cookies];

/// A row of the report.
pub struct Row {
    /// The kind of subscriber.
    pub client: Client,
    /// Bytes per subscriber. `None` if the server cannot do it; an error says why it failed.
    pub cells: Vec<(Peer, Option<Result<f64, String>>)>,
}

impl Client {
    /// The name for the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "ws",
            Self::Tls => "wss",
            Self::Deflate => "ws, permessage-deflate agreed",
            Self::Cookies => "ws, 2 KB of cookies",
        }
    }

    fn request(self) -> Vec<u8> {
        match self {
            Self::Plain | Self::Tls => handshake::request(SUBSCRIBE, ""),
            Self::Deflate => handshake::request(
                DEFLATE,
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
            ),
            Self::Cookies => {
                let cookie = format!("Cookie: session={}\r\n", "c".repeat(2048));
                handshake::request(SUBSCRIBE, &cookie)
            }
        }
    }

    fn asked_of(self, peer: Peer) -> bool {
        match self {
            Self::Plain => !matches!(
                peer,
                Peer::Control | Peer::InPlace | Peer::ModuleUring | Peer::BeforeUring
            ),
            Self::Tls => matches!(peer, Peer::Module | Peer::Before | Peer::Lua | Peer::Nchan),
            Self::Cookies => matches!(peer, Peer::Module | Peer::Before | Peer::Lua | Peer::Nchan),
            Self::Deflate => matches!(peer, Peer::Module | Peer::Before),
        }
    }
}

/// Measures each of `peers` with `count` clients of each kind, and a quarter of that for TLS.
pub fn measure(lab: &Lab, peers: &[Peer], count: usize) -> Vec<Row> {
    let asked = |peer: &&Peer| ALL.iter().any(|client| client.asked_of(**peer));
    let peers: Vec<Peer> = peers.iter().filter(asked).copied().collect();
    let row = |&client: &Client| {
        let count = if client == Client::Tls {
            count / 4
        } else {
            count
        };
        let cell = |&peer: &Peer| {
            let asked = client.asked_of(peer).then(|| {
                eprintln!("memory, {}: {}", client.title(), peer.title());
                of(lab, peer, client, count).map_err(|error| format!("{error:#}"))
            });
            if let Some(Err(error)) = &asked {
                eprintln!("  failed: {error}");
            }
            (peer, asked)
        };
        Row {
            client,
            cells: peers.iter().map(cell).collect(),
        }
    };
    ALL.iter().map(row).collect()
}

/// Bytes per client, of `count` clients on a server of their own.
fn of(lab: &Lab, peer: Peer, client: Client, count: usize) -> Result<f64> {
    let server = peer.start(lab, Writes::PerDelivery)?;
    let mut crowd = Crowd::default();
    // The first client loads the code that serves it: pages of the program, not of a client.
    crowd.join(&server, client, 1)?;
    let first = settled(server.pid)?;
    crowd.join(&server, client, count)?;
    let full = settled(server.pid)?;
    Ok((full as f64 - first as f64) / count as f64)
}

/// Clients that stay connected.
#[derive(Default)]
struct Crowd {
    plain: Vec<OwnedFd>,
    tls: Vec<Tls>,
}

impl Crowd {
    fn join(&mut self, server: &Server, client: Client, count: usize) -> Result<()> {
        let request = client.request();
        for _ in 0..count {
            let nth = self.plain.len() + self.tls.len();
            if client == Client::Tls {
                self.tls.push(open_tls(server, &request, nth)?);
            } else {
                self.plain.push(open(server.address, &request, nth)?.0);
            }
        }
        Ok(())
    }
}

/// PSS in bytes, once it has not changed for half a second. It waits at most ten seconds.
fn settled(pid: Pid) -> Result<u64> {
    let mut last = pss(pid)?;
    let mut unchanged = 0;
    for _ in 0..100 {
        sleep(Duration::from_millis(100));
        let now = pss(pid)?;
        unchanged = if now == last { unchanged + 1 } else { 0 };
        if unchanged == 5 {
            break;
        }
        last = now;
    }
    Ok(last)
}

fn pss(pid: Pid) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero()))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("no PSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(1024 * kilobytes)
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn open_tls(server: &Server, request: &[u8], nth: usize) -> Result<Tls> {
    let socket = net::connect(server.tls.context("it has no TLS")?, nth)?;
    let session = ClientConnection::new(
        Arc::clone(&trusting::CONFIG),
        ServerName::try_from("localhost")?,
    )?;
    let mut stream = StreamOwned::new(session, TcpStream::from(socket));
    stream.write_all(request)?;
    let mut answer = Vec::new();
    while handshake::head_len(&answer)
        .map_err(anyhow::Error::msg)?
        .is_none()
    {
        let mut buffer = [0; 2048];
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "closed without an answer");
        answer.extend_from_slice(&buffer[..read]);
    }
    Ok(stream)
}

/// TLS that accepts any certificate, because only memory is measured.
mod trusting {
    use std::sync::{Arc, LazyLock};

    use super::ClientConfig;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    pub static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("ring has them"))
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        Arc::new(config)
    });

    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
