//! Callbacks outside of events: configuration, start and end of a process.

use std::ffi::c_void;
use std::ptr;

use hub::outside::Level;
use nginx_sys::{
    NGX_ERROR, NGX_OK, ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module, ngx_int_t,
};

use super::index::context_index;
use super::module::{MainOf, Module, ProcessOf};
use super::variable::Used;
use super::{directive, event, log, pool, process, variable};

pub(super) unsafe extern "C" fn create_conf<T: Default>(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls with a live configuration, whose pool lives as long as its cycle.
    let kept = pool::keep(unsafe { (*cf).pool }, T::default());
    kept.map_or(ptr::null_mut(), |kept| kept.as_ptr().cast())
}

pub(super) unsafe extern "C" fn create_process_conf<M: Module>(
    cycle: *mut ngx_cycle_t,
) -> *mut c_void {
    // SAFETY: nginx calls with a live cycle.
    let kept = pool::keep(unsafe { (*cycle).pool }, ProcessOf::<M>::default());
    kept.map_or(ptr::null_mut(), |kept| kept.as_ptr().cast())
}

pub(super) unsafe extern "C" fn preconfiguration<M: Module>(cf: *mut ngx_conf_t) -> ngx_int_t {
    let added = variable::add::<M>(cf);
    (if added { NGX_OK as i32 } else { NGX_ERROR }) as ngx_int_t
}

pub(super) unsafe extern "C" fn postconfiguration<M: Module>(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls with a live configuration within `http`.
    unsafe {
        let main = &mut *directive::main_conf::<M>(cf);
        for line in M::is_read(main, &Used::by(cf)) {
            log::write((*cf).log, Level::Warn, format_args!("{line}"));
        }
    }
    NGX_OK as ngx_int_t
}

/// The `http` block's configuration in `cycle`; `None` if there is no such block.
unsafe fn main_of<M: Module>(cycle: *mut ngx_cycle_t) -> Option<&'static MainOf<M>> {
    // SAFETY: the cycle's configuration lives as long as the worker.
    unsafe {
        let context = *(*cycle).conf_ctx.add(ngx_http_module.index);
        let context = context.cast::<ngx_http_conf_ctx_t>().as_ref()?;
        let main = *context.main_conf.add(context_index());
        main.cast::<MainOf<M>>().as_ref()
    }
}

/// A process starts; `process_index` is the number of the module that holds the configuration
/// outside of any block.
///
/// # Safety
/// nginx calls with the live cycle; its configurations are of `M`'s types.
pub(super) unsafe fn init_process<M: Module>(
    cycle: *mut ngx_cycle_t,
    process_index: usize,
) -> ngx_int_t {
    if !process::serves_clients() {
        return NGX_OK as ngx_int_t;
    }
    // SAFETY: the caller's. The cycle's configuration lives as long as the worker.
    let (main, process) = unsafe { (main_of::<M>(cycle), *(*cycle).conf_ctx.add(process_index)) };
    // SAFETY: as above.
    let process = unsafe { process.cast::<ProcessOf<M>>().as_ref() };
    match main.map_or(Ok(None), |main| M::begin(main, process)) {
        Ok(host) => {
            if let Some(host) = host {
                event::install(host);
            }
            NGX_OK as ngx_int_t
        }
        Err(cause) => {
            let line = format_args!("{} worker cannot start: {cause}", M::NAME);
            log::cycle(Level::Error, line);
            NGX_ERROR as ngx_int_t
        }
    }
}

pub(super) unsafe extern "C" fn exit_process<M: Module>(_cycle: *mut ngx_cycle_t) {
    event::uninstall::<M>();
}
