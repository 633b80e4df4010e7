//! What nginx loads, as this module sees it.

use std::io;

use super::configuration::Configuration;
use super::content::Handler;
use super::index::context_index;
use super::request::Request;
use super::variable::{Used, Variables};

/// What nginx loads: a host, and the types of its configuration. The shared object has one of
/// these, for which `exported` compiles this code: the configurations that nginx holds for us have
/// its types.
pub trait Module: Variables {
    /// The types of the configuration.
    type Configuration: Configuration;

    /// The handler that answers a location's requests; `None` if this module does not.
    fn handler(location: &LocationOf<Self>) -> Option<Handler>;

    /// All of nginx.conf has been read and merged. Returns warnings, one line each.
    fn is_read(main: &mut MainOf<Self>, used: &Used<'_>) -> Vec<String>;

    /// A host for a process that serves clients; `None` if it has nothing to do.
    ///
    /// # Errors
    /// Why the process cannot serve.
    fn begin(
        main: &'static MainOf<Self>,
        process: Option<&ProcessOf<Self>>,
    ) -> io::Result<Option<Self>>;
}

pub(super) type ProcessOf<M> = <<M as Module>::Configuration as Configuration>::Process;
pub(super) type MainOf<M> = <<M as Module>::Configuration as Configuration>::Main;
pub(super) type LocationOf<M> = <<M as Module>::Configuration as Configuration>::Location;

impl Request {
    /// The configuration of the whole `http` block.
    pub fn main_conf<M: Module>(self) -> &'static MainOf<M> {
        // SAFETY: made by `create_main_conf`, and kept as long as the cycle. There is one `Module`.
        unsafe { &*(*self.r().main_conf.add(context_index())).cast() }
    }

    /// The configuration of the location that handles the request.
    pub fn location_conf<M: Module>(self) -> &'static LocationOf<M> {
        // SAFETY: made by `create_loc_conf`, merged, and kept as long as the cycle; a worker's
        // clients end before its cycle does. There is one `Module`.
        unsafe { &*(*self.r().loc_conf.add(context_index())).cast() }
    }
}
