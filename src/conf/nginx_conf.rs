//! The types that hold the whole configuration.

use super::location::Location;
use super::main::Main;
use super::process::Process;
use crate::nginx::args::Place;
use crate::nginx::configuration::Configuration;

/// The values of all directives.
pub enum NginxConf {}

impl Configuration for NginxConf {
    type Process = Process;
    type Main = Main;
    type Location = Location;

    fn note(
        main: &mut Main,
        location: &mut Location,
        directive: &'static str,
        place: Place,
        in_location: bool,
    ) {
        let mention = main.mention(directive, place, in_location);
        location.mentions.note(directive, mention);
    }

    fn merge(
        main: &mut Main,
        location: &mut Location,
        parent: &Location,
        within: bool,
    ) -> Result<(), String> {
        location.merge(parent, within, main)
    }

    fn answered_by(location: &Location) -> Option<&'static str> {
        location.served_by()
    }

    fn place(main: &Main, location: &Location) -> String {
        location.at(main)
    }
}
