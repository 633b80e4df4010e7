//! Where nginx.conf has which directive, for error messages and warnings.

use std::collections::HashMap;

use crate::nginx::args::Place;

/// A directive of this module in nginx.conf.
#[derive(Debug)]
pub struct Mention {
    /// Its name.
    pub directive: &'static str,
    /// Its place.
    pub place: Place,
    /// It is in a location, not in `http` or `server`.
    pub in_location: bool,
    /// It has an effect in some location.
    pub has_effect: bool,
}

/// Indices of the mentions, by directive and line: a configuration may have tens of thousands.
pub type Numbers = HashMap<(&'static str, Place), usize>;

/// The directives that apply to a location, by name: its own and, after the merge, those it
/// inherits.
#[derive(Default)]
pub struct Mentions {
    own: Vec<(&'static str, usize)>,
    inherited: Vec<(&'static str, usize)>,
}

impl Mentions {
    /// Adds a directive of this block, by the number of its mention. If there are several, the
    /// first counts.
    pub fn note(&mut self, directive: &'static str, mention: usize) {
        if !self.has_own(directive) {
            self.own.push((directive, mention));
        }
    }

    /// Inherits the directives of `parent` that this block does not have.
    pub fn inherit(&mut self, parent: &Mentions) {
        let all = parent.own.iter().chain(&parent.inherited);
        let others = all.filter(|(directive, _)| !self.has_own(directive));
        self.inherited = others.copied().collect();
    }

    /// True if this block itself has the directive.
    pub fn has_own(&self, directive: &str) -> bool {
        self.own.iter().any(|(name, _)| *name == directive)
    }

    /// The number of a directive's mention, in this block or inherited.
    pub fn of(&self, directive: &str) -> Option<usize> {
        let mut all = self.all();
        all.find(|(name, _)| *name == directive).map(|(_, at)| at)
    }

    /// Names and numbers of all directives that apply, this block's own first.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.own.iter().chain(&self.inherited).copied()
    }
}
