//! What kind of process this is, and whether it is about to exit.

use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_current_msec, ngx_cycle, ngx_exiting, ngx_pid,
    ngx_process, ngx_terminate, ngx_worker,
};

/// True in processes that serve clients. `init_process` also runs in the cache manager and loader.
pub fn serves_clients() -> bool {
    // SAFETY: written once, after the fork.
    let process = unsafe { ngx_process };
    process == NGX_PROCESS_WORKER as usize || process == NGX_PROCESS_SINGLE as usize
}

/// True with `master_process off`: there is no graceful quit and no new process on reload.
pub fn is_single() -> bool {
    // SAFETY: written once, after the fork.
    unsafe { ngx_process == NGX_PROCESS_SINGLE as usize }
}

/// A graceful quit (reload, SIGQUIT) is under way.
pub fn is_exiting() -> bool {
    // SAFETY: written by the worker's own loop, in this thread.
    unsafe { ngx_exiting != 0 }
}

/// `worker_shutdown_timeout` in milliseconds, if it is set.
pub fn shutdown_timeout() -> Option<u64> {
    // SAFETY: the cycle and its configuration live as long as the process.
    let timeout = unsafe {
        let conf = *(*ngx_cycle).conf_ctx.add(nginx_sys::ngx_core_module.index);
        (*conf.cast::<nginx_sys::ngx_core_conf_t>()).shutdown_timeout
    };
    (timeout != 0 && timeout != usize::MAX).then_some(timeout as u64)
}

/// Ends this worker after its current event; the master starts another.
pub fn terminate() {
    // SAFETY: the worker's loop reads it between events, in this thread.
    unsafe { ngx_terminate = 1 };
}

/// nginx's cached monotonic clock, in milliseconds.
pub fn now() -> u64 {
    // SAFETY: written by the worker's own loop, in this thread.
    unsafe { ngx_current_msec as u64 }
}

/// The worker's process id.
pub fn pid() -> i32 {
    // SAFETY: written once, after the fork.
    unsafe { ngx_pid }
}

/// The worker's number, from 0.
pub fn worker() -> usize {
    // SAFETY: written once, after the fork.
    unsafe { ngx_worker }
}

/// `worker_connections`, and how many of them are free.
pub fn connections() -> (usize, usize) {
    // SAFETY: the cycle lives as long as the process.
    unsafe { ((*ngx_cycle).connection_n, (*ngx_cycle).free_connection_n) }
}

/// 128 bits from the system's generator, for ids that nobody can guess.
///
/// # Errors
/// The system has no generator.
pub fn random() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    // SAFETY: writes at most that many bytes.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n == bytes.len() as isize {
        Ok(bytes)
    } else {
        Err(std::io::Error::last_os_error())
    }
}
