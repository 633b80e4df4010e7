//! A test's own nginx: its configuration, its processes, and the check of its error log.

use super::http::{self, Request, Response};
use super::process::{self, Signal};
use super::redis::Redis;
use super::stream::certificate;
use super::wait::{patience, until, until_some};
use super::{ports, settings};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// A configuration under construction. Every server answers `/plain` with `plain`.
#[derive(Clone, Debug)]
pub struct Conf {
    module: Option<PathBuf>,
    workers: usize,
    worker_connections: usize,
    main: String,
    http: String,
    server: String,
    locations: String,
    drain: Option<String>,
    access_log: Option<String>,
    http2: bool,
    reuseport: bool,
    master: bool,
    io_uring: bool,
}

impl Conf {
    /// One worker and the loaded module, without any of its directives.
    ///
    /// # Panics
    /// If the environment names no module.
    pub fn new() -> Self {
        Self {
            module: Some(settings::module()),
            ..Self::without_module()
        }
    }

    /// Does not even load the module.
    pub fn without_module() -> Self {
        Self {
            module: None,
            workers: 1,
            worker_connections: 4096,
            main: String::new(),
            http: String::new(),
            server: String::new(),
            locations: String::new(),
            drain: None,
            access_log: None,
            http2: false,
            reuseport: false,
            master: true,
            io_uring: true,
        }
    }

    /// Sets `websocket_redis` to this Redis, and a short `websocket_drain`.
    pub fn with(redis: &Redis) -> Self {
        Self::with_url(&redis.url())
    }

    /// Sets `websocket_redis` to this address, and a short `websocket_drain`.
    pub fn with_url(url: &str) -> Self {
        Self::new()
            .http(&format!("websocket_redis {url};"))
            .drain("200ms")
    }

    /// Like [`Conf::with`], plus a location `/ws` that subscribes to the query's `channel`.
    pub fn push(redis: &Redis) -> Self {
        Self::push_url(&redis.url())
    }

    /// Like [`Conf::push`], for this address.
    pub fn push_url(url: &str) -> Self {
        Self::with_url(url).location("/ws", "websocket_subscribe $websocket_arg_channel;")
    }

    /// Loads this file instead of the module under test.
    pub fn module(mut self, path: &Path) -> Self {
        self.module = Some(path.to_owned());
        self
    }

    /// Sets `worker_processes`.
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = n;
        self
    }

    /// Sets `worker_connections`.
    pub fn worker_connections(mut self, n: usize) -> Self {
        self.worker_connections = n;
        self
    }

    /// Sets `websocket_drain` at http level.
    pub fn drain(mut self, time: &str) -> Self {
        self.drain = Some(time.to_owned());
        self
    }

    /// Leaves `websocket_drain` unset.
    pub fn default_drain(mut self) -> Self {
        self.drain = None;
        self
    }

    /// Adds directives of the main context.
    pub fn main(mut self, directives: &str) -> Self {
        push_line(&mut self.main, directives);
        self
    }

    /// Adds directives of the http context.
    pub fn http(mut self, directives: &str) -> Self {
        push_line(&mut self.http, directives);
        self
    }

    /// Adds directives of the server.
    pub fn server(mut self, directives: &str) -> Self {
        push_line(&mut self.server, directives);
        self
    }

    /// Adds a location to the server.
    pub fn location(mut self, path: &str, directives: &str) -> Self {
        push_line(
            &mut self.locations,
            &format!("location {path} {{ {directives} }}"),
        );
        self
    }

    /// Adds an access log in this format. [`Nginx::access_log`] reads it.
    pub fn access_log(mut self, format: &str) -> Self {
        self.access_log = Some(format.to_owned());
        self
    }

    /// Adds a listener that speaks HTTP/2 with prior knowledge: [`Nginx::http2`].
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Gives each worker its own listeners, so that the kernel spreads clients over all workers.
    pub fn reuseport(mut self) -> Self {
        self.reuseport = true;
        self
    }

    /// Uses one process as master and worker (`master_process off`).
    pub fn single_process(mut self) -> Self {
        (self.master, self.workers) = (false, 0);
        self.main("master_process off;")
    }

    /// Makes the system forbid io_uring to nginx, as containers do.
    pub fn without_io_uring(mut self) -> Self {
        self.io_uring = false;
        self
    }

    /// Includes one of the checkout's examples into the server.
    pub fn example(self, name: &str) -> Self {
        let directive = format!("include {};", settings::examples().join(name).display());
        self.server(&directive)
    }

    /// Runs `nginx -t`. Returns whether the configuration is valid, and all lines of output.
    pub fn check(&self) -> (bool, String) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        self.write(dir.path(), Listeners::free());
        let output = command(self.program(), dir.path())
            .arg("-t")
            .output()
            .expect("nginx");
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        text += &fs::read_to_string(dir.path().join("error.log")).unwrap_or_default();
        (output.status.success(), text)
    }

    /// The number of the first line of its nginx.conf that contains `part`.
    ///
    /// # Panics
    /// If no line does.
    #[track_caller]
    pub fn line_of(&self, part: &str) -> usize {
        let listeners = Listeners {
            http: 1,
            https: 1,
            http2: 1,
        };
        let text = self.render(Path::new("/"), listeners);
        let at = text.lines().position(|line| line.contains(part));
        at.unwrap_or_else(|| panic!("no line with {part:?}")) + 1
    }

    fn program(&self) -> Command {
        if self.io_uring {
            return Command::new(settings::nginx());
        }
        let mut forbidding = Command::new(settings::python());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("no_io_uring.py");
        forbidding.arg(script).arg(settings::nginx());
        forbidding
    }

    fn write(&self, dir: &Path, listeners: Listeners) {
        fs::write(dir.join("nginx.conf"), self.render(dir, listeners)).expect("nginx.conf");
    }

    fn render(&self, dir: &Path, listeners: Listeners) -> String {
        let Self {
            workers,
            worker_connections,
            main,
            http,
            server,
            locations,
            ..
        } = self;
        let module = match &self.module {
            Some(path) => {
                let io_uring = settings::io_uring();
                let io_uring = io_uring.map(|value| format!("\nwebsocket_io_uring {value};"));
                format!(
                    "load_module {};{}",
                    path.display(),
                    io_uring.unwrap_or_default()
                )
            }
            None => String::new(),
        };
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let access_log = match &self.access_log {
            Some(format) => {
                format!(
                    "log_format test '{format}'; access_log {}/access.log test;",
                    dir.display()
                )
            }
            None => "access_log off;".to_owned(),
        };
        let drain = self
            .drain
            .as_ref()
            .map(|time| format!("websocket_drain {time};"));
        let drain = drain.unwrap_or_default();
        let workers = if self.master {
            workers.to_string()
        } else {
            "1".to_owned()
        };
        let reuseport = if self.reuseport { "reuseport" } else { "" };
        let http2 = if self.http2 {
            listeners.http2_line()
        } else {
            String::new()
        };
        let temporary = temporary_paths(dir);
        let Listeners {
            http: port, https, ..
        } = listeners;
        let (dir, tls) = (dir.display(), certificate());
        format!(
            "daemon off;\n{user}\nworker_processes {workers};\nworker_rlimit_nofile 16384;\n\
             error_log {dir}/error.log info;\npid {dir}/nginx.pid;\nlock_file {dir}/lock;\n\
             {module}\n{main}\nevents {{ worker_connections {worker_connections}; }}\n\
             http {{\n{access_log}\n{temporary}\n{drain}\n{http}\nserver {{\n\
             listen 127.0.0.1:{port} {reuseport};\nlisten 127.0.0.1:{https} ssl;\n{http2}\n\
             server_name localhost;\nssl_certificate {};\nssl_certificate_key {};\n{server}\n\
             location = /plain {{ return 200 plain; }}\n{locations}\n}}\n}}\n",
            tls.certificate.display(),
            tls.key.display(),
        )
    }
}

impl Default for Conf {
    fn default() -> Self {
        Self::new()
    }
}

/// nginx's error if another process took a port between its choice and its use.
const PORT_TAKEN: &str = "98: Address already in use";

/// A running nginx. When dropped, it is stopped and checked: see [`Nginx::finish`].
pub struct Nginx {
    dir: TempDir,
    conf: Conf,
    listeners: Listeners,
    master: Child,
    expected_log: Vec<String>,
    expected_workers: usize,
    is_judged: bool,
}

impl Nginx {
    /// Starts nginx and waits until it serves.
    ///
    /// # Panics
    /// If it does not. The message includes nginx's output.
    #[track_caller]
    pub fn start(conf: Conf) -> Self {
        for attempt in 1.. {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let listeners = Listeners::free();
            conf.write(dir.path(), listeners);
            let stderr = fs::File::create(dir.path().join("stderr")).expect("a file");
            let mut command = command(conf.program(), dir.path());
            let master = command.stderr(stderr).spawn().expect("nginx");
            let expected_workers = conf.workers;
            let mut nginx = Self {
                dir,
                conf: conf.clone(),
                listeners,
                master,
                expected_log: Vec::new(),
                expected_workers,
                is_judged: false,
            };
            if nginx.comes_up() {
                // nginx tries again for some seconds. By then the other user of the port has gone.
                nginx.expect_log(PORT_TAKEN);
                return nginx;
            }
            nginx.is_judged = true;
            let log = nginx.log();
            let is_port_taken = log.contains(PORT_TAKEN);
            assert!(is_port_taken && attempt < 5, "nginx does not start:\n{log}");
        }
        unreachable!()
    }

    /// The address for `http:` and `ws:`.
    pub fn http(&self) -> SocketAddr {
        at(self.listeners.http)
    }

    /// The address for `https:` and `wss:`.
    pub fn https(&self) -> SocketAddr {
        at(self.listeners.https)
    }

    /// The address for HTTP/2, if [`Conf::http2`] asked for it.
    pub fn http2(&self) -> SocketAddr {
        at(self.listeners.http2)
    }

    /// Its temporary directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sends a request over `http:`.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        http::send(self.http(), request)
    }

    /// Sends a GET over `http:`.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// The status of the response to a handshake at `target`.
    #[track_caller]
    pub fn handshake(&self, target: &str) -> u16 {
        self.send(&Request::upgrade(target)).status
    }

    /// The process id of the master.
    pub fn master(&self) -> u32 {
        self.master.id()
    }

    /// The process ids of the serving workers, without those that are quitting.
    pub fn workers(&self) -> Vec<u32> {
        let mut workers = process::children(self.master());
        workers.retain(|&pid| process::title(pid) == "nginx: worker process");
        workers
    }

    /// The process id of the only worker.
    ///
    /// # Panics
    /// If there are several.
    #[track_caller]
    pub fn worker(&self) -> u32 {
        let workers = self.workers();
        assert_eq!(workers.len(), 1, "one worker");
        workers[0]
    }

    /// The process ids of all children: serving and quitting workers, cache processes.
    pub fn children(&self) -> Vec<u32> {
        process::children(self.master())
    }

    /// Sends SIGHUP and waits until the new workers serve.
    #[track_caller]
    pub fn reload(&mut self) {
        let old = self.workers();
        self.reload_nowait();
        let n = self.conf.workers;
        until("new workers serve instead of the old", || {
            let workers = self.workers();
            workers.len() == n && workers.iter().all(|pid| !old.contains(pid))
        });
    }

    /// Sends SIGHUP.
    pub fn reload_nowait(&mut self) {
        self.expected_workers += self.conf.workers;
        process::signal(self.master(), Signal::HUP);
    }

    /// Rewrites the configuration. The next reload uses it.
    pub fn reconfigure(&mut self, conf: Conf) {
        conf.write(self.dir.path(), self.listeners);
        self.conf = conf;
    }

    /// Sends SIGQUIT without waiting.
    pub fn quit(&self) {
        process::signal(self.master(), Signal::QUIT);
    }

    /// Whether master and workers have exited.
    pub fn has_exited(&mut self) -> bool {
        !matches!(self.master.try_wait(), Ok(None))
    }

    /// The error log and the output on stderr.
    pub fn log(&self) -> String {
        let read = |name| fs::read(self.dir.path().join(name)).unwrap_or_default();
        let (log, stderr) = (read("error.log"), read("stderr"));
        format!(
            "{}{}",
            String::from_utf8_lossy(&log),
            String::from_utf8_lossy(&stderr)
        )
    }

    /// How many lines of the error log contain `part`.
    pub fn count_log(&self, part: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(part))
            .count()
    }

    /// Waits until a line of the error log contains `part`.
    #[track_caller]
    pub fn until_log(&self, part: &str) {
        until(&format!("the error log says {part:?}"), || {
            self.count_log(part) > 0
        });
    }

    /// The lines of the access log.
    pub fn access_log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Waits until the access log has this many lines. Returns them.
    #[track_caller]
    pub fn until_access_log(&self, lines: usize) -> Vec<String> {
        until_some(&format!("the access log has {lines} lines"), || {
            let log = self.access_log();
            (log.len() >= lines).then_some(log)
        })
    }

    /// Allows error log lines that contain this part, whatever their level.
    pub fn expect_log(&mut self, part: &str) {
        self.expected_log.push(part.to_owned());
    }

    /// Quits nginx (SIGQUIT), waits, and checks: no `alert`, `crit` or `emerg`, no socket left
    /// open, no sanitizer report, no worker that ended unasked or in any way other than exiting
    /// with 0.
    ///
    /// # Panics
    /// If a check fails.
    #[track_caller]
    pub fn finish(mut self) {
        self.judge();
    }

    #[track_caller]
    fn judge(&mut self) {
        if std::mem::replace(&mut self.is_judged, true) {
            return;
        }
        if !self.has_exited() {
            self.quit();
        }
        let has_quit = process::exits_before(&mut self.master, Instant::now() + patience());
        let log = self.log();
        assert!(has_quit, "nginx does not quit:\n{}", tail(&log));
        let grave: Vec<&str> = log.lines().filter(|line| self.is_grave(line)).collect();
        assert!(grave.is_empty(), "the error log has:\n{}", grave.join("\n"));
        let starts = self.count_log("start worker process ");
        assert_eq!(
            starts,
            self.expected_workers,
            "worker starts:\n{}",
            tail(&log)
        );
    }

    fn is_grave(&self, line: &str) -> bool {
        const GRAVE: [&str; 8] = [
            "[alert]",
            "[crit]",
            "[emerg]",
            "open socket left",
            "Sanitizer",
            "runtime error:",
            "panicked",
            "exited on signal",
        ];
        let is_bad_exit = line.contains("worker process")
            && line.contains("exited with code")
            && !line.ends_with("exited with code 0");
        (is_bad_exit || GRAVE.iter().any(|part| line.contains(part)))
            && !self.expected_log.iter().any(|part| line.contains(part))
    }

    fn comes_up(&mut self) -> bool {
        until_some("nginx serves or ends", || {
            if self.has_exited() {
                return Some(false);
            }
            let is_up = self.workers().len() == self.conf.workers
                && http::try_send(self.http(), &Request::get("/plain")).is_ok();
            is_up.then_some(true)
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if !std::mem::replace(&mut self.is_judged, true) {
                eprintln!("--- end of nginx's error log\n{}", tail(&self.log()));
            }
        } else {
            self.judge();
        }
        if self.has_exited() {
            return;
        }
        // Killing the master would leave its workers running, so send TERM first.
        process::signal(self.master(), Signal::TERM);
        let end = Instant::now() + std::time::Duration::from_secs(2);
        if !process::exits_before(&mut self.master, end) {
            self.children()
                .into_iter()
                .for_each(|pid| process::signal(pid, Signal::KILL));
            let _ = self.master.kill();
            let _ = self.master.wait();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Listeners {
    http: u16,
    https: u16,
    http2: u16,
}

impl Listeners {
    fn free() -> Self {
        Self {
            http: ports::free(),
            https: ports::free(),
            http2: ports::free(),
        }
    }

    fn http2_line(self) -> String {
        format!("listen 127.0.0.1:{} http2;", self.http2)
    }
}

fn command(mut command: Command, dir: &Path) -> Command {
    command
        .arg("-p")
        .arg(dir)
        .args(["-c", "nginx.conf"])
        .arg("-e")
        .arg(dir.join("error.log"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(library) = settings::preload() {
        command.env("LD_PRELOAD", library);
    }
    command
}

fn temporary_paths(dir: &Path) -> String {
    let dir = dir.display();
    let line = |kind: &str| format!("{kind}_temp_path {dir}/{kind};\n");
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(line)
        .concat()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
