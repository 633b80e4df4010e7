//! Configuration of a location: its settings, and where nginx.conf sets them.

use hub::settings;

use super::main::Main;
use super::mention::Mentions;

/// The configuration of a location.
#[derive(Default)]
pub struct Location {
    /// Its settings.
    pub settings: settings::Location,
    /// The directives of nginx.conf that apply here.
    pub mentions: Mentions,
}

impl Location {
    /// Inherits from `parent` what is not set here; see [`settings::Location::inherit`].
    ///
    /// # Errors
    /// What the location serves is incomplete: a line for `nginx -t`.
    pub fn merge(
        &mut self,
        parent: &Location,
        within: bool,
        main: &mut Main,
    ) -> Result<(), String> {
        self.settings.inherit(&parent.settings, within);
        self.mentions.inherit(&parent.mentions);
        self.check(main)?;
        main.note_effects(self);
        main.used |= self.settings.service.is_some();
        Ok(())
    }
}
