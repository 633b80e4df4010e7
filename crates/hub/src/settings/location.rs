//! Settings of a location.

use fanout::{SlowClass, SlowPolicy};
use proto::framing::{FrameKind, Framing, MessageFormat};
use proto::payload::Envelope;
use proto::websocket::close::CloseCode;
use proto::websocket::connection::Limits;
use proto::websocket::deflate::{Context, Settings};
use proto::websocket::origin::Policy;

use super::values::{Detach, Drain, Gap, Service, Subscription, Template};

crate::declare_directives! {
    /// The directives that say what a location serves.
    pub enum ServiceDirective {
        /// Clients receive these channels.
        Subscribe = c"websocket_subscribe";
        /// Clients receive the channels that match these patterns.
        PSubscribe = c"websocket_psubscribe";
        /// What clients send is published.
        Publish = c"websocket_publish";
        /// What a client sends is sent back.
        Echo = c"websocket_echo";
        /// The body of a POST is published.
        Publisher = c"websocket_publisher";
        /// The worker's counters.
        Status = c"websocket_status";
    }
}

crate::declare_settings! {
    /// Settings of a location. `None` means "not set"; such a value is inherited when
    /// configurations are merged.
    pub struct Location {
        /// What the location serves.
        pub service: Option<Service>,
        /// `websocket_subscribe` and `websocket_psubscribe`.
        pub subscriptions: Vec<Subscription>,
        /// `websocket_publish`.
        pub publish: Option<Template>,
        /// `websocket_publisher`.
        pub publisher: Option<Template>,
        /// `websocket_echo`.
        pub echo: bool,
    }

    /// The directives of all other settings.
    pub enum LocationSetting: inherited {
        /// The server, by its number in `Main::brokers`.
        Redis = c"websocket_redis" => redis: u16;
        /// What a delivered message says besides the payload.
        Envelope = c"websocket_envelope" => envelope: Envelope as word = Envelope::Off;
        /// Which kind of frame carries a delivered message.
        Frame = c"websocket_frame" => frame: FrameKind as word = FrameKind::Auto;
        /// Which browsers' pages may connect.
        Origin = c"websocket_origin" => origin: &'static Policy as origin = &Policy::Same;
        /// The subprotocols, in order of preference.
        Subprotocol = c"websocket_subprotocol" => subprotocols: &'static [String];
        /// Bytes of the largest message that a client may send.
        MaxMessage = c"websocket_max_message" => max_message: u64 as bytes = 64 << 10;
        /// Bytes of the largest frame that a client may send.
        MaxFrame = c"websocket_max_frame" => max_frame: u64 = like max_message;
        /// Bytes that a client may be behind.
        SendQueue = c"websocket_send_queue" => send_queue: u64 as bytes = 1 << 20;
        /// What happens to a client that is further behind.
        Slow = c"websocket_slow" => slow: SlowPolicy as word = SlowPolicy::Close;
        /// Unsent bytes that the kernel may hold for a client; 0 leaves the system's limit.
        Notsent = c"websocket_notsent" => notsent: usize as bytes = 64 << 10;
        /// Milliseconds of silence before a ping; 0 turns pings off.
        PingInterval = c"websocket_ping_interval" => ping_interval: u64 as time = 30_000;
        /// Milliseconds of silence before a client is considered dead; 0 turns this off.
        Timeout = c"websocket_timeout" => timeout: u64 as time = 60_000;
        /// What happens to clients that may have missed messages.
        Gap = c"websocket_gap" => gap: Gap as text = Gap::Close(CloseCode::SERVICE_RESTART);
        /// How clients are closed when the worker is about to exit.
        Drain = c"websocket_drain" => drain: Drain as text = Drain {
            over: 4_000,
            code: CloseCode::SERVICE_RESTART,
        };
        /// Whether a client's request may be freed.
        Detach = c"websocket_detach" => detach: Detach as word = Detach::Auto;
        /// Whether permessage-deflate is accepted.
        Deflate = c"websocket_deflate" => deflate: bool as word = false;
        /// zlib's level.
        DeflateLevel = c"websocket_deflate_level" => deflate_level: u8 as text = 3;
        /// The least size in bytes of a message that is compressed.
        DeflateMinLength = c"websocket_deflate_min_length" => deflate_min_length: usize as bytes = 256;
        /// The largest window towards clients, in bits.
        DeflateWindow = c"websocket_deflate_window" => deflate_window: u8 as text = 15;
        /// The window that is kept of each client's messages, in bits; 0 keeps none.
        DeflateTakeover = c"websocket_deflate_takeover" => deflate_takeover: u8 as text = 15;
    }
}

impl Location {
    /// Whether what clients send is used: echoed or published.
    pub fn takes_messages(&self) -> bool {
        self.echo || self.publish.is_some()
    }

    /// The framing in which its clients receive messages.
    pub fn framing(&self) -> Framing {
        Framing::WebSocket(self.frame())
    }

    /// The format in which its clients receive messages.
    pub fn message_format(&self) -> MessageFormat {
        MessageFormat {
            envelope: self.envelope(),
            framing: self.framing(),
        }
    }

    /// What a client may send.
    pub fn limits(&self) -> Limits {
        Limits {
            max_message: self.max_message(),
            max_frame: self.max_frame(),
        }
    }

    /// How far a client may be behind, and what happens beyond that.
    pub fn slow_class(&self) -> SlowClass {
        SlowClass {
            send_queue: self.send_queue(),
            policy: self.slow(),
        }
    }

    /// The close code for its clients that are told of a gap.
    pub fn gap_code(&self) -> CloseCode {
        match self.gap() {
            Gap::Close(code) => code,
            Gap::Keep => CloseCode::SERVICE_RESTART,
        }
    }

    /// What may be agreed about permessage-deflate; `None` to decline it.
    pub fn deflate_settings(&self) -> Option<Settings> {
        self.deflate().then(|| Settings {
            server_window_bits: self.deflate_window(),
            context: match self.deflate_takeover() {
                _ if !self.takes_messages() => Context::Unread,
                0 => Context::Nothing,
                bits => Context::Window(bits),
            },
        })
    }

    /// Inherits from `parent` what is not set here. What the location serves, with all its parts,
    /// is inherited only `within` a location (`if`, `limit_except`), and only by a block that
    /// serves nothing of its own. As with `proxy_pass`, a location within a location starts anew.
    pub fn inherit(&mut self, parent: &Location, within: bool) {
        self.inherit_settings(parent);
        if within && self.service.is_none() {
            self.serve_as(parent);
        }
    }

    /// Sets what the location serves.
    ///
    /// # Errors
    /// The location already serves something else: the text for `nginx -t`.
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
