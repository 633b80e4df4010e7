//! An nginx with one worker: Debian's, with a peer's additions to its configuration.
use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use super::{Lab, PLAIN, PLAIN_BODY, Server};
use crate::load::Via;
use crate::net;
use crate::process::{self, Process};

const NGINX: &str = "/usr/sbin/nginx";

/// A peer's additions.
pub struct Conf<'a> {
    /// The name of its directory below the lab's.
    pub name: &'a str,
    /// Directives before `events`, such as `load_module`.
    pub main: String,
    /// Directives in `http`.
    pub http: String,
    /// Directives in `server`.
    pub server: String,
}

/// A running nginx.
pub struct Nginx {
    pub master: Process,
    pub worker: Pid,
    pub address: SocketAddrV4,
    pub tls: SocketAddrV4,
}

impl Nginx {
    /// Turns it into a server whose subscribers get messages by `via`.
    pub fn server(self, via: Via) -> Server {
        Server {
            pid: self.worker,
            address: self.address,
            tls: Some(self.tls),
            via,
            processes: vec![self.master],
        }
    }
}

/// Starts nginx and waits for its worker.
pub fn start(lab: &Lab, conf: &Conf) -> Result<Nginx> {
    let (address, tls) = (net::free_address()?, net::free_address()?);
    let file = write(lab, conf, address, tls)?;
    let file = file.to_str().context("a path that is no UTF-8")?;
    let log = lab.log(conf.name);
    let mut master = Process::start(
        Path::new(NGINX),
        &["-c", file, "-e", "stderr", "-g", "daemon off;"],
        log,
    )?;
    let pid = master.pid();
    let mut worker = None;
    master.until(|| {
        worker = process::children(pid)
            .ok()
            .and_then(|pids| pids.first().copied());
        worker.is_some() && TcpStream::connect(address).is_ok()
    })?;
    Ok(Nginx {
        master,
        worker: worker.context("no worker")?,
        address,
        tls,
    })
}

fn write(lab: &Lab, conf: &Conf, address: SocketAddrV4, tls: SocketAddrV4) -> Result<PathBuf> {
    let directory = lab.directory.join(conf.name);
    fs::create_dir_all(&directory)?;
    let file = directory.join("nginx.conf");
    // If root starts nginx, workers run as nobody, which cannot read everything here.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let Conf {
        main, http, server, ..
    } = conf;
    let here = directory.display();
    let (certificate, key) = (
        lab.certificate().display().to_string(),
        lab.key().display().to_string(),
    );
    let text = format!(
        "{user}
{main}
worker_processes 1;
worker_rlimit_nofile 20000;
error_log stderr notice;
pid {here}/nginx.pid;
events {{ worker_connections 19900; }}
http {{
    access_log off;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
    keepalive_requests 100000000;
    {http}
    server {{
        listen {address} backlog=4096;
        listen {tls} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location = {PLAIN} {{ return 200 {PLAIN_BODY}; }}
        {server}
    }}
}}
"
    );
    fs::write(&file, text)?;
    Ok(file)
}
