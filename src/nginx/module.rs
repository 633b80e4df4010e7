//! `ngx_http_websocket_module`: what nginx finds in the shared object.

use std::ffi::c_void;
use std::ptr;

use nginx_sys::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, ngx_command_t, ngx_conf_t, ngx_cycle_t,
    ngx_http_conf_ctx_t, ngx_http_module, ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_uint_t,
};

use super::log::{self, Level};
use super::{directive, event, guard, pool, process, variable};
use crate::conf::{self, Location, Main};
use crate::worker::Worker;

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(create::<Main>),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(create::<Location>),
    merge_loc_conf: Some(directive::merge_location),
};

static mut COMMANDS: [ngx_command_t; conf::DIRECTIVES.len() + 1] =
    directive::commands(&conf::DIRECTIVES);

#[cfg(all(feature = "export-modules", not(test)))]
ngx::ngx_modules!(ngx_http_websocket_module);

/// The module, by the name that nginx's tables know.
#[allow(non_upper_case_globals)]
#[cfg_attr(not(test), used)]
pub static mut ngx_http_websocket_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const CONTEXT).cast_mut().cast(),
    commands: (&raw mut COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// This module's number among HTTP modules; nginx gives it when it loads the module.
pub(super) fn context_index() -> usize {
    // SAFETY: written once, before the configuration is read.
    unsafe { ngx_http_websocket_module.ctx_index }
}

unsafe extern "C" fn create<T: Default>(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls with a live configuration, whose pool lives as long as its cycle.
    let kept = pool::keep(unsafe { (*cf).pool }, T::default());
    kept.map_or(ptr::null_mut(), |kept| kept.as_ptr().cast())
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let added = variable::add(cf, &crate::variables::TABLE);
    (if added { NGX_OK as i32 } else { NGX_ERROR }) as ngx_int_t
}

/// Tells the configuration which variables the log wants of a connection's end.
unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls with a live configuration within `http`.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let main = &mut *(*(*context).main_conf.add(context_index())).cast::<Main>();
        main.logs_the_end = crate::variables::KNOWN_AT_THE_END
            .iter()
            .any(|name| variable::is_used(cf, name));
        main.names_channels = variable::is_used(cf, crate::variables::CHANNEL);
    }
    NGX_OK as ngx_int_t
}

/// The `http` block's configuration in `cycle`, if there is such a block.
unsafe fn main_of(cycle: *mut ngx_cycle_t) -> Option<&'static Main> {
    // SAFETY: the cycle's configuration lives as long as the worker.
    unsafe {
        let context = *(*cycle).conf_ctx.add(ngx_http_module.index);
        let context = context.cast::<ngx_http_conf_ctx_t>().as_ref()?;
        (*context.main_conf.add(context_index()))
            .cast::<Main>()
            .as_ref()
    }
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    if !process::serves_clients() {
        return NGX_OK as ngx_int_t;
    }
    // SAFETY: nginx calls with the live cycle.
    let Some(main) = (unsafe { main_of(cycle) }).filter(|main| main.is_used()) else {
        return NGX_OK as ngx_int_t;
    };
    if process::is_single() {
        log::cycle(
            Level::Warn,
            format_args!("websocket clients get no Close on exit with \"master_process off\""),
        );
    }
    guard::install();
    match Worker::new(main) {
        Ok(worker) => event::install(worker),
        Err(cause) => {
            log::cycle(
                Level::Error,
                format_args!("websocket worker cannot start: {cause}"),
            );
            return NGX_ERROR as ngx_int_t;
        }
    }
    NGX_OK as ngx_int_t
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    event::uninstall();
}
