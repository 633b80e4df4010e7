//! Redis server addresses and login: the argument of `websocket_redis`.

use std::fmt;
use std::path::{Path, PathBuf};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// The longest path that fits into `sockaddr_un.sun_path` with its terminating zero.
const MAX_SOCKET_PATH: usize = 107;

/// One Redis server, from its URL. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where to connect to.
    pub address: Address,
    /// The connection is encrypted (`rediss:`, `valkeys:`).
    pub tls: bool,
    /// The server's certificate is not verified (`#insecure`).
    pub insecure: bool,
    /// The ACL user; `None` is Redis's `default`.
    pub username: Option<String>,
    /// The password for `AUTH`. `None`: no `AUTH` is sent.
    pub password: Option<String>,
    /// The database to `SELECT`. Pub/sub ignores it, but an ACL or a proxy may not.
    pub db: u32,
}

/// The address of a [`Server`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host to resolve, or an IP address (IPv6 without brackets).
    Tcp {
        /// Name or address.
        host: String,
        /// Port, 6379 by default.
        port: u16,
    },
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

/// Why a URL was refused: one line without the password, for `nginx -t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

/// The accepted schemes: as written, as passed to the `redis` crate, and whether the connection is
/// encrypted. The crate is built without TLS, which nginx does, so it never sees a TLS scheme.
const SCHEMES: [(&str, &str, bool); 7] = [
    ("redis", "redis", false),
    ("rediss", "redis", true),
    ("valkey", "redis", false),
    ("valkeys", "redis", true),
    ("unix", "unix", false),
    ("redis+unix", "unix", false),
    ("valkey+unix", "unix", false),
];

/// Reads `redis://[user][:password@]host[:port][/db]`, the same with `rediss:` (TLS, optionally
/// `#insecure`), `valkey:` or `valkeys:`, or `unix:/path[?db=&user=&pass=]`, also `redis+unix:`
/// and `valkey+unix:`.
///
/// # Errors
/// One clear line about what is wrong; it never repeats the password.
pub fn parse(url: &str) -> Result<Server, UrlError> {
    let (scheme, rest) = url.split_once(':').ok_or_else(|| misses_scheme(url))?;
    let &(_, known_as, tls) = SCHEMES
        .iter()
        .find(|(written, ..)| scheme.eq_ignore_ascii_case(written))
        .ok_or_else(|| misses_scheme(scheme))?;

    let parsed = redis::parse_redis_url(&format!("{known_as}:{rest}"))
        .ok_or_else(|| error("it is not a valid URL"))?;
    let insecure = match parsed.fragment() {
        None => false,
        Some("insecure") if tls => true,
        Some("insecure") => return Err(error("\"#insecure\" needs \"rediss:\" or \"valkeys:\"")),
        Some(_) => return Err(error("the only fragment allowed is \"#insecure\"")),
    };
    let allowed: &[&str] = if known_as == "unix" {
        &["db", "user", "pass", "protocol"]
    } else {
        &["protocol"]
    };
    if let Some((name, _)) = parsed
        .query_pairs()
        .find(|(name, _)| !allowed.contains(&&**name))
    {
        return Err(error(&format!("unknown parameter \"{name}\"")));
    }
    let info = parsed
        .into_connection_info()
        .map_err(|refused| explain(&refused))?;
    server(&info, tls, insecure)
}

fn server(info: &ConnectionInfo, tls: bool, insecure: bool) -> Result<Server, UrlError> {
    let settings = info.redis_settings();
    let server = Server {
        address: address(info.addr())?,
        tls,
        insecure,
        username: settings.username().map(str::to_owned),
        password: settings.password().map(str::to_owned),
        db: u32::try_from(settings.db()).map_err(|_| error("invalid database number"))?,
    };
    if settings.protocol() != ProtocolVersion::RESP2 {
        return Err(error("the only protocol supported is \"resp2\""));
    }
    if server.username.is_some() && server.password.is_none() {
        return Err(error(
            "user without password; a password alone is written \":password@\"",
        ));
    }
    Ok(server)
}

fn address(address: &ConnectionAddr) -> Result<Address, UrlError> {
    match address {
        ConnectionAddr::Tcp(host, _) if host.contains(',') => {
            Err(error("only one address is supported"))
        }
        ConnectionAddr::Tcp(_, 0) => Err(error("invalid port 0")),
        ConnectionAddr::Tcp(host, port) => Ok(Address::Tcp {
            host: host.clone(),
            port: *port,
        }),
        ConnectionAddr::Unix(path) => Ok(Address::Unix(socket_path(path)?)),
        _ => Err(error("it is not a valid URL")),
    }
}

fn socket_path(path: &Path) -> Result<PathBuf, UrlError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() > MAX_SOCKET_PATH {
        return Err(error(&format!(
            "the socket's path exceeds {MAX_SOCKET_PATH} bytes"
        )));
    }
    if bytes.contains(&0) || bytes == b"/" {
        return Err(error("invalid path of a socket"));
    }
    Ok(path.to_owned())
}

fn misses_scheme(found: &str) -> UrlError {
    // Without a colon the whole text may be anything, including a password: don't repeat it.
    let named = SCHEMES
        .map(|(scheme, ..)| format!("\"{scheme}:\""))
        .join(", ");
    let plain = found
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    match plain && (1..=16).contains(&found.len()) {
        true => error(&format!(
            "unknown scheme \"{found}\", it must be one of {named}"
        )),
        false => error(&format!("it must begin with one of {named}")),
    }
}

fn explain(refused: &redis::RedisError) -> UrlError {
    // The crate's own sentences ("Missing hostname", "Invalid database number") contain no part of
    // the URL. A detail might, so it is left out.
    let sentence = refused.to_string();
    let sentence = sentence.split(" - ").next().unwrap_or_default();
    let sentence = sentence.split(": ").next().unwrap_or_default();
    let mut letters = sentence.chars();
    match letters.next() {
        Some(first) => error(&format!(
            "{}{}",
            first.to_ascii_lowercase(),
            letters.as_str()
        )),
        None => error("it is not a valid URL"),
    }
}

fn error(what: &str) -> UrlError {
    UrlError(what.to_owned())
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self
            .username
            .as_deref()
            .map(|user| format!("{user}@"))
            .unwrap_or_default();
        match &self.address {
            Address::Tcp { host, port } => {
                let scheme = if self.tls { "rediss" } else { "redis" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://{user}[{host}]:{port}")?,
                    false => write!(f, "{scheme}://{user}{host}:{port}")?,
                }
            }
            Address::Unix(path) => write!(f, "unix:{}", path.display())?,
        }
        match self.db {
            0 => Ok(()),
            db => write!(f, "/{db}"),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}
