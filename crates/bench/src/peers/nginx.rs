//! An nginx with one worker: Debian's, with what a peer adds to its configuration.
use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use super::Lab;
use crate::net;
use crate::process::{self, Process};

const NGINX: &str = "/usr/sbin/nginx";

/// What a peer adds.
pub struct Conf<'a> {
    /// A directory of its own below the lab's.
    pub name: &'a str,
    /// Before `events`, such as `load_module`.
    pub main: String,
    /// Within `http`.
    pub http: String,
    /// Within `server`.
    pub server: String,
}

/// Starts it; returns the master, the worker's process id and the address.
pub fn start(lab: &Lab, conf: &Conf) -> Result<(Process, Pid, SocketAddrV4)> {
    let address = net::free_address()?;
    let file = write(lab, conf, address)?;
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
    Ok((master, worker.context("no worker")?, address))
}

/// Whether nginx accepts the configuration.
pub fn accepts(lab: &Lab, conf: &Conf) -> Result<bool> {
    let file = write(lab, conf, net::free_address()?)?;
    let tested = Command::new(NGINX)
        .args(["-t", "-q", "-e", "stderr", "-c"])
        .arg(file)
        .output()?;
    Ok(tested.status.success())
}

fn write(lab: &Lab, conf: &Conf, address: SocketAddrV4) -> Result<PathBuf> {
    let directory = lab.directory.join(conf.name);
    fs::create_dir_all(&directory)?;
    let file = directory.join("nginx.conf");
    // Started by root, workers would be nobody, who may not read everything here.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let Conf {
        main, http, server, ..
    } = conf;
    let here = directory.display();
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
        {server}
    }}
}}
"
    );
    fs::write(&file, text)?;
    Ok(file)
}
