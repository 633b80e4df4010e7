//! What nginx loads, seen from this room.

use std::io;

use super::configuration::Configuration;
use super::content::Handler;
use super::index::context_index;
use super::request::Request;
use super::variable::{Used, Variables};

/// What nginx loads: a host, and what nginx.conf says of it. There is one in the shared object, for
/// which `exported` compiles this room: the configurations that nginx holds for us are of its types.
pub trait Module: Variables {
    /// What the directives are read into.
    type Configuration: Configuration;

    /// Who answers a location's requests; `None`: not this module.
    fn handler(location: &LocationOf<Self>) -> Option<Handler>;

    /// All of nginx.conf is read and merged. Returns what is suspicious, a line each.
    fn is_read(main: &mut MainOf<Self>, used: &Used<'_>) -> Vec<String>;

    /// A host for a process that serves clients; `None`: it has nothing to do.
    ///
    /// # Errors
    /// The process cannot serve, by this cause.
    fn begin(
        main: &'static MainOf<Self>,
        process: Option<&ProcessOf<Self>>,
    ) -> io::Result<Option<Self>>;
}

pub(super) type ProcessOf<M> = <<M as Module>::Configuration as Configuration>::Process;
pub(super) type MainOf<M> = <<M as Module>::Configuration as Configuration>::Main;
pub(super) type LocationOf<M> = <<M as Module>::Configuration as Configuration>::Location;

impl Request {
    /// What the configuration says of the whole `http` block.
    pub fn main_conf<M: Module>(self) -> &'static MainOf<M> {
        // SAFETY: made by `create_main_conf`, and kept as long as the cycle. There is one `Module`.
        unsafe { &*(*self.r().main_conf.add(context_index())).cast() }
    }

    /// What the configuration says of the location that handles the request.
    pub fn location_conf<M: Module>(self) -> &'static LocationOf<M> {
        // SAFETY: made by `create_loc_conf`, merged, and kept as long as the cycle; a worker's
        // clients end before its cycle does. There is one `Module`.
        unsafe { &*(*self.r().loc_conf.add(context_index())).cast() }
    }
}
