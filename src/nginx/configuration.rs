//! The types of the configuration, as far as nginx needs them.

use super::args::Place;

/// The values of this module's directives.
pub trait Configuration: 'static {
    /// The configuration outside of any block.
    type Process: Default + 'static;
    /// The configuration of the `http` block.
    type Main: Default + 'static;
    /// The configuration of a location, or of the blocks around one.
    type Location: Default + 'static;

    /// A directive of `location` is valid and has been applied. `in_location`: its block is a
    /// location, not `http` or `server`.
    fn note(
        main: &mut Self::Main,
        location: &mut Self::Location,
        directive: &'static str,
        place: Place,
        in_location: bool,
    );

    /// `location` inherits from `parent` what it does not set. `within`: it is a block within a
    /// location (`if`, `limit_except`), and may answer requests as that location does.
    ///
    /// # Errors
    /// The configuration cannot work: a line for the log, with its place.
    fn merge(
        main: &mut Self::Main,
        location: &mut Self::Location,
        parent: &Self::Location,
        within: bool,
    ) -> Result<(), String>;

    /// The directive that makes a location answer requests, of this block or inherited.
    fn answered_by(location: &Self::Location) -> Option<&'static str>;

    /// ` in FILE:LINE` of that directive; empty if there is none.
    fn place(main: &Self::Main, location: &Self::Location) -> String;
}
