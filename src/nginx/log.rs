//! nginx's error log.

use std::ffi::CStr;
use std::fmt;

use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
    ngx_cycle, ngx_log_t, ngx_uint_t,
};

/// Severity, as in the `error_log` directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// nginx cannot start with this configuration.
    Emerg,
    /// A bug of ours, or a limit of the machine that nobody should meet.
    Alert,
    /// Trouble of our own, with its cause.
    Error,
    /// An operator should look at it.
    Warn,
    /// A change of state, one line each way.
    Notice,
    /// A client's mistake.
    Info,
}

impl Level {
    fn number(self) -> ngx_uint_t {
        let level = match self {
            Level::Emerg => NGX_LOG_EMERG,
            Level::Alert => NGX_LOG_ALERT,
            Level::Error => NGX_LOG_ERR,
            Level::Warn => NGX_LOG_WARN,
            Level::Notice => NGX_LOG_NOTICE,
            Level::Info => NGX_LOG_INFO,
        };
        level as ngx_uint_t
    }
}

impl Level {
    /// Whether a line of this level is written to `log`.
    ///
    /// # Safety
    /// `log` is live.
    pub(super) unsafe fn is_shown(self, log: *const ngx_log_t) -> bool {
        // SAFETY: the caller's.
        unsafe { (*log).log_level >= self.number() }
    }
}

/// Writes to the log of the process.
pub fn cycle(level: Level, text: fmt::Arguments<'_>) {
    // SAFETY: nginx sets `ngx_cycle` before it loads any module and never clears it.
    let log = unsafe { (*ngx_cycle).log };
    write(log, level, text);
}

/// Writes to `log`, which adds its own context (client, server, request).
pub(super) fn write(log: *mut ngx_log_t, level: Level, text: fmt::Arguments<'_>) {
    const FORMAT: &CStr = c"%*s";
    // SAFETY: nginx's connections, requests and cycle always have a log.
    if unsafe { (*log).log_level } < level.number() {
        return;
    }
    let text = text.to_string();
    // SAFETY: the format takes a length and a pointer to so many bytes.
    unsafe {
        nginx_sys::ngx_log_error_core(
            level.number(),
            log,
            0,
            FORMAT.as_ptr(),
            text.len(),
            text.as_ptr(),
        );
    }
}
