//! What is tested, as set by the environment. `scripts/test` sets all of it.

use std::env;
use std::path::{Path, PathBuf};

/// The build under test. Some deadlines and a few differences of nginx depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// Debian's nginx.
    Debian,
    /// nginx 1.28.3, built for the tests.
    Newer,
    /// nginx and module under AddressSanitizer, which makes everything slower.
    Asan,
}

/// `WS_FLAVOR`: `debian` (default), `asan`, or a version.
pub fn flavor() -> Flavor {
    match env::var("WS_FLAVOR").as_deref() {
        Err(_) | Ok("" | "debian") => Flavor::Debian,
        Ok("asan") => Flavor::Asan,
        Ok(_) => Flavor::Newer,
    }
}

/// How the module under test was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As operators run it.
    Release,
    /// With debug assertions and overflow checks, and the feature `test-panic`.
    Debug,
}

/// `WS_BUILD`: `release` (default) or `debug`.
pub fn build() -> Build {
    match env::var("WS_BUILD").as_deref() {
        Err(_) | Ok("" | "release") => Build::Release,
        Ok("debug") => Build::Debug,
        Ok(other) => panic!("WS_BUILD is {other:?}: it must be \"release\" or \"debug\""),
    }
}

/// `WS_IO_URING`: the `websocket_io_uring` of every configuration that sets none in `http`. Empty
/// or unset: the module's default.
pub fn io_uring() -> Option<String> {
    env::var("WS_IO_URING")
        .ok()
        .filter(|value| !value.is_empty())
}

/// `WS_NGINX`: the nginx binary.
pub fn nginx() -> PathBuf {
    program("WS_NGINX", &["nginx", "/usr/sbin/nginx"])
}

/// `WS_REDIS`: the redis-server binary.
pub fn redis() -> PathBuf {
    program("WS_REDIS", &["redis-server"])
}

/// `WS_PYTHON`: a Python with the packages `websockets` and `tornado`.
pub fn python() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/venv/bin/python");
    program("WS_PYTHON", &[here.to_str().unwrap(), "python3"])
}

/// `WS_CHROMEDRIVER`: the WebDriver server of the browser.
pub fn chromedriver() -> PathBuf {
    program("WS_CHROMEDRIVER", &["chromedriver"])
}

/// `WS_CHROMIUM`: the browser itself.
pub fn chromium() -> PathBuf {
    program("WS_CHROMIUM", &["chromium"])
}

/// `WS_PRELOAD`: a library to preload into nginx, and only nginx.
pub fn preload() -> Option<String> {
    env::var("WS_PRELOAD").ok().filter(|path| !path.is_empty())
}

/// `WS_MODULE`: the module under test.
///
/// # Panics
/// If it is unset or names no file: a test without the module would test nothing.
pub fn module() -> PathBuf {
    let path = env::var("WS_MODULE").unwrap_or_default();
    assert!(
        !path.is_empty(),
        "WS_MODULE is not set: it names the module's .so to test"
    );
    let path = PathBuf::from(path);
    let path = path
        .canonicalize()
        .unwrap_or_else(|e| panic!("WS_MODULE {path:?}: {e}"));
    assert!(path.is_file(), "WS_MODULE {path:?} is not a file");
    path
}

/// The checkout's directory of examples.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../nginx-conf")
        .canonicalize()
        .expect("nginx-conf")
}

fn program(variable: &str, candidates: &[&str]) -> PathBuf {
    if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()) {
        return found(Path::new(&path)).unwrap_or_else(|| panic!("{variable} {path:?}: not found"));
    }
    candidates
        .iter()
        .find_map(|name| found(Path::new(name)))
        .unwrap_or_else(|| panic!("{} not found: install it or set {variable}", candidates[0]))
}

fn found(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
