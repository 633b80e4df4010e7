//! The services of the tutorials, as the examples in nginx-conf/ configure them: push, echo, chat,
//! and request and response.

use serde_json::{Value, json};
use t::{Client, Conf, Nginx, Redis, Request, SumWorker, Transport};
use tungstenite::Message;

/// nginx with one example from the checkout.
fn example(redis: &Redis, name: &str) -> Nginx {
    Nginx::start(Conf::with(redis).example(name))
}

#[test]
fn push_as_it_is_as_redis_says_it_and_as_json() {
    let redis = Redis::start();
    let nginx = example(&redis, "push.conf");
    for transport in Transport::BOTH {
        let mut plain = Client::connect_over(&nginx, transport, "/ws?channel=foo");
        let mut array = Client::connect_over(&nginx, transport, "/ws/redis?channel=foo");
        let mut json = Client::connect_over(&nginx, transport, "/ws/json?channel=foo");
        redis.publish("foo", "hello");
        plain.expect(["hello"]);
        array.expect([r#"["message","foo","hello"]"#]);
        let said: Value = serde_json::from_str(&json.text()).unwrap();
        assert_eq!(said, json!({ "channel": "foo", "data": "hello" }));
    }
}

#[test]
fn push_by_post() {
    let redis = Redis::start();
    let nginx = example(&redis, "push.conf");
    let mut client = Client::connect(&nginx, "/ws?channel=foo");
    let answer = nginx.send(&Request::post("/publish?channel=foo", "hello"));
    assert_eq!(
        (answer.status, &answer.json()["redis_receivers"]),
        (200, &json!(1))
    );
    client.expect(["hello"]);
}

#[test]
fn push_of_a_family_of_channels() {
    let redis = Redis::start();
    let nginx = example(&redis, "push.conf");
    let mut client = Client::connect(&nginx, "/ws/news");
    redis.publish("news.sport", "goal");
    let said: Value = serde_json::from_str(&client.text()).unwrap();
    assert_eq!(
        (&said["channel"], &said["data"]),
        (&json!("news.sport"), &json!("goal"))
    );
}

#[test]
fn echo_of_text_binary_and_a_subprotocol() {
    let redis = Redis::start();
    let nginx = example(&redis, "echo.conf");
    let offer = [("Sec-WebSocket-Protocol", "echo")];
    let mut client = Client::try_connect(&nginx, Transport::Ws, "/ws/echo", &offer).unwrap();
    assert_eq!(client.header("Sec-WebSocket-Protocol"), Some("echo"));
    for message in [
        Message::text("Hello"),
        Message::binary(vec![0, 1, 255]),
        Message::text(""),
    ] {
        client.send_message(message.clone());
        assert_eq!(client.message(), message);
    }
    client.close();
}

#[test]
fn chat_reaches_all_in_the_room_and_only_them() {
    let redis = Redis::start();
    let nginx = example(&redis, "chat.conf");
    let mut ada = Client::connect(&nginx, "/ws/chat?room=lobby");
    let mut bob = Client::connect(&nginx, "/ws/chat?room=lobby");
    let mut eve = Client::connect(&nginx, "/ws/chat?room=cellar");
    ada.send(r#"{"name":"Ada","text":"Hi"}"#);
    for listener in [&mut ada, &mut bob] {
        listener.expect([r#"{"name":"Ada","text":"Hi"}"#]);
    }
    eve.send("alone");
    eve.expect(["alone"]);
}

#[test]
fn a_sum_is_answered_to_who_asked() {
    let redis = Redis::start();
    let nginx = example(&redis, "request-response.conf");
    let _worker = SumWorker::start(&redis);
    let mut clients: Vec<_> = (0..20)
        .map(|_| Client::connect(&nginx, "/ws/sum"))
        .collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(&json!({ "a": i, "b": 4 }).to_string());
    }
    for (i, client) in clients.iter_mut().enumerate() {
        let answer: Value = serde_json::from_str(&client.text()).unwrap();
        assert_eq!(answer, json!({ "sum": i + 4 }));
    }
    clients[0].send("nonsense");
    let answer: Value = serde_json::from_str(&clients[0].text()).unwrap();
    assert!(answer["error"].is_string(), "{answer}");
}
