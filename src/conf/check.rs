//! What is wrong with a location as a whole, once it has inherited what it lacks.
//!
//! An error is what cannot work; a warning, what works otherwise than it reads. Both name the line
//! of the directive that says what the location serves: the directives that disagree may stand far
//! apart.

use fanout::NameKind;

use hub::settings::written::{Size, Time};
use hub::settings::{Service, ServiceDirective};

use super::location::Location;
use super::main::Main;

impl Location {
    /// Adds to the warnings what is suspicious.
    ///
    /// # Errors
    /// What cannot work: a line for `nginx -t`, with its place.
    pub(super) fn check(&self, main: &mut Main) -> Result<(), String> {
        let placed = |line: String| format!("{line}{}", self.at(main));
        self.needs_redis().map_err(placed)?;
        if self.settings.service == Some(Service::WebSocket) {
            self.check_sizes(main).map_err(placed)?;
            self.check_liveness().map_err(placed)?;
            let suspicious = [self.larger_frame(), self.silence_without_ping()];
            let lines: Vec<String> = suspicious.into_iter().flatten().map(placed).collect();
            main.warnings.extend(lines);
        }
        Ok(())
    }

    /// The directive that makes this location serve anything, of this block or inherited by it.
    pub fn served_by(&self) -> Option<&'static str> {
        let mut names = self.mentions.all().map(|(name, _)| name);
        names.find(|name| {
            let mut services = ServiceDirective::ALL.iter();
            services.any(|service| service.name().to_bytes() == name.as_bytes())
        })
    }

    /// ` in FILE:LINE`, where the location's service stands.
    pub fn at(&self, main: &Main) -> String {
        let mention = self.served_by().and_then(|name| self.mentions.of(name));
        mention.map_or_else(String::new, |mention| {
            format!(" in {}", main.mentions[mention].place)
        })
    }

    fn needs_redis(&self) -> Result<(), String> {
        let heard = self.settings.subscriptions.first().map(|first| first.kind);
        let directive = match (self.settings.service, heard) {
            (Some(Service::WebSocket), Some(NameKind::Channel)) => "websocket_subscribe",
            (Some(Service::WebSocket), Some(NameKind::Pattern)) => "websocket_psubscribe",
            (Some(Service::WebSocket), None) if self.settings.publish.is_some() => {
                "websocket_publish"
            }
            (Some(Service::Publisher), _) => "websocket_publisher",
            (Some(Service::WebSocket | Service::Status) | None, _) => return Ok(()),
        };
        match self.settings.redis {
            Some(_) => Ok(()),
            None => Err(format!(
                "\"{directive}\" needs a \"websocket_redis\" directive here or above"
            )),
        }
    }

    /// A message is memory until its end: one within its limit must fit.
    fn check_sizes(&self, main: &Main) -> Result<(), String> {
        let (message, memory) = (self.settings.limits().max_message, main.settings.memory());
        if message <= memory {
            return Ok(());
        }
        let (message, memory) = (Size(message), Size(memory));
        Err(format!(
            "\"websocket_max_message\" {message} must not be more than \"websocket_memory\" {memory}"
        ))
    }

    /// Whoever asks for pings wants them to come before the end.
    fn check_liveness(&self) -> Result<(), String> {
        if self.settings.ping_interval.is_none() || !self.is_closed_unpinged() {
            return Ok(());
        }
        let (ping, timeout) = (
            Time(self.settings.ping_interval()),
            Time(self.settings.timeout()),
        );
        Err(format!(
            "\"websocket_ping_interval\" {ping} must be less than \"websocket_timeout\" {timeout}"
        ))
    }

    /// No error: a location may want clients that speak by themselves. But then it can say so.
    fn silence_without_ping(&self) -> Option<String> {
        let is_chosen = self.settings.ping_interval.is_some() || !self.is_closed_unpinged();
        (!is_chosen).then(|| {
            let (ping, timeout) = (
                Time(self.settings.ping_interval()),
                Time(self.settings.timeout()),
            );
            format!(
                "clients are closed after \"websocket_timeout\" {timeout} without a ping, which \
                 comes after {ping}: set a shorter \"websocket_ping_interval\", or 0 for none"
            )
        })
    }

    /// A silent client is closed before it is asked whether it lives.
    fn is_closed_unpinged(&self) -> bool {
        let (ping, timeout) = (self.settings.ping_interval(), self.settings.timeout());
        ping > 0 && timeout > 0 && ping >= timeout
    }

    /// No error: the smaller of the two holds. Where the larger is inherited it is no mistake.
    fn larger_frame(&self) -> Option<String> {
        let limits = self.settings.limits();
        let is_suspicious =
            self.mentions.has_own("websocket_max_frame") && limits.max_frame > limits.max_message;
        is_suspicious.then(|| {
            let (frame, message) = (Size(limits.max_frame), Size(limits.max_message));
            format!(
                "\"websocket_max_frame\" {frame} is more than \"websocket_max_message\" {message}, \
                 which holds for a frame as well"
            )
        })
    }
}
