//! Clients by other authors, unmodified, where messages are compressed. Whatever each offers and
//! does on its own is understood. Each is a program in `t/clients/`; this file runs them and
//! publishes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use t::{Browser, Conf, Nginx, Redis, settings, until};

/// What is sent and must come back: similar messages, so that a context helps, and a big one.
const WORDS: [&str; 4] = [
    "40*the same words again and again, ",
    "41*the same words again and again, ",
    "42*the same words again and again, ",
    "2000*a message of seventy thousand bytes",
];

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

fn python(script: &str) -> Command {
    let mut command = Command::new(settings::python());
    // -B: Python writes no bytecode next to the sources.
    command.arg("-B").arg(program(script));
    command
}

fn netty() -> Command {
    let parts = [
        "netty-buffer",
        "netty-codec",
        "netty-codec-http",
        "netty-common",
        "netty-handler",
        "netty-resolver",
        "netty-transport",
        "jctools-core",
    ];
    let jars = parts.map(|part| format!("/usr/share/java/{part}.jar"));
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-cp", &jars.join(":")]);
    command.arg(program("NettyClient.java"));
    command
}

/// A location that compresses, echoes and publishes.
fn stage() -> (Redis, Nginx) {
    let redis = Redis::start();
    let settings = "websocket_echo; websocket_subscribe talk; websocket_max_message 128k; \
                    websocket_deflate on; websocket_deflate_min_length 32;";
    let conf = Conf::push(&redis)
        .location("/talk", settings)
        .location("/status", "websocket_status;");
    (redis, Nginx::start(conf))
}

fn published() -> String {
    "published to all who listen, ".repeat(100)
}

/// Checks that everything was echoed, and that the client compressed it.
#[track_caller]
fn check_echoed(nginx: &Nginx) {
    let status = nginx.get("/status").json();
    assert_eq!(status["counters"]["echoed"], WORDS.len());
    let bytes_in = status["counters"]["bytes_in"].as_u64().expect("a number");
    assert!(bytes_in < 10_000, "{bytes_in} bytes");
}

/// Runs a client. Returns the answer to its offer.
#[track_caller]
fn talks(mut client: Command) -> String {
    let (redis, nginx) = stage();
    let mut client = client
        .arg(format!("ws://127.0.0.1:{}/talk", nginx.http().port()))
        .args(WORDS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client");
    let mut said = BufReader::new(client.stdout.take().expect("its output")).lines();
    let mut next = || said.next().and_then(Result::ok).unwrap_or_default();
    let (open, echoed) = (next(), next());
    if echoed == "echoed" {
        check_echoed(&nginx);
        redis.publish("talk", published());
    }
    let heard = next();
    let mut errors = String::new();
    let stderr = client.stderr.as_mut().expect("its errors");
    stderr.read_to_string(&mut errors).expect("its errors");
    let end = client.wait().expect("its end");
    assert!(end.success(), "{open} {echoed} {heard}\n{errors}");
    assert_eq!(heard, format!("heard {}", published().len()));
    assert_eq!(nginx.count_log("websocket closed with"), 0);
    let answer = open.strip_prefix("open ").expect("what was agreed");
    answer.to_owned()
}

#[test]
fn netty_is_answered_no_parameter_that_it_did_not_offer() {
    assert_eq!(talks(netty()), "permessage-deflate");
}

#[test]
fn tornado_may_keep_its_context() {
    assert_eq!(talks(python("tornado_client.py")), "permessage-deflate");
}

#[test]
fn mojolicious_may_keep_its_context() {
    let mut perl = Command::new("perl");
    perl.arg(program("mojolicious_client.pl"));
    assert_eq!(talks(perl), "permessage-deflate");
}

#[test]
fn pythons_websockets_may_keep_its_context() {
    assert_eq!(talks(python("websockets_client.py")), "permessage-deflate");
}

#[test]
fn chromium_may_keep_its_context() {
    let (redis, nginx) = stage();
    let browser = Browser::start(800, 600);
    browser.open(&format!("http://localhost:{}/plain", nginx.http().port()));
    let words = serde_json::to_string(&WORDS).expect("JSON");
    browser.script(&format!(
        "const texts = {words}.map(word => {{
             const [count, text] = word.split('*');
             return text.repeat(count);
         }});
         let sent = 0;
         window.said = '';
         const socket = new WebSocket(`ws://${{location.host}}/talk`);
         socket.onopen = () => socket.send(texts[sent++]);
         socket.onmessage = event => {{
             if (said === 'echoed') {{
                 window.heard = event.data.length;
                 socket.close(1000);
             }} else if (event.data !== texts[sent - 1]) {{
                 said = 'wrong';
             }} else if (sent < texts.length) {{
                 socket.send(texts[sent++]);
             }} else {{
                 said = 'echoed';
             }}
         }};
         socket.onclose = event => {{
             said = `${{socket.extensions}}, ${{event.code}}, heard ${{window.heard}}`;
         }};"
    ));
    let said = |what: &str| browser.script("return said") == what;
    until("it has heard its echoes", || said("echoed"));
    check_echoed(&nginx);
    redis.publish("talk", published());
    let end = format!("permessage-deflate, 1000, heard {}", published().len());
    until("it has heard what was published", || said(&end));
}
