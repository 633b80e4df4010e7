//! Where nginx.conf says what: complaints name its lines.

use std::collections::HashMap;

use crate::nginx::args::Place;

/// A directive of this module in nginx.conf.
#[derive(Debug)]
pub struct Mention {
    /// Its name.
    pub directive: &'static str,
    /// Where it stands.
    pub place: Place,
    /// It stands in a location, not in `http` or `server`.
    pub in_location: bool,
    /// Some location does what it says.
    pub has_effect: bool,
}

/// Numbers of the mentions, by directive and line: a configuration may have tens of thousands.
pub type Numbers = HashMap<(&'static str, Place), usize>;

/// The directives that hold for a location, by name: its own, and after the merge what it inherits.
#[derive(Default)]
pub struct Mentions {
    own: Vec<(&'static str, usize)>,
    inherited: Vec<(&'static str, usize)>,
}

impl Mentions {
    /// Notes a directive of this block: the number of its mention. The first of several counts.
    pub fn note(&mut self, directive: &'static str, mention: usize) {
        if !self.has_own(directive) {
            self.own.push((directive, mention));
        }
    }

    /// Takes over what `parent` says and this block does not.
    pub fn inherit(&mut self, parent: &Mentions) {
        let all = parent.own.iter().chain(&parent.inherited);
        let others = all.filter(|(directive, _)| !self.has_own(directive));
        self.inherited = others.copied().collect();
    }

    /// True if this very block has the directive.
    pub fn has_own(&self, directive: &str) -> bool {
        self.own.iter().any(|(name, _)| *name == directive)
    }

    /// The number of a directive's mention, here or above.
    pub fn of(&self, directive: &str) -> Option<usize> {
        let mut all = self.all();
        all.find(|(name, _)| *name == directive).map(|(_, at)| at)
    }

    /// Names and numbers of all that hold, this block's own first.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.own.iter().chain(&self.inherited).copied()
    }
}
