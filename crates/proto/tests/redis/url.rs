//! The argument of `websocket_redis`.

use std::path::PathBuf;

use proto::redis::{Address, Server, url};

fn tcp(host: &str, port: u16) -> Server {
    Server {
        address: Address::Tcp {
            host: host.to_owned(),
            port,
        },
        tls: false,
        insecure: false,
        username: None,
        password: None,
        db: 0,
    }
}

fn unix(path: &str) -> Server {
    Server {
        address: Address::Unix(PathBuf::from(path)),
        ..tcp("", 0)
    }
}

fn login(user: Option<&str>, password: &str, server: Server) -> Server {
    Server {
        username: user.map(str::to_owned),
        password: Some(password.to_owned()),
        ..server
    }
}

#[test]
fn every_form_is_understood() {
    let secure = |server| Server {
        tls: true,
        ..server
    };
    for (url, server) in [
        ("redis://localhost", tcp("localhost", 6379)),
        ("redis://localhost/", tcp("localhost", 6379)),
        ("REDIS://localhost:7000", tcp("localhost", 7000)),
        (
            "valkey://10.0.0.1:7000/2",
            Server {
                db: 2,
                ..tcp("10.0.0.1", 7000)
            },
        ),
        ("redis://[::1]:7000", tcp("::1", 7000)),
        ("redis://h?protocol=resp2", tcp("h", 6379)),
        ("rediss://h", secure(tcp("h", 6379))),
        ("valkeys://h:1", secure(tcp("h", 1))),
        (
            "rediss://h#insecure",
            Server {
                insecure: true,
                ..secure(tcp("h", 6379))
            },
        ),
        (
            "rediss://h:1/2#insecure",
            Server {
                insecure: true,
                db: 2,
                ..secure(tcp("h", 1))
            },
        ),
        ("redis://:secret@h", login(None, "secret", tcp("h", 6379))),
        (
            "redis://al:p%40s%2Fs@h",
            login(Some("al"), "p@s/s", tcp("h", 6379)),
        ),
        ("unix:/run/redis.sock", unix("/run/redis.sock")),
        ("unix:///run/redis.sock", unix("/run/redis.sock")),
        (
            "redis+unix:///run/redis.sock?db=2",
            Server {
                db: 2,
                ..unix("/run/redis.sock")
            },
        ),
        (
            "unix:/r.sock?user=al&pass=s",
            login(Some("al"), "s", unix("/r.sock")),
        ),
    ] {
        assert_eq!(url::parse(url), Ok(server), "{url}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let schemes = "\"redis:\", \"rediss:\", \"valkey:\", \"valkeys:\", \"unix:\", \
                   \"redis+unix:\", \"valkey+unix:\"";
    let unknown = format!("unknown scheme \"http\", it must be one of {schemes}");
    let no_scheme = format!("it must begin with one of {schemes}");
    let long = format!("unix:/{}", "x".repeat(107));
    for (url, error) in [
        ("http://h", unknown.as_str()),
        ("my secret password!", no_scheme.as_str()),
        ("", no_scheme.as_str()),
        ("redis:", "missing hostname"),
        ("redis://", "missing hostname"),
        ("redis://:6379", "it is not a valid URL"),
        ("redis://h:99999", "it is not a valid URL"),
        ("redis://h:0", "invalid port 0"),
        ("redis://h/x", "invalid database number"),
        ("redis://h/-1", "invalid database number"),
        ("redis://h/99999999999", "invalid database number"),
        (
            "redis://0.0.0.0",
            "cannot connect to a wildcard address (0.0.0.0 or ::)",
        ),
        (
            "redis://h#insecure",
            "\"#insecure\" needs \"rediss:\" or \"valkeys:\"",
        ),
        (
            "rediss://h#secure",
            "the only fragment allowed is \"#insecure\"",
        ),
        ("redis://h?db=1", "unknown parameter \"db\""),
        (
            "redis://h?protocol=resp3",
            "the only protocol supported is \"resp2\"",
        ),
        ("redis://h?protocol=x", "invalid protocol version"),
        ("redis://a,b", "only one address is supported"),
        (
            "redis://secret@h",
            "user without password; a password alone is written \":password@\"",
        ),
        ("unix://run/redis.sock", "missing path"),
        ("unix:", "missing path"),
        ("unix:///", "invalid path of a socket"),
        (long.as_str(), "the socket's path exceeds 107 bytes"),
    ] {
        assert_eq!(
            url::parse(url).map_err(|e| e.to_string()),
            Err(error.to_owned()),
            "{url}"
        );
    }
}

#[test]
fn no_output_shows_the_password() {
    for (url, shown) in [
        ("redis://:secret@h", "redis://h:6379"),
        ("rediss://al:secret@h:1/2", "rediss://al@h:1/2"),
        ("redis://:secret@[::1]", "redis://[::1]:6379"),
        ("unix:/r.sock?pass=secret&db=1", "unix:/r.sock/1"),
    ] {
        let server = url::parse(url).unwrap();
        assert_eq!(server.to_string(), shown);
        assert!(!format!("{server:?}").contains("secret"));
    }
    for url in [
        "redis://:secret@",
        "redis://:secret@h/x",
        "redis:/secret@h",
        "redis://u:secret@h:x",
    ] {
        let error = url::parse(url).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{url}: {error}"
        );
    }
}
