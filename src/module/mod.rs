//! The composition root: the one place that knows both the hub and nginx.

mod host;
mod outside;
mod request;
mod services;
pub mod variables;

use std::io;

use hub::outside::Level;
use hub::settings::Service;

use crate::conf::{Location, Main, NginxConf, Process};
use crate::nginx::content::Handler;
use crate::nginx::module::Module;
use crate::nginx::variable::Used;
use crate::nginx::{log, process};
pub use outside::Hub;
use outside::Nginx;
use services::{Handshake, Publisher, Status};

impl Module for Hub {
    type Configuration = NginxConf;

    fn handler(location: &Location) -> Option<Handler> {
        location.settings.service.map(|service| match service {
            Service::WebSocket => Handler::of::<Handshake>(),
            Service::Publisher => Handler::of::<Publisher>(),
            Service::Status => Handler::of::<Status>(),
        })
    }

    fn is_read(main: &mut Main, used: &Used<'_>) -> Vec<String> {
        let settings = &mut main.settings;
        let mut at_the_end = variables::KNOWN_AT_THE_END.iter();
        settings.logs_the_end = at_the_end.any(|name| used.has(name));
        settings.names_channels = used.has(variables::CHANNEL);
        settings.arguments = used.after(variables::ARGUMENT);
        main.take_warnings()
    }

    fn begin(main: &'static Main, process: Option<&Process>) -> io::Result<Option<Hub>> {
        if !main.is_used() {
            return Ok(None);
        }
        if process::is_single() {
            log::cycle(
                Level::Warn,
                format_args!(
                    "websocket clients all get their Close at once on exit with \"master_process off\""
                ),
            );
        }
        hub::guard::install();
        let outside = Nginx::new(main, main.io_uring(process));
        Hub::new(&main.settings, outside).map(Some)
    }
}
