//! Negotiation (RFC 7692, 5 and 7.1): header, settings, answer.

use proptest::prelude::*;
use proto::websocket::deflate::{Context, Settings, WINDOW_BITS};

use crate::support::negotiate;

const USUAL: Settings = Settings {
    server_window_bits: 15,
    context: Context::Window(15),
};
const NARROW: Settings = Settings {
    server_window_bits: 12,
    context: Context::Window(15),
};
const LIMITED: Settings = Settings {
    server_window_bits: 15,
    context: Context::Window(11),
};
const NOTHING: Settings = Settings {
    server_window_bits: 15,
    context: Context::Nothing,
};
const UNREAD: Settings = Settings {
    server_window_bits: 15,
    context: Context::Unread,
};

/// A rule, the offer after `permessage-deflate`, the settings, and the answer after
/// `permessage-deflate`, with the window bits towards the client and those of the context that is
/// kept.
type Case = (
    &'static str,
    &'static str,
    Settings,
    Option<(&'static str, u8, u8)>,
);

#[track_caller]
fn check(cases: &[Case]) {
    let mut failures = Vec::new();
    for &(rule, offer, settings, want) in cases {
        let agreed = negotiate(&format!("permessage-deflate{offer}"), &settings);
        let got = agreed.map(|agreed| {
            let answer = agreed.to_string();
            let rest = answer.strip_prefix("permessage-deflate").expect("its name");
            let (server, kept) = (agreed.server_window_bits(), agreed.context_bits());
            (rest.to_owned(), server, kept)
        });
        let want = want.map(|(answer, server, kept)| (answer.to_owned(), server, kept));
        if got != want {
            failures.push(format!("{rule}: {offer}: {got:?}, not {want:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_client_is_answered_what_it_offered_and_no_more() {
    check(&[
        ("7.1 bare", "", USUAL, Some(("", 15, 15))),
        (
            "7.1.1.1 asked for",
            "; server_no_context_takeover",
            USUAL,
            Some(("; server_no_context_takeover", 15, 15)),
        ),
        (
            "7.1.1.2 a client that will not refer to what it said is not kept",
            "; client_no_context_takeover",
            USUAL,
            Some(("; client_no_context_takeover", 15, 0)),
        ),
        (
            "7.1.1 both, and nothing to limit",
            "; client_no_context_takeover; client_max_window_bits; server_no_context_takeover",
            LIMITED,
            Some((
                "; server_no_context_takeover; client_no_context_takeover",
                15,
                0,
            )),
        ),
        (
            "7.1.2.1 a limit is answered, also the widest",
            "; server_max_window_bits=15",
            USUAL,
            Some(("; server_max_window_bits=15", 15, 15)),
        ),
        (
            "7.1.2.1 quoted",
            "; server_max_window_bits=\"9\"",
            USUAL,
            Some(("; server_max_window_bits=9", 9, 15)),
        ),
        (
            "7.1.2.1 a smaller window needs no telling",
            "",
            NARROW,
            Some(("", 12, 15)),
        ),
        (
            "7.1.2.2 an offer to be limited, nothing to limit",
            "; client_max_window_bits",
            USUAL,
            Some(("", 15, 15)),
        ),
        (
            "7.1.2.2 the client keeps its own limit, told or not",
            "; client_max_window_bits=12",
            USUAL,
            Some(("", 15, 12)),
        ),
        (
            "7.1.2.2 8 is the client's to keep",
            "; client_max_window_bits=8",
            LIMITED,
            Some(("", 15, 8)),
        ),
    ]);
}

#[test]
fn a_smaller_context_is_for_those_who_offer_to_be_limited() {
    check(&[
        (
            "7.1.2.2",
            "; client_max_window_bits",
            LIMITED,
            Some(("; client_max_window_bits=11", 15, 11)),
        ),
        (
            "7.1.2.2 the smaller of both",
            "; client_max_window_bits=13",
            LIMITED,
            Some(("; client_max_window_bits=11", 15, 11)),
        ),
        (
            "7.1.2.2 the smaller of both",
            "; client_max_window_bits=9",
            LIMITED,
            Some(("", 15, 9)),
        ),
        ("7.1.2.2 no way to limit it", "", LIMITED, None),
        ("7.1.1.2 no way to forbid it", "", NOTHING, None),
        (
            "7.1.1.2 no way to forbid it",
            "; client_max_window_bits=9",
            NOTHING,
            None,
        ),
        (
            "7.1.1.2 it is offered",
            "; client_no_context_takeover",
            NOTHING,
            Some(("; client_no_context_takeover", 15, 0)),
        ),
    ]);
}

#[test]
fn where_nobody_reads_nothing_is_kept_or_limited() {
    check(&[
        ("bare", "", UNREAD, Some(("", 15, 0))),
        (
            "a limit",
            "; client_max_window_bits",
            UNREAD,
            Some(("", 15, 0)),
        ),
        (
            "all",
            "; client_no_context_takeover; server_max_window_bits=10",
            UNREAD,
            Some((
                "; server_max_window_bits=9; client_no_context_takeover",
                9,
                0,
            )),
        ),
    ]);
}

#[test]
fn a_location_has_two_windows_whatever_clients_ask_for() {
    for settings in [USUAL, NARROW] {
        let own = settings.server_window_bits;
        for asked in 9..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={asked}");
            let agreed = negotiate(&offer, &settings).expect(&offer);
            let bits = agreed.server_window_bits();
            assert_eq!(bits, if asked < own { 9 } else { own }, "{offer}");
            let answer = format!("permessage-deflate; server_max_window_bits={bits}");
            assert_eq!(agreed.to_string(), answer);
        }
    }
}

#[test]
fn the_first_acceptable_offer_wins() {
    for (rule, offers, settings, want) in [
        (
            "7.1.3 falls back to the second",
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            USUAL,
            "permessage-deflate",
        ),
        (
            "7.1.3 takes the first",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            USUAL,
            "permessage-deflate; server_max_window_bits=9",
        ),
        (
            "7.1.3 the first has no way to limit the client",
            "permessage-deflate; server_no_context_takeover, permessage-deflate; client_max_window_bits",
            LIMITED,
            "permessage-deflate; client_max_window_bits=11",
        ),
        (
            "9.1 passes over what it doesn't know",
            "x-webkit-deflate-frame, permessage-bzip2; x=1, permessage-deflate",
            USUAL,
            "permessage-deflate",
        ),
        (
            "7.1 passes over what is wrong",
            "permessage-deflate; x, permessage-deflate; server_max_window_bits=9",
            USUAL,
            "permessage-deflate; server_max_window_bits=9",
        ),
    ] {
        let got = negotiate(offers, &settings).map(|agreed| agreed.to_string());
        assert_eq!(got.as_deref(), Some(want), "{rule}");
    }
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
        for settings in [USUAL, NARROW, LIMITED, NOTHING, UNREAD] {
            assert_eq!(negotiate(offers, &settings), None, "{offers}");
        }
    }
}

/// Names of a header value's parameters, without their values.
fn names(element: &str) -> Vec<&str> {
    element
        .split(';')
        .skip(1)
        .map(|parameter| parameter.split('=').next().unwrap_or_default().trim())
        .collect()
}

fn parameter() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("server_no_context_takeover".to_owned()),
        Just("client_no_context_takeover".to_owned()),
        Just("client_max_window_bits".to_owned()),
        (8u8..=15).prop_map(|bits| format!("client_max_window_bits={bits}")),
        (8u8..=15).prop_map(|bits| format!("server_max_window_bits={bits}")),
    ]
}

fn context() -> impl Strategy<Value = Context> {
    prop_oneof![
        Just(Context::Unread),
        Just(Context::Nothing),
        (9u8..=15).prop_map(Context::Window),
    ]
}

proptest! {
    #[test]
    fn no_answer_has_a_parameter_that_was_not_offered(
        parameters in prop::collection::vec(parameter(), 0..5),
        server_window_bits in 9u8..=15,
        context in context(),
    ) {
        let settings = Settings { server_window_bits, context };
        let offer = [vec!["permessage-deflate".to_owned()], parameters].concat().join("; ");
        let Some(agreed) = negotiate(&offer, &settings) else {
            return Ok(());
        };
        let answer = agreed.to_string();
        let offered = names(&offer);
        for name in names(&answer) {
            prop_assert!(offered.contains(&name), "{} to {}", answer, offer);
        }
        prop_assert!(WINDOW_BITS.contains(&agreed.server_window_bits()));
        prop_assert!([9, server_window_bits].contains(&agreed.server_window_bits()));
        // The context of a client that may refer to earlier messages is kept, unless nobody reads
        // them.
        let forgets = offered.contains(&"client_no_context_takeover");
        let unread = context == Context::Unread;
        prop_assert_eq!(agreed.context_bits() == 0, forgets || unread);
    }
}
