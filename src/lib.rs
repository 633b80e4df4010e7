//! `ngx_http_websocket_module`: WebSocket in nginx's event loop, bridged to Redis pub/sub.
//!
//! The crate `hub` is one worker of the module without nginx. Here is the shell around it. Rooms, and
//! who may call whom:
//! - [`nginx`] is the only home of FFI and `unsafe`. It calls whoever is its `Host`, and names nobody;
//! - [`conf`] holds what nginx.conf says, and names nginx;
//! - [`module`] is the one place that knows all of them: it makes a hub whose outside is nginx, and which
//!   is nginx's host.
//!
//! `arrows` tests that it stays so.
#![deny(unsafe_code)]
// also refuses no_mangle and unsafe impl
// Unit tests don't link nginx, so nothing leads from `nginx_modules` to the code there.
#![cfg_attr(test, allow(dead_code))]

#[cfg(test)]
mod arrows;
mod conf;
#[cfg(test)]
mod documented;
mod module;
#[allow(unsafe_code)] // the one room for FFI
mod nginx;
