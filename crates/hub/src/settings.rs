//! What the configuration says of a location and of the whole worker, as plain values.

use std::sync::Arc;

use fanout::{SlowClass, SlowPolicy};
use proto::envelope::{Envelope, FrameKind, Wire};
use proto::redis::Server;
use proto::websocket::close::CloseCode;
use proto::websocket::connection::Limits;
use proto::websocket::deflate::{Context, Settings};
use proto::websocket::origin::Policy;

/// Longest name of a channel, in bytes.
pub const MAX_CHANNEL: usize = 512;

/// Whether a client's request may be freed while its connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Unless another module needs the request.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A name with variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// As written, its variables unevaluated.
    pub text: &'static [u8],
    /// It names variables: its value differs between requests.
    pub has_variables: bool,
    /// What the outside knows it by.
    pub number: usize,
}

/// Values for the whole worker; `None` is "not set".
#[derive(Default)]
pub struct Main {
    /// Distinct servers, in the order of their first mention.
    pub brokers: Vec<Arc<Server>>,
    /// `websocket_memory`, bytes.
    pub memory: Option<u64>,
    /// `websocket_reserve`, as a fraction of `worker_connections`.
    pub reserve: Option<(u64, u64)>,
    /// `websocket_max_pending`.
    pub max_pending: Option<u64>,
    /// The log asks for what is known only when a client leaves.
    pub logs_the_end: bool,
    /// The log, or anything else, asks for a client's channel.
    pub names_channels: bool,
    /// Each NAME of a `$websocket_arg_NAME` that the configuration has.
    pub arguments: Vec<Vec<u8>>,
}

impl Main {
    /// Bytes a worker may hold for all its clients.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(256 << 20)
    }

    /// Connections out of `total` that stay free for HTTP.
    pub fn reserved(&self, total: usize) -> usize {
        let (part, whole) = self.reserve.unwrap_or((1, 16));
        (total as u64 * part / whole) as usize
    }

    /// Handshakes that may wait for Redis at a time.
    pub fn max_pending(&self) -> usize {
        usize::try_from(self.max_pending.unwrap_or(1000)).unwrap_or(usize::MAX)
    }
}

/// What a location does with its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Takes WebSocket clients.
    WebSocket,
    /// Publishes what is posted.
    Publisher,
    /// Tells the worker's counters.
    Status,
}

/// What clients learn when messages may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Their connection ends with this code; they come back and know.
    Close(CloseCode),
    /// Nothing.
    Keep,
}

/// One argument of `websocket_subscribe` or `websocket_psubscribe`.
#[derive(Clone, Copy)]
pub struct Subscription {
    /// Channel or pattern.
    pub kind: fanout::Kind,
    /// Its name, with variables.
    pub name: Template,
}

/// Values of a location; `None` is "not set", and inherited when configurations are merged.
#[derive(Default)]
pub struct Location {
    /// What the location serves; set by the directives that say so.
    pub service: Option<Service>,
    /// `websocket_redis`: index in [`Main::brokers`].
    pub redis: Option<u16>,
    /// `websocket_subscribe` and `websocket_psubscribe`.
    pub subscriptions: Vec<Subscription>,
    /// `websocket_publish`.
    pub publish: Option<Template>,
    /// `websocket_publisher`.
    pub publisher: Option<Template>,
    /// `websocket_echo`.
    pub echo: bool,
    /// `websocket_envelope`.
    pub envelope: Option<Envelope>,
    /// `websocket_frame`.
    pub frame: Option<FrameKind>,
    /// `websocket_origin`.
    pub origin: Option<&'static Policy>,
    /// `websocket_subprotocol`.
    pub subprotocols: Option<&'static [String]>,
    /// `websocket_max_message`, bytes.
    pub max_message: Option<u64>,
    /// `websocket_max_frame`, bytes.
    pub max_frame: Option<u64>,
    /// `websocket_send_queue`, bytes.
    pub send_queue: Option<u64>,
    /// `websocket_slow`.
    pub slow: Option<SlowPolicy>,
    /// `websocket_notsent`, bytes; 0 leaves the system's.
    pub notsent: Option<u64>,
    /// `websocket_ping_interval`, milliseconds; 0 is off.
    pub ping_interval: Option<u64>,
    /// `websocket_timeout`, milliseconds; 0 is off.
    pub timeout: Option<u64>,
    /// `websocket_gap`.
    pub gap: Option<Gap>,
    /// `websocket_drain`, milliseconds.
    pub drain: Option<u64>,
    /// The close code of `websocket_drain`.
    pub drain_code: Option<CloseCode>,
    /// `websocket_detach`.
    pub detach: Option<Detach>,
    /// `websocket_deflate`.
    pub deflate: Option<bool>,
    /// `websocket_deflate_level`.
    pub deflate_level: Option<u8>,
    /// `websocket_deflate_min_length`, bytes.
    pub deflate_min_length: Option<u64>,
    /// `websocket_deflate_window`, bits.
    pub deflate_window: Option<u8>,
    /// `websocket_deflate_takeover`, bits; 0 is off.
    pub deflate_takeover: Option<u8>,
}

impl Location {
    /// What clients send goes somewhere.
    pub fn takes_messages(&self) -> bool {
        self.echo || self.publish.is_some()
    }

    /// How deliveries look.
    pub fn wire(&self) -> Wire {
        Wire {
            envelope: self.envelope.unwrap_or_default(),
            frame: self.frame.unwrap_or_default(),
        }
    }

    /// Which browsers' pages may connect.
    pub fn origin(&self) -> &Policy {
        self.origin.unwrap_or(&Policy::Same)
    }

    /// What a client may send.
    pub fn limits(&self) -> Limits {
        let max_message = self.max_message.unwrap_or(64 << 10);
        Limits {
            max_message,
            max_frame: self.max_frame.unwrap_or(max_message),
        }
    }

    /// How far a client may be behind, and what then.
    pub fn slow_class(&self) -> SlowClass {
        SlowClass {
            send_queue: self.send_queue.unwrap_or(1 << 20),
            policy: self.slow.unwrap_or(SlowPolicy::Close),
        }
    }

    /// Unsent bytes that the kernel may hold for a client; 0 leaves the system's limit.
    pub fn notsent(&self) -> usize {
        usize::try_from(self.notsent.unwrap_or(64 << 10)).unwrap_or(0)
    }

    /// Milliseconds of silence before a ping; 0 is off.
    pub fn ping_interval(&self) -> u64 {
        self.ping_interval.unwrap_or(30_000)
    }

    /// Milliseconds of silence before a client counts as dead; 0 is off.
    pub fn timeout(&self) -> u64 {
        self.timeout.unwrap_or(60_000)
    }

    /// What a gap does to its clients.
    pub fn gap(&self) -> Gap {
        self.gap.unwrap_or(Gap::Close(CloseCode::SERVICE_RESTART))
    }

    /// The code that those of its clients get who are told of a gap.
    pub fn gap_code(&self) -> CloseCode {
        match self.gap() {
            Gap::Close(code) => code,
            Gap::Keep => CloseCode::SERVICE_RESTART,
        }
    }

    /// Milliseconds over which clients are told to go.
    pub fn drain(&self) -> u64 {
        self.drain.unwrap_or(4_000)
    }

    /// The code they are told to go with.
    pub fn drain_code(&self) -> CloseCode {
        self.drain_code.unwrap_or(CloseCode::SERVICE_RESTART)
    }

    /// Whether a client's request may be freed.
    pub fn detach(&self) -> Detach {
        self.detach.unwrap_or(Detach::Auto)
    }

    /// What may be agreed about permessage-deflate; `None` declines it.
    pub fn deflate(&self) -> Option<Settings> {
        self.deflate.unwrap_or(false).then(|| Settings {
            server_window_bits: self.deflate_window(),
            context: match self.deflate_takeover() {
                _ if !self.takes_messages() => Context::Unread,
                0 => Context::Nothing,
                bits => Context::Window(bits),
            },
        })
    }

    /// zlib's level.
    pub fn deflate_level(&self) -> u8 {
        self.deflate_level.unwrap_or(3)
    }

    /// Bytes that a message must have to be compressed.
    pub fn deflate_min_length(&self) -> usize {
        usize::try_from(self.deflate_min_length.unwrap_or(256)).unwrap_or(usize::MAX)
    }

    /// Bits of the window towards clients, at most.
    pub fn deflate_window(&self) -> u8 {
        self.deflate_window.unwrap_or(15)
    }

    /// Bits of the window that is kept of each client's messages; 0 keeps none.
    pub fn deflate_takeover(&self) -> u8 {
        self.deflate_takeover.unwrap_or(15)
    }

    /// Inherits from `parent` what is not set here. What the location serves, with all its parts, is
    /// inherited only `within` a location (`if`, `limit_except`), and only by a block that serves
    /// nothing of its own: as with `proxy_pass`, a location in a location starts anew.
    pub fn inherit(&mut self, parent: &Location, within: bool) {
        macro_rules! inherit {
            ($($field:ident)*) => { $(self.$field = self.$field.take().or(parent.$field);)* };
        }
        inherit!(
            redis envelope frame origin subprotocols max_message max_frame send_queue slow
            notsent ping_interval timeout gap drain drain_code detach deflate deflate_level deflate_min_length deflate_window
            deflate_takeover
        );
        if within && self.service.is_none() {
            self.service = parent.service;
            self.publish = parent.publish;
            self.publisher = parent.publisher;
            self.echo = parent.echo;
            self.subscriptions.clone_from(&parent.subscriptions);
        }
    }

    /// Notes what the location serves.
    ///
    /// # Errors
    /// It serves something else already: the text for `nginx -t`.
    pub fn serve(&mut self, service: Service) -> Result<(), String> {
        match self.service.replace(service) {
            Some(other) if other != service => {
                let name = match other {
                    Service::WebSocket => "websocket_subscribe",
                    Service::Publisher => "websocket_publisher",
                    Service::Status => "websocket_status",
                };
                Err(format!("conflicts with \"{name}\" in the same location"))
            }
            _ => Ok(()),
        }
    }
}
