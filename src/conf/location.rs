//! Configuration of a location: its settings, and where nginx.conf says so.

use hub::settings;

use super::main::Main;
use super::mention::Mentions;

/// What nginx.conf says of a location.
#[derive(Default)]
pub struct Location {
    /// Its values.
    pub settings: settings::Location,
    /// Which of nginx.conf's directives hold here.
    pub mentions: Mentions,
}

impl Location {
    /// Inherits from `parent` what is not set here; see [`settings::Location::inherit`].
    ///
    /// # Errors
    /// What the location serves lacks something: a line for `nginx -t`.
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
