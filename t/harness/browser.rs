//! A real browser: headless Chromium, driven through WebDriver (W3C) over plain HTTP.

use super::http::{self, Request};
use super::wait::{until, until_some};
use super::{ports, settings};
use base64::Engine;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A browser with one window. It is stopped when this is dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a window of this size.
    ///
    /// # Panics
    /// If there is no browser, or it does not start.
    #[track_caller]
    pub fn start(width: u32, height: u32) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let driver = Command::new(settings::chromedriver())
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let session = String::new();
        let mut browser = Self {
            driver,
            address,
            session,
            _profile: profile,
        };
        until("the WebDriver server is ready", || {
            http::try_send(address, &Request::get("/status")).is_ok_and(|r| r.status == 200)
        });
        let capabilities = browser.capabilities(width, height);
        let answer = browser.post_to("/session", &capabilities);
        browser.session = answer["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Clicks an element.
    #[track_caller]
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Empties a field and types into it.
    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("/element/{element}/clear"), &json!({}));
        self.post(
            &format!("/element/{element}/value"),
            &json!({ "text": text }),
        );
    }

    /// The text that an element shows.
    #[track_caller]
    pub fn text(&self, css: &str) -> String {
        let element = self.element(css);
        self.get(&format!("/element/{element}/text"))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until the text of an element contains `part`.
    #[track_caller]
    pub fn until_text(&self, css: &str, part: &str) {
        until_some(&format!("{css} shows {part:?}"), || {
            self.text(css).contains(part).then_some(())
        });
    }

    /// Waits until `document.body.dataset.state` has this value.
    #[track_caller]
    pub fn until_state(&self, state: &str) {
        until(&format!("the page's state is {state}"), || {
            self.script("return document.body.dataset.state") == state
        });
    }

    /// Runs a script in the page and returns its result.
    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Saves a screenshot of the window as PNG.
    #[track_caller]
    pub fn picture(&self, file: &Path) {
        let picture = self.get("/screenshot");
        let engine = base64::engine::general_purpose::STANDARD;
        let png = engine
            .decode(picture.as_str().expect("a picture"))
            .expect("base64");
        std::fs::write(file, png).expect("a file written");
    }

    fn capabilities(&self, width: u32, height: u32) -> Value {
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", self._profile.path().display()),
        ];
        let options = json!({ "binary": settings::chromium(), "args": arguments });
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        json!({ "capabilities": { "alwaysMatch": wanted } })
    }

    #[track_caller]
    fn element(&self, css: &str) -> String {
        let query = json!({ "using": "css selector", "value": css });
        let found = self.post("/element", &query);
        let id = found.as_object().and_then(|object| object.values().next());
        id.and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no element {css}"))
            .to_owned()
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let target = format!("/session/{}{path}", self.session);
        value(
            path,
            &http::send(self.address, &Request::get(&target)).json(),
        )
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.post_to(&format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn post_to(&self, target: &str, body: &Value) -> Value {
        let request = Request::post(target, body.to_string())
            .header("Content-Type", "application/json; charset=utf-8");
        value(target, &http::send(self.address, &request).json())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let end = Request::new("DELETE", &format!("/session/{}", self.session));
            let _ = http::try_send(self.address, &end.header("Connection", "close"));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[track_caller]
fn value(what: &str, answer: &Value) -> Value {
    let value = &answer["value"];
    assert!(value.get("error").is_none(), "{what}: {}", value["message"]);
    value.clone()
}
