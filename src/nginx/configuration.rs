//! What nginx.conf's directives are read into, as far as nginx has to know.

use super::args::Place;

/// The values of this module's directives.
pub trait Configuration: 'static {
    /// What is set outside of any block.
    type Process: Default + 'static;
    /// What is set for the `http` block.
    type Main: Default + 'static;
    /// What is set for a location, or for the blocks above one.
    type Location: Default + 'static;

    /// A directive of `location` is fine, and has been obeyed. `in_location`: its block is one, not
    /// `http` or `server`.
    fn note(
        main: &mut Self::Main,
        location: &mut Self::Location,
        directive: &'static str,
        place: Place,
        in_location: bool,
    );

    /// `location` inherits from `parent` what is not set there. `within`: it is a block within a
    /// location (`if`, `limit_except`), and may answer requests as that does.
    ///
    /// # Errors
    /// What cannot work: a line for the log, with its place.
    fn merge(
        main: &mut Self::Main,
        location: &mut Self::Location,
        parent: &Self::Location,
        within: bool,
    ) -> Result<(), String>;

    /// The directive by which a location answers requests, of this block or inherited.
    fn answered_by(location: &Self::Location) -> Option<&'static str>;

    /// ` in FILE:LINE`, where that directive stands; empty if there is none.
    fn place(main: &Self::Main, location: &Self::Location) -> String;
}
