//! `ngx_http_websocket_module`: what nginx finds in the shared object.

use std::ffi::c_void;
use std::ptr;

use hub::outside::Level;
use nginx_sys::{
    NGX_CORE_MODULE, NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, ngx_command_t, ngx_conf_t,
    ngx_core_module_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module, ngx_http_module_t,
    ngx_int_t, ngx_module_t, ngx_uint_t,
};
use ngx::ngx_string;

use super::log;
use super::{directive, event, pool, process, variable};
use crate::conf::{self, Location, Main, Process};
use crate::module;

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

/// What nginx looks up in the shared object. (`ngx_modules!` of the crate `ngx` takes one module
/// only.)
#[cfg(all(feature = "export-modules", not(test)))]
#[allow(non_upper_case_globals)]
mod exported {
    use std::ffi::c_char;

    use super::{ngx_http_websocket_module, ngx_module_t, ngx_websocket_module, ptr};

    #[unsafe(no_mangle)]
    static mut ngx_modules: [*const ngx_module_t; 3] = [
        &raw const ngx_http_websocket_module,
        &raw const ngx_websocket_module,
        ptr::null(),
    ];

    #[unsafe(no_mangle)]
    static mut ngx_module_names: [*const c_char; 3] = [
        c"ngx_http_websocket_module".as_ptr(),
        c"ngx_websocket_module".as_ptr(),
        ptr::null(),
    ];

    #[unsafe(no_mangle)]
    static mut ngx_module_order: [*const c_char; 1] = [ptr::null()];
}

static mut CORE_CONTEXT: ngx_core_module_t = ngx_core_module_t {
    name: ngx_string!("websocket"),
    create_conf: Some(create_process_conf),
    init_conf: None,
};

static mut CORE_COMMANDS: [ngx_command_t; conf::PROCESS_DIRECTIVES.len() + 1] =
    directive::commands(&conf::PROCESS_DIRECTIVES);

/// Its second half, for directives outside of `http`: nginx wants a module of another type.
#[allow(non_upper_case_globals)]
#[cfg_attr(not(test), used)]
pub static mut ngx_websocket_module: ngx_module_t = ngx_module_t {
    ctx: (&raw mut CORE_CONTEXT).cast(),
    commands: (&raw mut CORE_COMMANDS).cast(),
    type_: NGX_CORE_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

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

unsafe extern "C" fn create_process_conf(cycle: *mut ngx_cycle_t) -> *mut c_void {
    // SAFETY: nginx calls with a live cycle.
    let kept = pool::keep(unsafe { (*cycle).pool }, Process::default());
    kept.map_or(ptr::null_mut(), |kept| kept.as_ptr().cast())
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let added = variable::add(cf, &module::variables::TABLE);
    (if added { NGX_OK as i32 } else { NGX_ERROR }) as ngx_int_t
}

/// Tells the configuration which variables the log wants of a connection's end, and the operator
/// what is suspicious.
unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls with a live configuration within `http`.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let main = &mut *(*(*context).main_conf.add(context_index())).cast::<Main>();
        let settings = &mut main.settings;
        settings.logs_the_end = module::variables::KNOWN_AT_THE_END
            .iter()
            .any(|name| variable::is_used(cf, name));
        settings.names_channels = variable::is_used(cf, module::variables::CHANNEL);
        settings.arguments = variable::used_after(cf, module::variables::ARGUMENT);
        for line in main.take_warnings() {
            log::write((*cf).log, Level::Warn, format_args!("{line}"));
        }
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

/// The configuration outside of any block.
unsafe fn process_conf_of(cycle: *mut ngx_cycle_t) -> Option<&'static Process> {
    // SAFETY: the cycle's configuration lives as long as the worker; nginx numbers its modules
    // before it starts any.
    unsafe {
        let conf = *(*cycle).conf_ctx.add(ngx_websocket_module.index);
        conf.cast::<Process>().as_ref()
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
            format_args!(
                "websocket clients all get their Close at once on exit with \"master_process off\""
            ),
        );
    }
    hub::guard::install();
    // SAFETY: as above.
    let io_uring = main.io_uring(unsafe { process_conf_of(cycle) });
    match module::hub(main, io_uring) {
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
