//! Checks a location as a whole, after it has inherited what it does not set.
//!
//! An error is a configuration that cannot work; a warning is one that does not do what it seems to
//! say. Both name the line of the directive that says what the location serves, since the
//! conflicting directives may be far apart.

use fanout::NameKind;

use hub::settings::written::{Size, Time};
use hub::settings::{Service, ServiceDirective};

use super::location::Location;
use super::main::Main;

impl Location {
    /// Adds a warning for anything suspicious.
    ///
    /// # Errors
    /// The configuration cannot work: a line for `nginx -t`, with its place.
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

    /// The directive that says what this location serves, of this block or inherited.
    pub fn served_by(&self) -> Option<&'static str> {
        let mut names = self.mentions.all().map(|(name, _)| name);
        names.find(|name| {
            let mut services = ServiceDirective::ALL.iter();
            services.any(|service| service.name().to_bytes() == name.as_bytes())
        })
    }

    /// ` in FILE:LINE` of the directive that says what the location serves.
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

    /// A message is held in memory until it is complete, so the largest allowed one must fit.
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

    /// A configuration that asks for pings wants them before the timeout.
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

    /// This is no error: a location may want clients that send by themselves. But then it can say
    /// so.
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

    /// Whether a silent client is closed before it is pinged.
    fn is_closed_unpinged(&self) -> bool {
        let (ping, timeout) = (self.settings.ping_interval(), self.settings.timeout());
        ping > 0 && timeout > 0 && ping >= timeout
    }

    /// This is no error: the smaller of the two applies. If the larger one is inherited, there is
    /// no warning.
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
