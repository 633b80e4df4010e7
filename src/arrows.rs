//! Tests that the rooms call whom they may, and no one else: `lib.rs` draws the map.

use std::path::{Path, PathBuf};

/// Each room, and the rooms it may name by `crate::`. The trampolines of `nginx` are the one door
/// to `worker`, and hand over what `upgrade` and `http` have prepared.
const ARROWS: [(&str, &[&str]); 8] = [
    ("broker", &["conf", "nginx"]),
    ("conf", &["nginx"]),
    (
        "http",
        &[
            "conf",
            "nginx",
            "upgrade",
            "worker::Counters",
            "worker::Refusals",
        ],
    ),
    ("nginx", &["conf", "variables", "session::Summary"]),
    ("session", &["conf", "nginx"]),
    ("upgrade", &["conf", "nginx", "variables"]),
    ("variables", &["nginx", "session::Summary"]),
    (
        "worker",
        &["broker", "conf", "http", "nginx", "session", "upgrade"],
    ),
];

/// The files of `nginx` with trampolines, and what else they may name.
const TRAMPOLINES: [&str; 3] = ["nginx/event.rs", "nginx/content.rs", "nginx/module.rs"];
const BEHIND_TRAMPOLINES: [&str; 3] = ["worker::Worker", "upgrade", "http::publish"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// What follows each `crate::` outside of comments.
fn named(source: &str) -> Vec<String> {
    let code = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let mut names = Vec::new();
    for line in code {
        for after in line.split("crate::").skip(1) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = after.find(|c| !is_path(c)).unwrap_or(after.len());
            names.push(after[..end].trim_end_matches(':').to_owned());
        }
    }
    names
}

#[test]
fn rooms_call_whom_they_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the sources are found");
    let mut wrong = Vec::new();
    for file in &files {
        let place = file
            .strip_prefix(&root)
            .expect("below src")
            .to_string_lossy()
            .into_owned();
        let room = place.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            continue;
        };
        let source = std::fs::read_to_string(file).expect("a source file");
        for name in named(&source) {
            let within = |arrow: &str| name == arrow || name.starts_with(&format!("{arrow}::"));
            let behind =
                TRAMPOLINES.contains(&&*place) && BEHIND_TRAMPOLINES.iter().any(|a| within(a));
            if !within(room) && !allowed.iter().any(|a| within(a)) && !behind {
                wrong.push(format!("{place} names crate::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_lives_in_nginx_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = std::fs::read_to_string(root.join("src/lib.rs")).expect("lib.rs");
    assert!(library.contains("#![deny(unsafe_code)]"));
    assert_eq!(library.matches("allow(unsafe_code)").count(), 1);
    for pure in ["crates/proto/src/lib.rs", "crates/fanout/src/lib.rs"] {
        let library = std::fs::read_to_string(root.join(pure)).expect(pure);
        assert!(library.contains("#![forbid(unsafe_code)]"), "{pure}");
    }
}
