//! Python's `websockets`: a client by other authors in another language. The dialogues are in
//! python_client.py, one function each; this file runs them.

use std::path::Path;
use std::process::Command;
use t::{Conf, Nginx, Redis, Transport, settings};

fn run(dialogue: &str, transport: Transport) {
    let redis = Redis::start();
    let conf = Conf::push(&redis)
        .http("websocket_max_message 64k;")
        .location("/echo", "websocket_echo; websocket_subprotocol chat;")
        .location(
            "/packed",
            "websocket_echo; websocket_subscribe packed; websocket_deflate on; \
             websocket_deflate_min_length 32;",
        )
        .location(
            "/taken",
            "websocket_echo; websocket_deflate on; websocket_deflate_takeover 12;",
        )
        .location("/room", "websocket_subscribe room; websocket_publish room;");
    let nginx = Nginx::start(conf);
    let base = match transport {
        Transport::Ws => format!("ws://localhost:{}", nginx.http().port()),
        Transport::Wss => format!("wss://localhost:{}", nginx.https().port()),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python_client.py");
    let output = Command::new(settings::python())
        .arg(script)
        .args([dialogue, &base, &redis.port().to_string()])
        .arg(&t::certificate().certificate)
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{dialogue} over {transport:?}:\n{said}"
    );
}

macro_rules! dialogues {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            for transport in Transport::BOTH {
                run(stringify!($name), transport);
            }
        }
    )*};
}

dialogues! {
    what_is_published_after_open_is_heard
    text_and_binary_come_back
    fragments_come_back_as_one_message
    pings_are_answered
    compressed_messages_come_back
    compressed_messages_are_heard_by_all
    a_context_is_taken_over_within_its_limit
    a_bomb_is_told
    codes_and_reasons_are_told
    too_big_a_message_is_told
    a_subprotocol_is_chosen
    refusals_have_their_status
    many_talk_in_a_room
}
