//! Tests that the documents agree with the code: directives, variables, status, files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proto::websocket::handshake::Refusal;
use serde_json::Value;

use hub::http::status::{MemoryStatus, RedisStatus, Status};
use hub::session::Cause;
use hub::settings::{Location, LocationSetting, MainSetting};
use hub::upgrade::Refused;
use hub::{Counters, Refusals};

use crate::conf::{DIRECTIVES, PROCESS_DIRECTIVES, ProcessSetting};
use crate::module::variables::TABLE;
use crate::nginx::directive::{Context, Takes};
use crate::nginx::variable::Name;

// The rows' functions need nginx's symbols, which a test does not have. In a constant, the compiler
// drops them.
const ROWS: [(&[u8], Context, Takes); DIRECTIVES.len()] = {
    let mut rows = [(b"".as_slice(), Context::Any, Takes::None); DIRECTIVES.len()];
    let mut at = 0;
    while at < rows.len() {
        let row = &DIRECTIVES[at];
        rows[at] = (row.name.to_bytes(), row.context, row.takes);
        at += 1;
    }
    rows
};

const AT_TOP_LEVEL: [&[u8]; PROCESS_DIRECTIVES.len()] = {
    let mut names = [b"".as_slice(); PROCESS_DIRECTIVES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = PROCESS_DIRECTIVES[at].name.to_bytes();
        at += 1;
    }
    names
};

const NAMES: [Name; TABLE.len()] = {
    let mut names = [Name::Once(""); TABLE.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TABLE[at].name;
        at += 1;
    }
    names
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The cells of the table whose first column has this heading, without their backticks.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = text(document);
    let begins = format!("| {heading} |");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&begins));
    assert!(lines.next().is_some(), "{document} has no table {heading}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let row = row.trim_start_matches("| ").trim_end_matches(" |");
        let cells = row.split(" | ");
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    })
    .collect()
}

fn words(names: impl Iterator<Item = impl AsRef<str>>) -> BTreeSet<String> {
    names.map(|name| name.as_ref().to_owned()).collect()
}

fn directives() -> BTreeSet<String> {
    words(ROWS.iter().map(|(name, ..)| String::from_utf8_lossy(name)))
}

#[test]
fn readme_has_each_directive_with_its_arguments_and_contexts() {
    let rows = table("README.md", "directive");
    let told = |row: &Vec<String>| row[0].split(' ').next().unwrap_or_default().to_owned();
    assert_eq!(words(rows.iter().map(told)), directives());
    for (name, context, takes) in ROWS {
        let name = String::from_utf8_lossy(name);
        let row = rows.iter().find(|row| told(row) == name).expect("a row");
        let arguments: Vec<&str> = row[0].split(' ').skip(1).collect();
        let arity = match arguments[..] {
            [] => Takes::None,
            [many] if many.ends_with('…') => Takes::Many,
            [_] => Takes::One,
            [_, optional] if optional.starts_with('[') => Takes::OneOrTwo,
            _ => panic!("{name}: {arguments:?}"),
        };
        assert_eq!(arity, takes, "{name}");
        let contexts = match context {
            Context::Http if AT_TOP_LEVEL.contains(&name.as_bytes()) => "main, http",
            Context::Main | Context::Http => "http",
            Context::Any => "http, server, location",
            Context::Location => "location",
        };
        assert_eq!(row[2], contexts, "{name}");
    }
}

#[test]
fn readme_has_the_words_and_the_defaults() {
    for row in table("README.md", "directive") {
        let (name, arguments) = row[0].split_once(' ').unwrap_or((&row[0], ""));
        let (words, default) = values_of(name);
        if let Some(words) = words {
            assert_eq!(arguments, words.join("\\|"), "{name}");
        }
        assert_eq!(row[1], default, "{name}");
    }
}

/// The words that a directive takes, and its default as written in a configuration.
fn values_of(name: &str) -> (Option<Vec<&'static str>>, String) {
    let location = LocationSetting::ALL.iter();
    let location = location.map(|s| (s.name(), s.words(), s.default_text()));
    let main = MainSetting::ALL.iter();
    let main = main.map(|s| (s.name(), s.words(), s.default_text()));
    let process = ProcessSetting::ALL.iter();
    let process = process.map(|s| (s.name(), s.words(), s.default_text()));
    let mut all = location.chain(main).chain(process);
    let found = all.find(|(known, ..)| known.to_bytes() == name.as_bytes());
    let (words, default) = found.map_or((None, None), |(_, words, default)| (words, default));
    (words, default.unwrap_or_else(|| "–".to_owned()))
}

#[test]
fn readme_has_each_variable() {
    let told = table("README.md", "variable");
    let known = NAMES.iter().map(|name| match name {
        Name::Once(name) | Name::Always(name) => format!("${name}"),
        Name::Prefix(prefix) => format!("${prefix}NAME"),
    });
    assert_eq!(words(told.iter().map(|row| &row[0])), words(known));
    for row in told {
        let at_the_end =
            crate::module::variables::KNOWN_AT_THE_END.contains(&row[0].trim_matches('$'));
        let when = if at_the_end { "end" } else { "handshake" };
        assert_eq!(row[1], when, "{}", row[0]);
    }
}

/// The paths of a status's fields, such as `counters.accepted`; those in a list as
/// `redis[].server`.
fn fields(value: &Value, place: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let dot = if place.is_empty() { "" } else { "." };
            for (name, value) in object {
                fields(value, &format!("{place}{dot}{name}"), found);
            }
        }
        Value::Array(list) => {
            for value in list {
                fields(value, &format!("{place}[]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(place.to_owned());
        }
    }
}

/// The statuses with which handshakes are refused, by the name of the counter.
fn statuses() -> BTreeMap<String, BTreeSet<u16>> {
    use Refusal::{Body, Extensions, Http2, Key, Method, NotUpgrade, OldHttp, Version};
    let of_the_rfc = [
        Body,
        Extensions,
        Http2,
        Key,
        Method,
        NotUpgrade,
        OldHttp,
        Version,
        Refusal::Origin,
        Refusal::Subprotocol,
    ];
    let ours = [
        Refused::Origin,
        Refused::Channel(""),
        Refused::Subrequest,
        Refused::Internal,
        Refused::Pending,
        Refused::Reserve,
        Refused::Memory,
        Refused::Exiting,
        Refused::BrokerAway,
        Refused::BrokerSlow,
        Refused::Forbidden,
    ];
    let mut found = BTreeMap::<String, BTreeSet<u16>>::new();
    for refused in of_the_rfc.map(Refused::Handshake).into_iter().chain(ours) {
        let mut counters = Refusals::default();
        let named = counters.count(refused);
        let counters = serde_json::to_value(counters).expect("JSON");
        let counted = counters.as_object().into_iter().flatten();
        let (reason, _) = { counted }.find(|(_, count)| **count == 1).expect("one");
        assert_eq!(named, (reason.as_str(), 1));
        let statuses = found.entry(reason.clone()).or_default();
        statuses.insert(refused.status());
    }
    found
}

#[test]
fn each_refusal_is_told_with_its_statuses() {
    let told = table("docs/answers.md", "reason");
    let (error_page, told): (Vec<_>, Vec<_>) = told.iter().partition(|row| row[1] == "the error's");
    assert_eq!(
        words(error_page.iter().map(|row| &row[0])),
        words(["error_page"].iter())
    );
    let told = told.iter().map(|row| {
        let statuses = row[1].split(", ").map(|s| s.parse().expect("a status"));
        (row[0].clone(), statuses.collect())
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), statuses());
}

#[test]
fn each_cause_of_an_end_is_told_with_its_code_and_counter() {
    let location = Location::default();
    let causes = Cause::all().map(|cause| {
        let mut counters = Counters::default();
        if let Some(counter) = cause.counter(&mut counters) {
            *counter += 1;
        }
        let counters = serde_json::to_value(counters).expect("JSON");
        let counted = counters.as_object().into_iter().flatten();
        let counter = { counted }.find(|(_, count)| **count == 1);
        let counter = counter.map_or(String::new(), |(name, _)| name.clone());
        let code = cause.code(&location).to_string();
        vec![cause.documented().to_owned(), code, counter]
    });
    let mut told = table("docs/answers.md", "ended by");
    told.iter_mut().for_each(|row| row.resize(3, String::new()));
    assert_eq!(told, causes.collect::<Vec<_>>());
}

#[test]
fn each_field_of_the_status_is_explained() {
    let status = Status {
        worker_pid: 0,
        worker: 0,
        connections: 0,
        pending: 0,
        channels: 0,
        feeds: 0,
        lagging: 0,
        counters: &Counters::default(),
        refused: &Refusals::default(),
        redis: vec![RedisStatus {
            server: String::new(),
            subscriber: false,
            publisher: false,
            unanswered: 0,
        }],
        memory: MemoryStatus {
            limit: 0,
            logs: 0,
            partial_messages: 0,
            replies: 0,
            contexts: 0,
        },
    };
    let mut known = BTreeSet::new();
    let status = serde_json::to_value(status).expect("JSON");
    fields(&status, "", &mut known);
    let told = table("docs/status.md", "field");
    assert_eq!(words(told.iter().map(|row| &row[0])), known);
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![
        root().join("README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("CHANGELOG.md"),
    ];
    for entry in fs::read_dir(root().join("docs")).expect("docs") {
        found.push(entry.expect("an entry").path());
    }
    found
}

/// The texts between single backticks in a document, without code blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut in_block = false;
    let prose: Vec<&str> = text
        .lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            in_block ^= fence;
            !in_block && !fence
        })
        .collect();
    let prose = prose.join("\n");
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn files_that_documents_name_are_there() {
    let ours = ["src/", "crates/", "t/", "scripts/", "nginx-conf/", "docs/"];
    for document in documents() {
        let text = text(&document);
        let links = text.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        let named = quoted(&text).into_iter().filter_map(|quote| {
            let path = quote.split(' ').next()?;
            let is_ours = ours.iter().any(|home| path.starts_with(home));
            is_ours.then(|| path.to_owned())
        });
        let beside = document.parent().expect("a folder");
        let links = links.map(|link| beside.join(link));
        for path in links.chain(named.map(|path| root().join(path))) {
            assert!(path.exists(), "{}: {}", document.display(), path.display());
        }
    }
}

#[test]
fn each_promise_of_the_readme_names_its_test() {
    for row in table("README.md", "promise") {
        let test = row.last().expect("a cell");
        assert!(
            test.starts_with("t/") && root().join(test).exists(),
            "{row:?}"
        );
    }
}

#[test]
fn what_begins_as_our_names_do_is_a_directive_or_a_variable() {
    let variables: BTreeSet<String> = words(NAMES.iter().map(|name| match name {
        Name::Once(name) | Name::Always(name) | Name::Prefix(name) => name,
    }));
    let mut files: Vec<PathBuf> = documents();
    files.retain(|file| !file.ends_with("CONTRIBUTING.md"));
    for entry in fs::read_dir(root().join("nginx-conf")).expect("nginx-conf") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            files.push(path);
        }
    }
    for file in files {
        let text = text(&file);
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = text.split(|c| !of_a_name(c));
        for name in names.filter(|name| name.starts_with("websocket_")) {
            let known = directives().contains(name)
                || variables.contains(name)
                || name.starts_with("websocket_arg_");
            assert!(known, "{}: {name}", file.display());
        }
    }
}
