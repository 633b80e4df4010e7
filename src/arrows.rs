//! Tests that modules and files depend only on those they may: `lib.rs` shows the map.
//!
//! A path that begins with `crate::` or `super::` is an arrow to the file that it names. Where a
//! module of several files names another, it names the file that defines what it wants, not the
//! folder's `mod.rs`: that file only lists, and is for code outside of the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each top module of `src`, and the modules it may name.
const ARROWS: [(&str, &[&str]); 3] = [
    ("conf", &["nginx"]),
    ("module", &["conf", "nginx"]),
    ("nginx", &[]),
];

/// The one file that may name all modules: nginx finds a module by symbols, which have concrete
/// types, and both need `unsafe`. To contain this, no file may name it.
const EXPORTED: &str = "nginx::exported";

/// What the module `nginx` may name of the workspace's crates: what both sides of the seam must
/// know.
const SEAM: [&str; 3] = ["hub::answer", "hub::guard", "hub::outside"];

/// A crate's files by their module paths, such as `worker::links`, and what each of them names.
struct Crate {
    files: BTreeMap<String, PathBuf>,
    arrows: BTreeMap<String, BTreeSet<String>>,
}

impl Crate {
    fn read(source: &Path) -> Crate {
        let mut found = Vec::new();
        sources(source, &mut found);
        let files = found.into_iter().map(|file| (module(source, &file), file));
        let mut read = Crate {
            files: files.collect(),
            arrows: BTreeMap::new(),
        };
        for (name, file) in &read.files {
            let code = code(&fs::read_to_string(file).expect("a source file"));
            let children = read.children(name).flat_map(|child| {
                let relative = paths(&code, &[&format!("{child}::")]);
                relative.into_iter().map(|path| own(name, &path))
            });
            let targets = paths(&code, &["crate::", "super::"])
                .into_iter()
                .map(|path| absolute(name, &path))
                .chain(children)
                .filter_map(|path| read.file_of(&path))
                .filter(|target| target != name);
            let targets = targets.collect();
            read.arrows.insert(name.clone(), targets);
        }
        read
    }

    /// The last names of the modules that a file declares.
    fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.files
            .keys()
            .filter_map(move |file| match file.rsplit_once("::") {
                Some((parent, last)) => (parent == name).then_some(last),
                None => (name == "lib" && file != "lib").then_some(file.as_str()),
            })
    }

    /// The file that a path leads to: the longest prefix of it that is a file.
    fn file_of(&self, path: &[String]) -> Option<String> {
        let names = (1..=path.len()).rev().map(|len| path[..len].join("::"));
        names.into_iter().find(|name| self.files.contains_key(name))
    }

    /// Files that name each other, directly or through others: one path back to itself for each.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut circles = Vec::new();
        for start in self.files.keys() {
            if let Some(way) = self.way(start, start) {
                circles.push(way);
            }
        }
        circles
    }

    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut before = BTreeMap::new();
        let mut next = vec![from.to_owned()];
        while let Some(file) = next.pop() {
            for target in self.arrows.get(&file).into_iter().flatten() {
                if target == to {
                    let mut way = vec![to.to_owned(), file.clone()];
                    let mut at = &file;
                    while let Some(earlier) = before.get(at) {
                        way.push(String::clone(earlier));
                        at = earlier;
                    }
                    way.reverse();
                    return Some(way);
                }
                if target != from && !before.contains_key(target) {
                    before.insert(target.clone(), file.clone());
                    next.push(target.clone());
                }
            }
        }
        None
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The module path of a file; the root of the crate is "lib".
fn module(source: &Path, file: &Path) -> String {
    let place = file.strip_prefix(source).expect("below the sources");
    let mut names: Vec<_> = place.iter().map(|name| name.to_string_lossy()).collect();
    let last = names.pop().unwrap_or_default();
    if last != "mod.rs" {
        names.push(last.trim_end_matches(".rs").to_owned().into());
    }
    names.join("::")
}

/// A source without comments and unit tests.
fn code(source: &str) -> String {
    let source = source
        .split("\n#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default();
    let lines = source.lines();
    let lines = lines.map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that begin with one of these roots, with braces expanded.
fn paths(code: &str, roots: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for &root in roots {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            // Visibility is not an arrow.
            if code[..at].ends_with("pub(in ") {
                continue;
            }
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '(')
                || (before == Some('(') && !code[..at].ends_with("pub("))
            {
                expand(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Takes one path or tree of paths off the start of `code`. Returns the rest.
fn expand<'a>(code: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut inner) = code.strip_prefix('{') {
        loop {
            inner = expand(inner, &mut prefix.clone(), found).trim_start();
            match inner.strip_prefix(',') {
                Some(rest) if !rest.trim_start().starts_with('}') => inner = rest,
                Some(rest) => return rest.trim_start().strip_prefix('}').unwrap_or(rest),
                None => return inner.strip_prefix('}').unwrap_or(inner),
            }
        }
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let end = code.find(|c| !is_name(c)).unwrap_or(code.len());
    if end > 0 {
        prefix.push(code[..end].to_owned());
    }
    match code[end..].strip_prefix("::") {
        Some(rest) if end > 0 => expand(rest, prefix, found),
        _ => {
            found.push(prefix.clone());
            &code[end..]
        }
    }
}

/// A path that begins with a module that `here` declares, made absolute.
fn own(here: &str, path: &[String]) -> Vec<String> {
    let here = here.split("::").filter(|name| *name != "lib");
    here.map(str::to_owned)
        .chain(path.iter().cloned())
        .collect()
}

/// The absolute path of a path that is written in module `here`.
fn absolute(here: &str, path: &[String]) -> Vec<String> {
    let mut at: Vec<String> = here.split("::").map(str::to_owned).collect();
    if here == "lib" {
        at.clear();
    }
    let mut names = path.iter().peekable();
    if names.next_if(|name| *name == "crate").is_some() {
        at.clear();
    }
    while names.next_if(|name| *name == "super").is_some() {
        at.pop();
    }
    at.extend(names.filter(|name| *name != "self").cloned());
    at
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn rooms_name_whom_they_may() {
    let source = Crate::read(&root().join("src"));
    assert!(source.files.len() > 25, "the sources are found");
    let room = |file: &str| file.split("::").next().unwrap_or_default().to_owned();
    let mut wrong = Vec::new();
    for (file, targets) in &source.arrows {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room(file)) else {
            continue;
        };
        let foreign = targets.iter().filter(|target| room(target) != room(file));
        let forbidden = foreign.filter(|target| !allowed.contains(&room(target).as_str()));
        let forbidden = forbidden.filter(|_| file != EXPORTED);
        let exported = targets.iter().filter(|target| *target == EXPORTED);
        let named = forbidden.chain(exported);
        wrong.extend(named.map(|target| format!("{file} names {target}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(source.files.contains_key(EXPORTED));
}

#[test]
fn nginx_does_not_know_what_it_is_for() {
    let source = Crate::read(&root().join("src"));
    let of_nginx = source.files.iter();
    let of_nginx = of_nginx.filter(|(name, _)| name.starts_with("nginx") && *name != EXPORTED);
    let mut wrong = Vec::new();
    for (name, file) in of_nginx {
        let code = code(&fs::read_to_string(file).expect("a source file"));
        let crates = ["hub::", "fanout::", "proto::"].iter();
        let named = crates.flat_map(|prefix| code.match_indices(prefix).map(|(at, _)| &code[at..]));
        let foreign = named.filter(|path| !SEAM.iter().any(|seam| path.starts_with(seam)));
        wrong.extend(foreign.map(|path| format!("{name}: {}", path.lines().next().unwrap_or(""))));
        let words = ["websocket", "redis", "channel", "subscri"].into_iter();
        let words = words.filter(|word| code.to_lowercase().contains(word));
        wrong.extend(words.map(|word| format!("{name}: {word}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let crates = [
        "crates/proto/src",
        "crates/fanout/src",
        "crates/hub/src",
        "src",
    ];
    for name in crates {
        let circles = Crate::read(&root().join(name)).circles();
        assert!(circles.is_empty(), "{name}: {circles:#?}");
    }
}

#[test]
fn paths_are_taken_apart() {
    let code = "use crate::a::{b, c::{self, D}, e};\nlet x = super::f::G::new(); pub(crate) fn y() pub(in crate::a) fn z()";
    let found: Vec<String> = paths(code, &["crate::", "super::"])
        .iter()
        .map(|path| path.join("::"))
        .collect();
    let all = [
        "crate::a::b",
        "crate::a::c::self",
        "crate::a::c::D",
        "crate::a::e",
        "super::f::G::new",
    ];
    assert_eq!(found, all);
    let absolute = |here, path: &str| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        absolute(here, &path).join("::")
    };
    assert_eq!(
        absolute("worker::links", "super::hub::Hub"),
        "worker::hub::Hub"
    );
    assert_eq!(
        absolute("worker::clients::read", "super::super::hub"),
        "worker::hub"
    );
    assert_eq!(absolute("worker", "crate::session"), "session");
}

#[test]
fn unsafe_lives_in_nginx_alone() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    assert!(library.contains("#![deny(unsafe_code)]"));
    assert_eq!(library.matches("allow(unsafe_code)").count(), 1);
    for pure in ["proto", "fanout", "hub"] {
        let library = root().join("crates").join(pure).join("src/lib.rs");
        let library = fs::read_to_string(&library).expect(pure);
        assert!(library.contains("#![forbid(unsafe_code)]"), "{pure}");
    }
}
