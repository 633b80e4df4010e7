//! `ngx_http_websocket_module`: what nginx finds in the shared object. No file imports this one, so
//! it may name modules that `nginx` otherwise does not know: `nginx` is compiled for them here.

use std::ffi::c_void;

use nginx_sys::{
    NGX_CORE_MODULE, NGX_HTTP_MODULE, ngx_command_t, ngx_conf_t, ngx_core_module_t, ngx_cycle_t,
    ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_uint_t,
};
use ngx::ngx_string;

use super::{callbacks, directive, index};
use crate::conf::{DIRECTIVES, Location, Main, PROCESS_DIRECTIVES};
use crate::module::Hub;

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(callbacks::preconfiguration::<Hub>),
    postconfiguration: Some(callbacks::postconfiguration::<Hub>),
    create_main_conf: Some(create_main_conf),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(callbacks::create_conf::<Location>),
    merge_loc_conf: Some(directive::merge_location::<Hub>),
};

static mut COMMANDS: [ngx_command_t; DIRECTIVES.len() + 1] =
    directive::commands::<Hub, _, _>(&DIRECTIVES);

/// The symbols that nginx looks up in the shared object. (`ngx_modules!` of the crate `ngx` takes
/// only one module.)
#[cfg(all(feature = "export-modules", not(test)))]
#[allow(non_upper_case_globals)]
mod symbols {
    use std::ffi::c_char;
    use std::ptr;

    use super::{ngx_http_websocket_module, ngx_module_t, ngx_websocket_module};

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
    create_conf: Some(callbacks::create_process_conf::<Hub>),
    init_conf: None,
};

static mut CORE_COMMANDS: [ngx_command_t; PROCESS_DIRECTIVES.len() + 1] =
    directive::commands::<Hub, _, _>(&PROCESS_DIRECTIVES);

/// The module's second half, for directives outside of `http`: nginx requires another module type
/// there.
#[allow(non_upper_case_globals)]
#[cfg_attr(not(test), used)]
pub static mut ngx_websocket_module: ngx_module_t = ngx_module_t {
    ctx: (&raw mut CORE_CONTEXT).cast(),
    commands: (&raw mut CORE_COMMANDS).cast(),
    type_: NGX_CORE_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

/// The module, under the name that nginx's tables use.
#[allow(non_upper_case_globals)]
#[cfg_attr(not(test), used)]
pub static mut ngx_http_websocket_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const CONTEXT).cast_mut().cast(),
    commands: (&raw mut COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_process: Some(init_process),
    exit_process: Some(callbacks::exit_process::<Hub>),
    ..ngx_module_t::default()
};

unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx numbers its modules before it reads their part of a configuration, and calls
    // with a live one.
    unsafe {
        index::remember_context_index(ngx_http_websocket_module.ctx_index);
        callbacks::create_conf::<Main>(cf)
    }
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx numbers its modules before it starts any, and calls with the live cycle. The
    // configurations in it were made for `Hub`.
    unsafe { callbacks::init_process::<Hub>(cycle, ngx_websocket_module.index) }
}
