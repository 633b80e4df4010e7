//! From the bytes of Redis's pushes to the bytes for each client.

use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use fanout::{
    ChannelId, ClientId, FlushResult, FormatId, Listeners, NameKind, Registry, SlowClass,
    SlowPolicy,
};
use proto::framing::MessageFormat;
use proto::payload::Message;
use proto::redis::{self, Event, Link, Role, url};

/// The payload of a message.
const BYTES: usize = 128;

/// In each round `messages` pushes are read at once, and offered to `clients` that keep up.
pub fn run(clients: u32, messages: usize, rounds: usize) {
    let mut registry = Registry::new();
    let channel = registry.channel(0, NameKind::Channel, b"foo");
    let class = SlowClass {
        send_queue: 1 << 20,
        policy: SlowPolicy::Close,
    };
    for client in 0..clients {
        let socket = client as i32;
        registry.join(
            ClientId(client),
            socket,
            &[channel],
            FormatId(0),
            class,
            false,
        );
        registry.unmute(ClientId(client));
    }
    let mut link = subscriber(channel.0);
    let payload = "x".repeat(BYTES);
    let push = format!("*3\r\n$7\r\nmessage\r\n$3\r\nfoo\r\n${BYTES}\r\n{payload}\r\n");
    let pushes = push.repeat(messages);
    let (mut flushed, mut offered) = (FlushResult::default(), 0);
    for _ in 0..rounds {
        receive(&mut link, pushes.as_bytes());
        publish(&mut link, &mut registry);
        while let Some(feed) = registry.next_dirty() {
            while let Some(batch) = registry.next_batch(feed, 1_000, &mut flushed) {
                for socket in batch.sockets {
                    black_box(*socket);
                    offered += batch.bytes.len();
                }
                let tried = batch.sockets.len();
                registry.completed(feed, tried, &mut [], &mut flushed);
            }
        }
        flushed.clear();
    }
    let frame = BYTES + 4;
    assert_eq!(offered, rounds * messages * clients as usize * frame);
}

/// Does what the module's `worker::links` does.
fn publish(link: &mut Link, registry: &mut Registry) {
    while let Some(event) = link.next_event() {
        let Event::Message {
            channel,
            name,
            payload,
            ..
        } = event
        else {
            continue;
        };
        let id = ChannelId(channel);
        registry.publish_each(id, |listeners| note(listeners, name, payload));
        if link.holds_more() {
            registry.publish_each(id, |listeners| {
                link.each_of(channel, |name, payload| note(listeners, name, payload));
            });
        }
    }
}

fn note(listeners: &mut Listeners<'_>, name: &[u8], payload: &[u8]) {
    let mut utf8 = None;
    // As in the worker's `Encoders`, a panic costs only the message.
    let published = listeners.note(|_, out: &mut Vec<u8>| {
        let message = Message {
            channel: name,
            pattern: None,
            payload,
        };
        let append = || MessageFormat::default().append(message, &mut utf8, out);
        panic::catch_unwind(AssertUnwindSafe(append)).is_ok_and(|appended| appended.is_ok())
    });
    black_box(published);
}

/// A link that is up and subscribed to `foo`.
fn subscriber(channel: u32) -> Link {
    let server = Arc::new(url::parse("redis://127.0.0.1").expect("a valid address"));
    let mut link = Link::new(Role::Subscriber, server, 1);
    link.handle_timeout(0);
    while link.next_event().is_some() {}
    link.handle_connected(0);
    link.subscribe(redis::SubscriptionKind::Channel, b"foo", channel, 0);
    let asked = converse(&mut link, "+PONG\r\n+OK\r\n");
    let names = asked
        .split("\r\n")
        .filter(|word| word.starts_with("ngx_ws_probe:") || *word == "foo");
    for name in names {
        let length = name.len();
        let confirmed = format!("*3\r\n$9\r\nsubscribe\r\n${length}\r\n{name}\r\n:1\r\n");
        converse(&mut link, &confirmed);
    }
    link
}

/// Feeds the link what the server says, and returns what the link wants to send.
fn converse(link: &mut Link, said: &str) -> String {
    receive(link, said.as_bytes());
    while link.next_event().is_some() {}
    let asked = String::from_utf8_lossy(link.output()).into_owned();
    link.handle_written(asked.len(), 0);
    asked
}

fn receive(link: &mut Link, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let room = link.read_buf();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        link.handle_read(count, 0);
        bytes = &bytes[count..];
        assert!(bytes.is_empty(), "a round fits into one read");
    }
}
