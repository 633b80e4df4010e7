//! A client's byte stream: TCP, optionally with TLS, blocking.

use super::wait::patience;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// The transport below the WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `ws:`
    Ws,
    /// `wss:`
    Wss,
}

impl Transport {
    /// Both, for behaviour that must be the same on `ws:` and `wss:`.
    pub const BOTH: [Self; 2] = [Self::Ws, Self::Wss];
}

/// A connected stream. Reads and writes time out after [`patience`].
pub enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS, with the test's certificate trusted.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects over TCP.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::Plain(tcp(address, None)?))
    }

    /// Connects with buffers of about `bytes`, so that a side that stops reading is soon noticed.
    pub fn plain_narrow(address: SocketAddr, bytes: usize) -> io::Result<Self> {
        Ok(Self::Plain(tcp(address, Some(bytes))?))
    }

    /// Connects over TLS. The handshake happens with the first read or write.
    pub fn tls(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over_tls(tcp(address, None)?))
    }

    /// Like [`Stream::plain_narrow`], over TLS.
    pub fn tls_narrow(address: SocketAddr, bytes: usize) -> io::Result<Self> {
        Ok(Self::over_tls(tcp(address, Some(bytes))?))
    }

    /// The underlying TCP socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// Sets how long a read waits.
    pub fn set_read_timeout(&self, time: Duration) {
        self.socket()
            .set_read_timeout(Some(time))
            .expect("a read timeout");
    }

    /// Sends FIN and continues to read. Over TLS it sends no `close_notify`, like a dying peer.
    pub fn shut_down_writing(&self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }

    /// Ends the connection by RST.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(self.socket());
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    fn over_tls(tcp: TcpStream) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(trust(), name).expect("a TLS client");
        Self::Tls(Box::new(StreamOwned::new(session, tcp)))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buf),
            Self::Tls(tls) if tls.conn.is_handshaking() => tls.read(buf),
            Self::Tls(tls) => read_decrypted(tls, buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buf),
            Self::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// Reads as rustls does, but without first sending what the socket did not take: a server may
/// accept it only after its own data has been read.
fn read_decrypted(
    tls: &mut StreamOwned<ClientConnection, TcpStream>,
    buf: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.conn.reader().read(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        tls.conn.read_tls(&mut tls.sock)?;
        tls.conn
            .process_new_packets()
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    }
}

/// The certificate and key of all TLS listeners of the tests, made once by `openssl`.
pub struct Certificate {
    /// PEM file of the certificate, which clients must also trust.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// The certificate for `localhost` and 127.0.0.1. It is made once a day, in `target/`.
pub fn certificate() -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let day = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs() / 86_400;
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let dir = target.join(format!("certificate-{day}"));
        if !dir.is_dir() {
            fs::create_dir_all(&target).expect("target/");
            let work = tempfile::tempdir_in(&target).expect("a directory for the certificate");
            make_certificate(work.path());
            // Another test may have been first. Its certificate is used then.
            let _ = fs::rename(work.path(), &dir);
        }
        let dir = dir.canonicalize().expect("the certificate's directory");
        Certificate {
            certificate: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }
    })
}

fn make_certificate(dir: &Path) {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "3", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("openssl, to make a certificate");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn trust() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let pem = CertificateDer::from_pem_file(&certificate().certificate).expect("a PEM file");
        roots.add(pem).expect("a certificate to trust");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    Arc::clone(config)
}

fn tcp(address: SocketAddr, buffers: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = buffers {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    socket.connect_timeout(&address.into(), patience())?;
    let tcp: TcpStream = socket.into();
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(patience()))?;
    tcp.set_write_timeout(Some(patience()))?;
    Ok(tcp)
}
