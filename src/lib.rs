//! `ngx_http_websocket_module`: WebSocket in nginx's event loop, bridged to Redis pub/sub.
//!
//! The crate `hub` is one worker of the module without nginx. This crate is the shell around it.
//! Its modules, and which may call which:
//! - [`nginx`] is the only module with FFI and `unsafe`. It calls its `Host` and names no other
//!   module;
//! - [`conf`] holds the configuration, and names nginx;
//! - [`module`] is the only one that knows all of them: it makes a hub whose outside is nginx, and
//!   which is nginx's host.
//!
//! `arrows` tests this.
#![deny(unsafe_code)]
// `unsafe_code` also refuses no_mangle and unsafe impl.
// Unit tests don't link nginx, so the code that only `nginx_modules` leads to is unused there.
#![cfg_attr(test, allow(dead_code))]

#[cfg(test)]
mod arrows;
mod conf;
#[cfg(test)]
mod documented;
mod module;
#[allow(unsafe_code)] // the one module for FFI
mod nginx;
