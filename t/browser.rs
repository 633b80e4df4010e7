//! The demo's pages in a real browser: clicks, messages through Redis, and what the pages show.
//! `WS_PICTURES` names a directory for screenshots of the pages.

use serde_json::json;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use t::{Browser, Conf, Nginx, Redis, SumWorker, settings, until};
use tungstenite::protocol::CloseFrame;

/// nginx with all examples and the pages.
fn demo(redis: &Redis) -> Nginx {
    let pages = settings::examples().join("pages");
    let types = "types { text/html html; text/css css; application/javascript js; }";
    let conf = [
        "push.conf",
        "echo.conf",
        "chat.conf",
        "request-response.conf",
        "status.conf",
    ]
    .iter()
    .fold(Conf::with(redis).http(types), |conf, name| {
        conf.example(name)
    })
    .server(&format!("root {};", pages.display()))
    .location(
        "= /demo.json",
        &format!("return 200 '{{\"redis_port\":{}}}';", redis.port()),
    );
    Nginx::start(conf)
}

fn page(nginx: &Nginx, name: &str) -> String {
    format!("http://localhost:{}/{name}", nginx.http().port())
}

fn keep_picture(browser: &Browser, name: &str) {
    if let Some(dir) = std::env::var_os("WS_PICTURES") {
        browser.picture(&PathBuf::from(dir).join(format!("{name}.png")));
    }
}

#[test]
fn the_push_page_shows_what_is_published() {
    let redis = Redis::start();
    let mut nginx = demo(&redis);
    let browser = Browser::start(1200, 900);
    browser.open(&page(&nginx, "push.html?channel=foo"));
    browser.until_state("open");
    browser.until_text(
        "#command",
        &format!("redis-cli -p {} publish foo hello", redis.port()),
    );
    assert_eq!(redis.publish("foo", "hello from Redis é"), 1);
    browser.until_text("#log", "hello from Redis é");
    browser.click("#format-redis");
    browser.until_state("open");
    until("it is subscribed", || redis.publish("foo", "hello") == 1);
    browser.until_text("#log", r#"["message","foo","hello"]"#);
    browser.fill("#publish-input", "by POST");
    browser.click("#publish");
    browser.until_text("#publish-result", "redis_receivers");
    browser.until_text("#log", "by POST");
    keep_picture(&browser, "push");
    // On a reload of nginx the page is told, and reconnects by itself.
    nginx.reload();
    browser.until_text("#log", "1012");
    browser.until_state("open");
    browser.click("#disconnect");
    browser.until_state("closed");
    browser.until_text("#code", "1000");
}

#[test]
fn the_echo_page_sends_and_hears_text_blob_and_buffer() {
    let redis = Redis::start();
    let nginx = demo(&redis);
    let browser = Browser::start(1200, 900);
    browser.open(&page(&nginx, "echo.html"));
    browser.until_state("open");
    browser.until_text("#protocol", "echo");
    let heard = |opcode: &str| {
        let query = format!("#log li[data-kind=in][data-opcode={opcode}]");
        browser.script(&format!(
            "return document.querySelectorAll('{query}').length"
        ))
    };
    for (button, opcode, count) in [
        ("#send", "text", 1),
        ("#send-blob", "binary", 1),
        ("#send-buffer", "binary", 2),
    ] {
        browser.click(button);
        until("it comes back", || heard(opcode) == count);
    }
    keep_picture(&browser, "echo");
    browser.fill("#close-code", "3001");
    browser.click("#disconnect");
    browser.until_state("closed");
    browser.until_text("#code", "3001");
    browser.click("#connect");
    browser.until_state("open");
    assert_eq!(browser.text("#code"), "");
    browser.click("#send");
    until("it comes back", || heard("text") == 2);
}

#[test]
fn two_browsers_chat() {
    let redis = Redis::start();
    let nginx = demo(&redis);
    let (ada, bob) = (Browser::start(1200, 900), Browser::start(390, 844));
    ada.open(&page(&nginx, "chat.html?room=tea&name=Ada"));
    ada.until_state("open");
    bob.open(&page(&nginx, "chat.html?room=tea&name=Bob"));
    bob.until_state("open");
    ada.until_text("#messages", "Bob joined tea");
    bob.fill("#input", "Milk, Ada?");
    bob.click("#send");
    for browser in [&ada, &bob] {
        browser.until_text("#messages li[data-kind=message] .text", "Milk, Ada?");
        browser.until_text("#messages li[data-kind=message] .name", "Bob");
    }
    keep_picture(&ada, "chat");
    keep_picture(&bob, "chat-phone");
}

#[test]
fn the_sum_page_gets_its_answer() {
    let redis = Redis::start();
    let nginx = demo(&redis);
    let _worker = SumWorker::start(&redis);
    let browser = Browser::start(390, 844);
    browser.open(&page(&nginx, "sum.html"));
    browser.until_state("open");
    browser.click("#send");
    browser.until_text("#sum", "11");
    browser.fill("#a", "nonsense");
    browser.click("#send");
    until("an error is shown", || !browser.text("#error").is_empty());
    keep_picture(&browser, "sum-phone");
}

#[test]
fn a_page_hears_what_it_is_sent_right_after_onopen() {
    let redis = Redis::start();
    let nginx = demo(&redis);
    let browser = Browser::start(800, 600);
    browser.open(&page(&nginx, "index.html"));
    // Promise 1 in a browser: `onopen` publishes at once over HTTP, and the socket must hear it.
    let script = "const heard = []; let left = 20; (function next() {
        const channel = 'js-' + left, socket = new WebSocket(`ws://${location.host}/ws?channel=${channel}`);
        socket.onopen = () => fetch(`publish?channel=${channel}`, {method: 'POST', body: channel});
        socket.onmessage = (event) => { heard.push(event.data); socket.close(); };
        socket.onclose = () => --left ? next() : window.heard = heard;
      })();";
    browser.script(script);
    until("twenty sockets have heard", || {
        browser.script("return window.heard") != json!(null)
    });
    let expected: Vec<String> = (1..=20).rev().map(|i| format!("js-{i}")).collect();
    assert_eq!(browser.script("return window.heard"), json!(expected));
}

/// Accepts one client after the other and closes each with the next of `codes`.
fn close_each(listener: &TcpListener, codes: &Receiver<u16>) {
    while let Ok((stream, _)) = listener.accept() {
        let mut client = tungstenite::accept(stream).expect("a handshake");
        let Ok(code) = codes.recv() else {
            return;
        };
        let frame = CloseFrame {
            code: code.into(),
            reason: "as told".into(),
        };
        client.close(Some(frame)).expect("a Close");
        while client.read().is_ok() {}
    }
}

/// The page reconnects soon after a restart, later after what takes longer, and not at all after
/// what would end the same way again.
#[test]
fn a_page_comes_back_after_what_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let upstream = listener.local_addr().expect("its address");
    let (close, codes) = channel();
    let server = std::thread::spawn(move || close_each(&listener, &codes));
    let pages = settings::examples().join("pages");
    let conf = Conf::without_module()
        .http("types { text/html html; text/css css; application/javascript js; }")
        .server(&format!("root {};", pages.display()))
        .location(
            "= /ws",
            &format!(
                "proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Host $http_host; \
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
            ),
        );
    let nginx = Nginx::start(conf);
    let browser = Browser::start(800, 600);
    browser.open(&page(&nginx, "push.html?channel=foo"));
    browser.until_state("open");
    // Records the page's delays and keeps them short. The page draws its log after 30 ms.
    browser.script(
        "const wait = window.setTimeout; window.delays = [];
         window.setTimeout = (work, ms) => {
           if (ms !== 30) window.delays.push(ms);
           return wait(work, Math.min(ms, 30));
         };",
    );
    let mut bounds = [(0., 500.), (0., 1000.), (0., 2000.)].to_vec();
    bounds.resize(7, (2_000., 60_000.));
    for (code, (least, most)) in [1012, 1001, 4001, 1008, 1011, 1013, 1014]
        .into_iter()
        .zip(bounds)
    {
        browser.script("window.delays = []");
        close.send(code).expect("the server");
        browser.until_text("#log", &format!("closed: {code}, "));
        browser.until_state("open");
        let delays = browser.script("return window.delays");
        let delay = delays[0].as_f64().expect("a delay");
        assert!(least <= delay && delay <= most, "{code}: {delays}");
    }
    for code in [1000, 1002, 1003, 1007, 1009, 1010] {
        close.send(code).expect("the server");
        browser.until_text("#code", &code.to_string());
        browser.until_text("#retry", "not trying again");
        browser.until_state("closed");
        browser.click("#connect");
        browser.until_state("open");
        assert_eq!(browser.text("#retry"), "");
    }
    drop((browser, close));
    server.join().expect("the server");
}
