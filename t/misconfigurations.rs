//! A configuration that cannot work fails `nginx -t`, one that works differently than it reads gets
//! a warning, and each message names the line to fix.

use t::{Conf, settings};

fn conf() -> Conf {
    Conf::with_url("redis://127.0.0.1:6379")
}

/// What `nginx -t` says above `notice` about a location `/x` with these lines. Each message ends in
/// the number of its line in the location, counted from 0.
#[track_caller]
fn judged(conf: Conf, lines: &[&str]) -> (bool, Vec<String>) {
    let conf = conf.location("/x", &lines.join("\n"));
    let (is_fine, text) = conf.check();
    let first = conf.line_of("location /x");
    let loud = text.lines().filter(|line| is_loud(line));
    let said = loud.map(|line| {
        let (line, number) = line.rsplit_once(':').expect("a place");
        let (line, file) = line.rsplit_once(" in ").expect("a place");
        assert!(file.ends_with("nginx.conf"), "{line} in {file}");
        let number: usize = number.parse().expect("a line's number");
        format!("{line} @{}", number.wrapping_sub(first) as isize)
    });
    (is_fine, said.collect())
}

/// A line on stderr. The log has the same line again.
fn is_loud(line: &str) -> bool {
    line.strip_prefix("nginx: [")
        .is_some_and(|rest| !rest.starts_with("notice") && !rest.starts_with("info"))
}

#[track_caller]
fn fails(lines: &[&str], expected: &str) {
    let (is_fine, said) = judged(conf(), lines);
    assert!(!is_fine, "{lines:?} is fine?");
    let is_told = said.len() == 1 && said[0].contains("[emerg]") && said[0].contains(expected);
    assert!(is_told, "{lines:?}\n wanted: {expected}\n got: {said:#?}");
}

#[track_caller]
fn warns(lines: &[&str], expected: &str) {
    let (is_fine, said) = judged(conf(), lines);
    assert!(is_fine, "{lines:?} fails: {said:#?}");
    let is_told = said.len() == 1 && said[0].contains("[warn]") && said[0].contains(expected);
    assert!(is_told, "{lines:?}\n wanted: {expected}\n got: {said:#?}");
}

#[track_caller]
fn is_quiet(conf: Conf, lines: &[&str]) {
    let (is_fine, said) = judged(conf, lines);
    assert!(is_fine && said.is_empty(), "{lines:?}: {said:#?}");
}

#[test]
fn a_ping_must_come_before_the_timeout() {
    for (ping, timeout) in [("60s", "60s"), ("2m", "1m"), ("1500ms", "1s")] {
        let settings = format!("websocket_ping_interval {ping}; websocket_timeout {timeout};");
        fails(
            &["", &settings, "websocket_echo;"],
            "must be less than \"websocket_timeout\"",
        );
    }
    // Inherited values are checked where they are combined.
    let inherited = conf().http("websocket_ping_interval 2m;");
    let (is_fine, said) = judged(inherited, &["", "", "websocket_echo;"]);
    assert!(!is_fine);
    let line = "\"websocket_ping_interval\" 120s must be less than \"websocket_timeout\" 60s @2";
    assert!(said.len() == 1 && said[0].ends_with(line), "{said:?}");
    // The interval is the default: the clients may be meant to send by themselves.
    warns(
        &["websocket_echo;", "websocket_timeout 10s;"],
        "set a shorter \"websocket_ping_interval\", or 0 for none @0",
    );
    for fine in [
        "websocket_ping_interval 5s; websocket_timeout 10s;",
        "websocket_ping_interval 0; websocket_timeout 10s;",
        "websocket_ping_interval 5m; websocket_timeout 0;",
    ] {
        is_quiet(conf(), &["websocket_echo;", fine]);
    }
}

#[test]
fn a_message_within_its_limit_must_fit_the_memory() {
    let small = conf().http("websocket_memory 1m;");
    let (is_fine, said) = judged(
        small.clone(),
        &["websocket_max_message 2m;", "websocket_echo;"],
    );
    let line = "\"websocket_max_message\" 2m must not be more than \"websocket_memory\" 1m @1";
    assert!(
        !is_fine && said.len() == 1 && said[0].ends_with(line),
        "{said:?}"
    );
    is_quiet(small, &["websocket_max_message 1m;", "websocket_echo;"]);
    is_quiet(
        conf().http("websocket_memory 32k;"),
        &["websocket_publisher foo;"],
    );
}

#[test]
fn a_frame_has_the_limit_of_its_message_too() {
    warns(
        &[
            "websocket_echo;",
            "websocket_max_message 1m; websocket_max_frame 2m;",
        ],
        "\"websocket_max_frame\" 2m is more than \"websocket_max_message\" 1m",
    );
    is_quiet(
        conf().http("websocket_max_message 1m; websocket_max_frame 1m;"),
        &["websocket_echo;", "websocket_max_message 10k;"],
    );
}

/// This holds for either order, and for blocks within the location.
#[test]
fn a_location_has_one_content_handler() {
    let others = ["proxy_pass http://127.0.0.1:1;", "empty_gif;"];
    let ours = [
        "websocket_subscribe foo;",
        "websocket_psubscribe foo.*;",
        "websocket_publish foo;",
        "websocket_echo;",
        "websocket_publisher foo;",
        "websocket_status;",
    ];
    for other in others {
        for our in ours {
            let directive = our.split([' ', ';']).next().unwrap();
            let conflict = format!("\"{directive}\" directive conflicts with another one");
            fails(
                &[other, our],
                &format!(
                    "{conflict} that answers requests, such as \"proxy_pass\", in the same location @1"
                ),
            );
            fails(
                &[our, other],
                &format!(
                    "{conflict} that answers requests, such as \"proxy_pass\", in the same location @0"
                ),
            );
        }
        // Each has a block of its own. `empty_gif` is not allowed in an `if`.
        if other != "empty_gif;" {
            fails(
                &[other, "if ($arg_x) {", "websocket_echo;", other, "}"],
                "\"websocket_echo\" directive conflicts with another one",
            );
            is_quiet(conf(), &[other, "if ($arg_x) {", "websocket_echo;", "}"]);
            is_quiet(conf(), &["websocket_echo;", "if ($arg_x) {", other, "}"]);
        }
        for (outer, inner) in [(other, "websocket_echo;"), ("websocket_echo;", other)] {
            is_quiet(conf(), &[outer, "location /x/y {", inner, "}"]);
        }
    }
    fails(
        &["websocket_echo;", "websocket_publisher foo;"],
        "\"websocket_publisher\" directive conflicts with \"websocket_subscribe\" in the same location @1",
    );
}

#[test]
fn a_wildcard_or_a_comma_in_a_channel_is_told() {
    for directive in [
        "websocket_subscribe",
        "websocket_publish",
        "websocket_publisher",
    ] {
        for name in ["news.*", "user?", "[ab]", "$arg_a:*"] {
            let line = format!("{directive} '{name}';");
            warns(&["", &line], "patterns are for \"websocket_psubscribe\" @1");
        }
    }
    warns(
        &["websocket_subscribe", "foo,bar;"],
        "\"foo,bar\" in \"websocket_subscribe\" directive is one name with a comma in it, several \
         are separated by spaces @1",
    );
    warns(
        &["websocket_psubscribe a.*,b.*;"],
        "is one name with a comma in it",
    );
    warns(
        &["websocket_publish foo,bar;"],
        "is one name with a comma in it",
    );
    is_quiet(
        conf(),
        &["websocket_subscribe foo bar $arg_a; websocket_psubscribe a* [b]?;"],
    );
    // An operator who means such a name can use a variable.
    is_quiet(
        conf().http("map '' $names { default 'a,b*'; }"),
        &["websocket_subscribe $names;"],
    );
}

#[test]
fn a_name_that_every_request_would_be_refused_for_is_an_error() {
    for directive in [
        "websocket_subscribe",
        "websocket_psubscribe",
        "websocket_publish",
        "websocket_publisher",
    ] {
        for (name, cause) in [
            ("", "a channel needs a name"),
            ("ngx_ws_probe:", "\"ngx_ws_probe:\" is reserved"),
            ("ngx_ws_probe:$arg_a", "\"ngx_ws_probe:\" is reserved"),
            ("a\\tb", "a channel's name has no control characters"),
        ] {
            let line = format!("{directive} \"{name}\";");
            fails(
                &["", &line],
                &format!("in \"{directive}\" directive, {cause}"),
            );
        }
    }
    let long = format!("websocket_subscribe {};", "x".repeat(513));
    fails(&[&long], "a channel's name has at most 512 bytes @0");
    is_quiet(conf(), &[&long.replacen('x', "", 1)]);
}

#[test]
fn settings_that_nothing_uses_are_told() {
    for (setting, missing) in [
        (
            "websocket_redis redis://127.0.0.1;",
            "\"websocket_publisher\"",
        ),
        ("websocket_max_message 1m;", "\"websocket_echo\""),
        ("websocket_timeout 5m;", "\"websocket_echo\""),
        ("websocket_subprotocol chat;", "\"websocket_echo\""),
        ("websocket_origin any;", "\"websocket_publisher\""),
        (
            "websocket_gap keep;",
            "\"websocket_subscribe\" or \"websocket_psubscribe\"",
        ),
        ("websocket_deflate on;", "\"websocket_echo\""),
        ("websocket_deflate_level 5;", "\"websocket_deflate on\""),
    ] {
        let directive = setting.split(' ').next().unwrap();
        let line = format!("\"{directive}\" directive has no effect without ");
        for other in ["", "return 204;", "websocket_status;"] {
            let (is_fine, said) = judged(conf(), &[other, setting]);
            let is_told = is_fine && said.len() == 1 && said[0].starts_with("nginx: [warn] ");
            let text = said.concat();
            let is_told =
                is_told && text.contains(&line) && text.ends_with(&format!("{missing} @1"));
            assert!(is_told, "{other} {setting}: {said:#?}");
        }
    }
    for setting in [
        "websocket_envelope json;",
        "websocket_slow latest;",
        "websocket_gap keep;",
    ] {
        warns(
            &["websocket_echo;", "", setting],
            "has no effect without \"websocket_subscribe\" or \"websocket_psubscribe\" @2",
        );
    }
    for setting in [
        "websocket_deflate_min_length 1k;",
        "websocket_deflate_window 10;",
    ] {
        warns(
            &["websocket_subscribe foo;", setting],
            "has no effect without \"websocket_deflate on\" @1",
        );
        warns(
            &["websocket_echo; websocket_deflate off;", "", setting],
            "has no effect without \"websocket_deflate on\" @2",
        );
    }
}

/// This also holds above all locations, where it looks as if it turned compression on.
#[test]
fn a_detail_of_deflate_without_deflate_is_told() {
    let conf = conf().http("websocket_deflate_level 9;");
    let (is_fine, text) = conf.clone().location("/x", "websocket_echo;").check();
    let line = conf.line_of("websocket_deflate_level");
    let warning = "[warn]";
    assert!(is_fine && text.contains(warning), "{text}");
    assert!(text.contains(&format!("nginx.conf:{line}")), "{text}");
    is_quiet(conf, &["websocket_echo; websocket_deflate on;"]);
}

#[test]
fn settings_above_what_they_are_for_are_no_mistake() {
    let defaults = "websocket_max_message 1m; websocket_origin any; websocket_gap keep; \
        websocket_envelope json; websocket_deflate off; websocket_ping_interval 20s;";
    is_quiet(
        conf().http(defaults).server(defaults),
        &["websocket_status;"],
    );
    // Set in a location, used in a nested one.
    is_quiet(
        conf(),
        &[defaults, "location /x/y {", "websocket_subscribe foo;", "}"],
    );
    is_quiet(
        conf(),
        &[
            "websocket_deflate_level 9;",
            "location /x/y {",
            "websocket_echo; websocket_deflate on; }",
        ],
    );
    is_quiet(
        conf(),
        &[
            "websocket_subscribe foo;",
            "limit_except GET {",
            "deny all; }",
        ],
    );
}

/// The settings in a file that several locations include are unused only if none of these uses
/// them.
#[test]
fn a_shared_file_of_settings_is_used_by_whoever_uses_it() {
    let shared = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        shared.path(),
        "websocket_deflate_level 5;\nwebsocket_envelope json;\nwebsocket_max_frame 1k;\n",
    )
    .unwrap();
    let include = format!("include {};", shared.path().display());
    let conf = conf().location("/a", &format!("websocket_echo; {include}"));
    let (is_fine, text) = conf.check();
    let place = |line| format!("{}:{line}", shared.path().display());
    assert!(
        is_fine && text.contains(&place(1)) && text.contains(&place(2)),
        "{text}"
    );
    assert!(!text.contains(&place(3)), "{text}");
    is_quiet(
        conf,
        &["websocket_subscribe foo; websocket_deflate on;", &include],
    );
}

/// Each line is reported once, however often its file is included.
#[test]
fn a_shared_line_is_told_once() {
    let shared = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        shared.path(),
        "websocket_subscribe foo,bar;\nwebsocket_deflate_level 5;\nwebsocket_timeout 20s;\n",
    )
    .unwrap();
    let include = format!("include {};", shared.path().display());
    let (is_fine, text) = conf()
        .location("/a", &include)
        .location("/b", &include)
        .check();
    let told = text.lines().filter(|line| is_loud(line)).count();
    assert!(is_fine && told == 3, "{text}");
}

#[test]
fn what_needs_redis_names_its_own_line() {
    for (lines, directive) in [
        (
            ["websocket_subscribe foo;", "websocket_publish foo;"],
            "websocket_subscribe",
        ),
        (["websocket_psubscribe foo.*;", ""], "websocket_psubscribe"),
        (["websocket_publish foo;", ""], "websocket_publish"),
        (["websocket_publisher foo;", ""], "websocket_publisher"),
    ] {
        let lines = ["", lines[0], lines[1], "", ""];
        let (is_fine, said) = judged(Conf::new(), &lines);
        let line =
            format!("\"{directive}\" needs a \"websocket_redis\" directive here or above @1");
        assert!(
            !is_fine && said.len() == 1 && said[0].ends_with(&line),
            "{said:?}"
        );
    }
}

#[test]
fn the_examples_and_the_readme_give_no_warning() {
    let examples = std::fs::read_dir(settings::examples()).expect("nginx-conf");
    let names = examples.map(|entry| entry.expect("an entry").file_name().into_string().unwrap());
    let ours = ["nginx.conf", "tls.conf"];
    let uses: Vec<String> = names
        .filter(|name| name.ends_with(".conf") && !ours.contains(&name.as_str()))
        .collect();
    assert!(uses.len() >= 5, "{uses:?}");
    let all = uses.iter().fold(conf(), |conf, name| conf.example(name));
    is_quiet(all, &["return 204;"]);
    let readme = std::fs::read_to_string(settings::examples().join("../README.md")).unwrap();
    let block = readme.split("```nginx\n").nth(1).expect("a configuration");
    let http = block.split("http {").nth(1).expect("http");
    let http = &http[..http.find("```").expect("its end")].trim_end();
    let http = http.strip_suffix("}").expect("the end of http");
    is_quiet(
        Conf::new().http(&http.replace(
            "listen 8080",
            &format!("listen 127.0.0.1:{}", t::ports::free()),
        )),
        &["return 204;"],
    );
}
