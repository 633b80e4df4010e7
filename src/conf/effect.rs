//! Warns about settings that have no effect because nothing uses them.

use std::collections::HashSet;

use hub::settings::{LocationSetting, Service};

use super::location::Location;
use super::main::Main;
use super::mention::Mention;
use crate::nginx::args::Place;

/// What a location must have for a setting to have an effect there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: it is not a setting, but says what the location serves.
    Nothing,
    /// Channels to subscribe to or to publish to.
    Redis,
    /// Browsers that connect or post.
    Origin,
    /// Channels to subscribe to.
    Channels,
    /// Clients.
    Clients,
    /// Clients, and `websocket_deflate on`.
    Deflate,
}

impl Needs {
    fn of(directive: &str) -> Needs {
        let mut settings = LocationSetting::ALL.iter();
        let found = settings.find(|known| known.name().to_bytes() == directive.as_bytes());
        found.map_or(Needs::Nothing, |&setting| Needs::of_setting(setting))
    }

    fn of_setting(setting: LocationSetting) -> Needs {
        match setting {
            LocationSetting::Redis => Needs::Redis,
            LocationSetting::Origin => Needs::Origin,
            LocationSetting::Envelope
            | LocationSetting::Frame
            | LocationSetting::SendQueue
            | LocationSetting::Slow
            | LocationSetting::Gap => Needs::Channels,
            LocationSetting::Subprotocol
            | LocationSetting::MaxMessage
            | LocationSetting::MaxFrame
            | LocationSetting::Notsent
            | LocationSetting::PingInterval
            | LocationSetting::Timeout
            | LocationSetting::Drain
            | LocationSetting::Detach
            | LocationSetting::Deflate => Needs::Clients,
            LocationSetting::DeflateLevel
            | LocationSetting::DeflateMinLength
            | LocationSetting::DeflateWindow
            | LocationSetting::DeflateTakeover => Needs::Deflate,
        }
    }

    fn are_met(self, location: &Location) -> bool {
        let takes_clients = location.settings.service == Some(Service::WebSocket);
        let publishes = location.settings.service == Some(Service::Publisher);
        let hears = takes_clients && !location.settings.subscriptions.is_empty();
        match self {
            Needs::Nothing => true,
            Needs::Redis => {
                hears || publishes || (takes_clients && location.settings.publish.is_some())
            }
            Needs::Origin => takes_clients || publishes,
            Needs::Channels => hears,
            Needs::Clients => takes_clients,
            Needs::Deflate => takes_clients && location.settings.deflate(),
        }
    }

    /// The directives of which one is missing, for the warning.
    fn told(self) -> &'static str {
        match self {
            Needs::Nothing => "anything",
            Needs::Redis => {
                "\"websocket_subscribe\", \"websocket_psubscribe\", \"websocket_publish\" or \
                 \"websocket_publisher\""
            }
            Needs::Origin => {
                "\"websocket_subscribe\", \"websocket_psubscribe\", \"websocket_publish\", \
                 \"websocket_echo\" or \"websocket_publisher\""
            }
            Needs::Channels => "\"websocket_subscribe\" or \"websocket_psubscribe\"",
            Needs::Clients => {
                "\"websocket_subscribe\", \"websocket_psubscribe\", \"websocket_publish\" or \
                 \"websocket_echo\""
            }
            Needs::Deflate => "\"websocket_deflate on\"",
        }
    }
}

impl Main {
    /// The number of a directive's mention. A file may be included several times: a line of it is
    /// one mention.
    pub fn mention(&mut self, directive: &'static str, place: Place, in_location: bool) -> usize {
        *self
            .numbers
            .entry((directive, place))
            .or_insert_with_key(|(directive, place)| {
                self.mentions.push(Mention {
                    directive,
                    place: place.clone(),
                    in_location,
                    has_effect: false,
                });
                self.mentions.len() - 1
            })
    }

    /// Marks the mentions that have an effect in a merged location.
    pub(super) fn note_effects(&mut self, location: &Location) {
        for (directive, mention) in location.mentions.all() {
            if Needs::of(directive).are_met(location) {
                self.mentions[mention].has_effect = true;
            }
        }
    }

    /// The warnings of `nginx -t`, after all locations are merged. Each is given once.
    ///
    /// A setting of `http` or `server` that nothing uses is a default for locations to come, and no
    /// mistake. Only the details of permessage-deflate are reported there as well: they look as if
    /// they turned it on.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let used = self.used;
        let idle = self.mentions.iter().filter(|mention| {
            let is_told =
                mention.in_location || (used && Needs::of(mention.directive) == Needs::Deflate);
            is_told && !mention.has_effect
        });
        let idle = idle.map(|mention| {
            let (directive, place) = (mention.directive, &mention.place);
            let missing = Needs::of(directive).told();
            format!("\"{directive}\" directive has no effect without {missing} in {place}")
        });
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(idle);
        let mut told = HashSet::new();
        warnings.retain(|warning| told.insert(warning.clone()));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn place(line: usize) -> Place {
        Place {
            file: "/etc/nginx/nginx.conf".to_owned(),
            line,
        }
    }

    #[test]
    fn a_line_that_is_read_again_is_the_same_mention() {
        let mut main = Main::default();
        assert_eq!(main.mention("websocket_echo", place(1), true), 0);
        assert_eq!(main.mention("websocket_slow", place(1), true), 1);
        assert_eq!(main.mention("websocket_echo", place(2), true), 2);
        assert_eq!(main.mention("websocket_echo", place(1), true), 0);
        assert_eq!(main.mentions[2].place, place(2));
    }

    /// Comparing each line with all before it would take a minute.
    #[test]
    fn fifty_thousand_lines_are_read_and_told_of_in_seconds() {
        const LINES: usize = 50_000;
        let begun = Instant::now();
        let mut main = Main::default();
        for line in 1..=LINES {
            main.mention("websocket_slow", place(line), true);
        }
        assert_eq!(main.mention("websocket_slow", place(1), true), 0);
        assert_eq!(main.take_warnings().len(), LINES);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
