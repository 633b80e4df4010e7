//! nginx's error log.

use std::ffi::CStr;
use std::fmt;

use hub::outside::Level;
use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
    ngx_cycle, ngx_log_t, ngx_uint_t,
};

fn number(level: Level) -> ngx_uint_t {
    let level = match level {
        Level::Emerg => NGX_LOG_EMERG,
        Level::Alert => NGX_LOG_ALERT,
        Level::Error => NGX_LOG_ERR,
        Level::Warn => NGX_LOG_WARN,
        Level::Notice => NGX_LOG_NOTICE,
        Level::Info => NGX_LOG_INFO,
    };
    level as ngx_uint_t
}

/// Whether `log` shows lines of this level.
///
/// # Safety
/// `log` is live.
pub(super) unsafe fn is_shown(log: *const ngx_log_t, level: Level) -> bool {
    // SAFETY: the caller's.
    unsafe { (*log).log_level >= number(level) }
}

/// Writes to the process's log.
pub fn cycle(level: Level, text: fmt::Arguments<'_>) {
    // SAFETY: nginx sets `ngx_cycle` before it loads any module and never clears it.
    let log = unsafe { (*ngx_cycle).log };
    write(log, level, text);
}

/// Writes to `log`, which adds its own context (client, server, request).
pub(super) fn write(log: *mut ngx_log_t, level: Level, text: fmt::Arguments<'_>) {
    const FORMAT: &CStr = c"%*s";
    // SAFETY: nginx's connections, requests and cycle always have a log.
    if unsafe { (*log).log_level } < number(level) {
        return;
    }
    let text = text.to_string();
    // SAFETY: the format takes a length and a pointer to that many bytes.
    unsafe {
        nginx_sys::ngx_log_error_core(
            number(level),
            log,
            0,
            FORMAT.as_ptr(),
            text.len(),
            text.as_ptr(),
        );
    }
}
