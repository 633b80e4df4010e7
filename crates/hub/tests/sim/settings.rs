//! Configurations that a world is drawn from, and the requests to their locations.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use fanout::{NameKind, SlowPolicy};
use hub::answer::Text;
use hub::settings::{Drain, Gap, Location, Main, Service, Subscription, Template};
use proto::payload::Envelope;
use proto::redis::url;
use proto::websocket::close::CloseCode;

use crate::random::Random;

/// The number of configurations.
pub const PROFILES: u64 = 48;

/// Virtual Redis servers per configuration.
pub const SERVERS: usize = 2;

/// Channels that clients name.
pub const CHANNELS: [&str; 5] = ["a", "b", "c", "p.1", "p.2"];

/// One configuration.
pub struct Profile {
    pub main: &'static Main,

    /// Memory is so short that clients may be treated for it.
    pub is_tight: bool,
    /// Messages are large.
    pub is_heavy: bool,
    asks: Vec<&'static Ask>,
}

/// A possible request, with all its names evaluated.
pub struct Ask {
    pub main: &'static Main,
    pub location: &'static Location,
    pub is_post: bool,
    pub headers: Vec<(&'static str, String)>,
    pub query: Vec<u8>,
    channel: &'static str,
}

impl Ask {
    /// The channel is the only variable that a template may have.
    pub fn evaluate(&self, template: Template) -> Text {
        match template.has_variables {
            true => Text::from_slice(self.channel.as_bytes()),
            false => Text::from_slice(template.text),
        }
    }

    /// What a client of this request listens to: channels, then patterns, in their order.
    pub fn names(&self) -> Vec<(NameKind, Vec<u8>)> {
        let subscriptions = self.location.subscriptions.iter();
        let mut names: Vec<(NameKind, Vec<u8>)> = subscriptions
            .map(|wanted| (wanted.kind, self.evaluate(wanted.name).to_vec()))
            .collect();
        names.sort_by_key(|(kind, name)| (*kind == NameKind::Pattern, name.clone()));
        names.dedup();
        names
    }

    pub fn server(&self) -> usize {
        usize::from(self.location.redis.unwrap_or(0))
    }
}

fn literal(text: &'static str) -> Template {
    Template {
        text: text.as_bytes(),
        has_variables: false,
        number: 0,
    }
}

const VARIABLE: Template = Template {
    text: b"$channel",
    has_variables: true,
    number: 1,
};

fn to(name: Template) -> Subscription {
    Subscription {
        kind: NameKind::Channel,
        name,
    }
}

fn pattern(text: &'static str) -> Subscription {
    Subscription {
        kind: NameKind::Pattern,
        name: literal(text),
    }
}

/// The configuration of this number. It never changes.
pub fn profile(number: u64) -> &'static Profile {
    static KNOWN: LazyLock<Mutex<HashMap<u64, &'static Profile>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("nobody panics here");
    known
        .entry(number % PROFILES)
        .or_insert_with(|| Box::leak(Box::new(draw(number % PROFILES))))
}

fn draw(number: u64) -> Profile {
    let random = &mut Random::new(number);
    let is_tight = number % 4 == 1;
    let is_heavy = number % 8 == 7;
    let brokers = (0..SERVERS).map(|server| {
        Arc::new(url::parse(&format!("redis://10.0.0.{server}")).expect("a good url"))
    });
    let main: &'static Main = Box::leak(Box::new(Main {
        brokers: brokers.collect(),
        memory: Some(if is_tight {
            random.pick(&[40_000, 120_000, 300_000])
        } else {
            64 << 20
        }),
        max_pending: Some(random.pick(&[1000, 8])),
        arguments: vec![b"channel".to_vec()],
        logs_the_end: random.once_in(2),
        names_channels: random.once_in(3),
        ..Main::default()
    }));
    let locations = draw_locations(random, is_tight, is_heavy);
    let asks = asks(main, &locations);
    Profile {
        main,
        is_tight,
        is_heavy,
        asks,
    }
}

/// The kinds of locations. The rest of each is drawn.
fn kinds() -> Vec<Location> {
    let of = |subscriptions| Location {
        subscriptions,
        ..Location::default()
    };
    let one = || of(vec![to(VARIABLE)]);
    let with = |mut location: Location, change: fn(&mut Location)| {
        change(&mut location);
        location
    };
    let [a, b, c] = ["a", "b", "c"].map(|name| to(literal(name)));
    let (some, all) = (pattern("p.*"), pattern("*"));
    vec![
        one(),
        of(vec![a, b, to(VARIABLE)]),
        of(vec![some, to(VARIABLE)]),
        of(vec![some, all]),
        with(of(vec![to(VARIABLE), a]), |location| {
            location.slow = Some(SlowPolicy::DropOldest)
        }),
        with(of(vec![to(VARIABLE), b, c, some]), |location| {
            location.slow = Some(SlowPolicy::Latest)
        }),
        with(of(vec![]), |location| location.echo = true),
        with(one(), |location| location.echo = true),
        with(one(), |location| location.publish = Some(VARIABLE)),
        with(of(vec![]), |location| location.publish = Some(VARIABLE)),
        with(one(), |location| location.gap = Some(Gap::Keep)),
        with(one(), |location| location.envelope = Some(Envelope::Redis)),
        with(of(vec![]), |location| {
            location.publisher = Some(VARIABLE);
            location.service = Some(Service::Publisher);
        }),
    ]
}

fn draw_locations(random: &mut Random, is_tight: bool, is_heavy: bool) -> Vec<&'static Location> {
    let mut kinds = kinds();
    for location in &mut kinds {
        location.service.get_or_insert(Service::WebSocket);
        location.redis = Some(u16::from(random.once_in(4)));
        location.send_queue = Some(match is_heavy || is_tight {
            true => 4 << 20,
            false => random.pick(&[3_000, 20_000, 100_000]),
        });
        location.deflate = Some(random.once_in(2));
        location.deflate_min_length = Some(random.pick(&[1, 256]));
        location.deflate_takeover = Some(random.pick(&[0, 9, 15]));
        location.ping_interval = Some(random.pick(&[0, 1_000, 30_000]));
        location.timeout = Some(random.pick(&[0, 3_000, 60_000]));
        location.drain = Some(Drain {
            over: random.pick(&[0, 1_000, 4_000]),
            code: random.pick(&[CloseCode::SERVICE_RESTART, CloseCode::GOING_AWAY]),
        });
        location.max_message = Some(random.pick(&[5_000, 64 << 10]));
        if location.gap.is_none() && random.once_in(4) {
            location.gap = Some(Gap::Close(CloseCode::GOING_AWAY));
        }
    }
    let leaked = kinds
        .into_iter()
        .map(|location| Box::leak(Box::new(location)));
    leaked.map(|location| &*location).collect()
}

/// The requests: what a browser sends, and which extensions it offers.
fn asks(main: &'static Main, locations: &[&'static Location]) -> Vec<&'static Ask> {
    const OFFERS: [Option<&str>; 4] = [
        None,
        Some("permessage-deflate; client_max_window_bits"),
        Some("permessage-deflate; client_no_context_takeover"),
        Some("permessage-deflate; server_max_window_bits=9"),
    ];
    let mut asks = Vec::new();
    for &location in locations {
        for channel in CHANNELS {
            for offer in OFFERS {
                let mut headers = vec![
                    ("Host", "example.com".to_owned()),
                    ("Connection", "keep-alive, Upgrade".to_owned()),
                    ("Upgrade", "websocket".to_owned()),
                    ("Sec-WebSocket-Version", "13".to_owned()),
                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
                ];
                headers.extend(offer.map(|offer| ("Sec-WebSocket-Extensions", offer.to_owned())));
                asks.push(&*Box::leak(Box::new(Ask {
                    main,
                    location,
                    is_post: location.publisher.is_some(),
                    headers,
                    query: format!("channel={channel}").into_bytes(),
                    channel,
                })));
            }
        }
    }
    asks
}

impl Profile {
    /// The request of this number.
    pub fn ask(&self, number: u32) -> &'static Ask {
        self.asks[number as usize % self.asks.len()]
    }
}
