//! What is agreed to (RFC 7692, 5 and 7.1): header, settings, answer.

use proto::websocket::deflate::Settings;

use crate::support::negotiate;

const PLAIN: Settings = Settings {
    server_window_bits: 15,
    client_window_bits: None,
};
const SMALL: Settings = Settings {
    server_window_bits: 10,
    client_window_bits: None,
};
const TAKEOVER: Settings = Settings {
    server_window_bits: 15,
    client_window_bits: Some(15),
};
const SMALL_TAKEOVER: Settings = Settings {
    server_window_bits: 15,
    client_window_bits: Some(11),
};

/// `answer` is what follows `permessage-deflate; server_no_context_takeover`.
#[track_caller]
fn check(cases: &[(&str, &str, Settings, Option<&str>)]) {
    let mut failures = Vec::new();
    for (rule, offers, settings, answer) in cases {
        let want =
            answer.map(|answer| format!("permessage-deflate; server_no_context_takeover{answer}"));
        let got = negotiate(offers, settings).map(|agreed| agreed.to_string());
        if got != want {
            failures.push(format!("{rule}: {offers}: {got:?}, not {want:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

const NO_TAKEOVER: Option<&str> = Some("; client_no_context_takeover");

#[test]
fn every_parameter_is_answered_to_the_letter() {
    check(&[
        ("7.1 bare", "permessage-deflate", PLAIN, NO_TAKEOVER),
        (
            "7.1.1.1",
            "permessage-deflate; server_no_context_takeover",
            PLAIN,
            NO_TAKEOVER,
        ),
        (
            "7.1.1.2",
            "permessage-deflate; client_no_context_takeover",
            PLAIN,
            NO_TAKEOVER,
        ),
        (
            "7.1.1.2 a client that wants none has none",
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
            TAKEOVER,
            NO_TAKEOVER,
        ),
        (
            "7.1.2.1 a limit is answered, also the widest",
            "permessage-deflate; server_max_window_bits=15",
            PLAIN,
            Some("; server_max_window_bits=15; client_no_context_takeover"),
        ),
        (
            "7.1.2.1",
            "permessage-deflate; server_max_window_bits=10",
            PLAIN,
            Some("; server_max_window_bits=10; client_no_context_takeover"),
        ),
        (
            "7.1.2.1 quoted",
            "permessage-deflate; server_max_window_bits=\"9\"",
            PLAIN,
            Some("; server_max_window_bits=9; client_no_context_takeover"),
        ),
        (
            "7.1.2.1 ours may be smaller",
            "permessage-deflate; server_max_window_bits=12",
            SMALL,
            Some("; server_max_window_bits=10; client_no_context_takeover"),
        ),
        (
            "7.1.2.1 ours is told unasked",
            "permessage-deflate",
            SMALL,
            Some("; server_max_window_bits=10; client_no_context_takeover"),
        ),
        (
            "7.1.2.2 a hint without value, nothing to limit",
            "permessage-deflate; client_max_window_bits",
            PLAIN,
            NO_TAKEOVER,
        ),
        (
            "7.1.2.2 8 is for the client to keep",
            "permessage-deflate; client_max_window_bits=8",
            PLAIN,
            NO_TAKEOVER,
        ),
        (
            "7.1.2.2 must not be answered if not offered",
            "permessage-deflate",
            TAKEOVER,
            Some(""),
        ),
        (
            "7.1.2.2 more than is granted, and no way to limit it",
            "permessage-deflate",
            SMALL_TAKEOVER,
            NO_TAKEOVER,
        ),
        (
            "7.1.2.2",
            "permessage-deflate; client_max_window_bits",
            TAKEOVER,
            Some("; client_max_window_bits=15"),
        ),
        (
            "7.1.2.2",
            "permessage-deflate; client_max_window_bits",
            SMALL_TAKEOVER,
            Some("; client_max_window_bits=11"),
        ),
        (
            "7.1.2.2 the smaller of both",
            "permessage-deflate; client_max_window_bits=9",
            SMALL_TAKEOVER,
            Some("; client_max_window_bits=9"),
        ),
        (
            "7.1.2.2 the smaller of both",
            "permessage-deflate; client_max_window_bits=13",
            SMALL_TAKEOVER,
            Some("; client_max_window_bits=11"),
        ),
    ]);
}

#[test]
fn the_first_acceptable_offer_wins() {
    check(&[
        (
            "7.1.3 falls back to the second",
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            PLAIN,
            NO_TAKEOVER,
        ),
        (
            "7.1.3 takes the first",
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
             permessage-deflate; client_max_window_bits",
            PLAIN,
            Some("; server_max_window_bits=10; client_no_context_takeover"),
        ),
        (
            "9.1 passes over what it doesn't know",
            "x-webkit-deflate-frame, permessage-bzip2; x=1, permessage-deflate",
            PLAIN,
            NO_TAKEOVER,
        ),
        (
            "7.1 passes over what is wrong",
            "permessage-deflate; x, permessage-deflate; server_max_window_bits=9",
            PLAIN,
            Some("; server_max_window_bits=9; client_no_context_takeover"),
        ),
    ]);
}

#[test]
fn invalid_offers_are_declined() {
    let declined = [
        "x-webkit-deflate-frame",
        "permessage-deflated",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=true",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=1",
        "permessage-deflate; server_max_window_bits=150",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=9; client_max_window_bits",
    ];
    for offers in declined {
        for settings in [PLAIN, SMALL, TAKEOVER, SMALL_TAKEOVER] {
            assert_eq!(negotiate(offers, &settings), None, "{offers}");
        }
    }
}

#[test]
fn what_must_be_kept_is_what_was_answered() {
    for (offers, settings, server, keeps) in [
        ("permessage-deflate", PLAIN, 15, false),
        ("permessage-deflate", SMALL, 10, false),
        (
            "permessage-deflate; server_max_window_bits=9",
            SMALL,
            9,
            false,
        ),
        ("permessage-deflate", TAKEOVER, 15, true),
        ("permessage-deflate", SMALL_TAKEOVER, 15, false),
        (
            "permessage-deflate; client_max_window_bits",
            SMALL_TAKEOVER,
            15,
            true,
        ),
    ] {
        let agreed = negotiate(offers, &settings).expect(offers);
        assert_eq!(agreed.server_window_bits(), server, "{offers}");
        assert_eq!(agreed.history().is_some(), keeps, "{offers}");
    }
}
