//! Directives: table rows become nginx's commands, and `nginx -t` checks each value.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use hub::outside::Level;
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_DIRECT_CONF,
    NGX_HTTP_LIF_CONF, NGX_HTTP_LMT_CONF, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_LOG_EMERG, NGX_MAIN_CONF,
    ngx_command_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_module, ngx_str_t, ngx_uint_t,
};

use super::args::{Args, Complaint, Obeyed};
use super::bindings::ngx_http_core_loc_conf_s;
use super::configuration::Configuration;
use super::content::Handler;
use super::index::context_index;
use super::log;
use super::module::{LocationOf, MainOf, Module};

/// Where a directive is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Outside of any block.
    Main,
    /// `http` only.
    Http,
    /// `http`, `server`, `location`, `if` in location, `limit_except`.
    Any,
    /// `location`, `if` in location, `limit_except`.
    Location,
}

/// How many arguments a directive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    None,
    /// One.
    One,
    /// One or two.
    OneOrTwo,
    /// One or more.
    Many,
}

/// What a directive does with its arguments. An error is the rest of the log line, after `invalid
/// value "x" in "y" directive` if it is about a value.
pub enum Set<C: Configuration> {
    /// Sets a value of the process.
    Process(fn(&mut C::Process, &Args<'_>) -> Obeyed),
    /// Sets a value of the whole `http` block.
    Main(fn(&mut C::Main, &Args<'_>) -> Obeyed),
    /// Sets a value of a location, which is inherited.
    Location(fn(&mut C::Location, &mut C::Main, &Args<'_>) -> Obeyed),
}

/// One row in the table of directives.
pub struct Directive<C: Configuration> {
    /// Its name in nginx.conf; nginx compares names as C strings.
    pub name: &'static CStr,
    /// Where it is allowed.
    pub context: Context,
    /// How many arguments it takes.
    pub takes: Takes,
    /// Its setter.
    pub set: Set<C>,
}

/// Makes nginx's table of commands from ours, terminated by the empty row.
pub(super) const fn commands<M: Module, const N: usize, const LEN: usize>(
    rows: &'static [Directive<M::Configuration>; N],
) -> [ngx_command_t; LEN] {
    assert!(LEN == N + 1);
    let mut commands = [const { ngx_command_t::empty() }; LEN];
    let mut index = 0;
    while index < N {
        let row = &rows[index];
        commands[index].name = ngx_str_t {
            len: row.name.count_bytes(),
            data: row.name.as_ptr().cast_mut().cast(),
        };
        commands[index].type_ = (contexts(row.context) | arity(row.takes)) as ngx_uint_t;
        commands[index].set = Some(on_directive::<M>);
        commands[index].conf = match row.set {
            Set::Main(_) => NGX_HTTP_MAIN_CONF_OFFSET,
            Set::Location(_) => NGX_HTTP_LOC_CONF_OFFSET,
            Set::Process(_) => 0,
        };
        commands[index].post = (&raw const *row).cast_mut().cast();
        index += 1;
    }
    commands
}

const fn contexts(context: Context) -> u32 {
    let location = NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF | NGX_HTTP_LMT_CONF;
    match context {
        Context::Main => NGX_MAIN_CONF | NGX_DIRECT_CONF,
        Context::Http => NGX_HTTP_MAIN_CONF,
        Context::Any => NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | location,
        Context::Location => location,
    }
}

const fn arity(takes: Takes) -> u32 {
    match takes {
        Takes::None => NGX_CONF_NOARGS,
        Takes::One => NGX_CONF_TAKE1,
        Takes::OneOrTwo => NGX_CONF_TAKE12,
        Takes::Many => NGX_CONF_1MORE,
    }
}

/// `set` of every command: finds the row, and reports errors in nginx's words.
unsafe extern "C" fn on_directive<M: Module>(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `post` is the row that `commands` put there; nginx gives the arguments, and the
    // configuration that `module` has made, of the kind that the row's `set` expects.
    unsafe {
        let row = &*(*command).post.cast::<Directive<M::Configuration>>();
        let args = Args::of(cf);
        let result = match row.set {
            Set::Process(set) => set(&mut *conf.cast(), &args),
            Set::Main(set) => set(&mut *conf.cast(), &args),
            Set::Location(set) => {
                let (main, location) = (&mut *main_conf::<M>(cf), &mut *conf.cast());
                set(location, main, &args).and_then(|()| obeyed::<M>(cf, row, main, location))
            }
        };
        match result {
            Ok(()) => ptr::null_mut(),
            Err(Complaint::Duplicate) => c"is duplicate".as_ptr().cast_mut(),
            Err(complaint) => complain(cf, &row.name.to_string_lossy(), complaint),
        }
    }
}

/// A directive of a location, or of a block around one, is valid: records its place, and sets the
/// content handler of what the location serves.
///
/// # Safety
/// `cf` is a live configuration within `http`.
unsafe fn obeyed<M: Module>(
    cf: *mut ngx_conf_t,
    row: &'static Directive<M::Configuration>,
    main: &mut MainOf<M>,
    location: &mut LocationOf<M>,
) -> Obeyed {
    let name = row.name.to_str().unwrap_or_default();
    // SAFETY: the caller's.
    let (core, block, place) = unsafe {
        (
            &mut *core_location(cf),
            (*cf).cmd_type,
            Args::of(cf).place(),
        )
    };
    let in_location = block & (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF) as usize == 0;
    M::Configuration::note(main, location, name, place, in_location);
    let Some(handler) = M::handler(location).filter(|_| in_location) else {
        return Ok(());
    };
    if is_taken(core, handler) {
        let service = M::Configuration::answered_by(location).unwrap_or(name);
        return Err(Complaint::Said(conflict(service)));
    }
    core.handler = Some(handler.as_raw());
    Ok(())
}

/// Whether another module answers the location's requests.
fn is_taken(core: &ngx_http_core_loc_conf_s, ours: Handler) -> bool {
    core.handler.is_some_and(|handler| !ours.is(handler))
}

fn conflict(directive: &str) -> String {
    format!(
        "\"{directive}\" directive conflicts with another one that answers requests, such as \
         \"proxy_pass\", in the same location"
    )
}

unsafe fn complain(cf: *mut ngx_conf_t, directive: &str, complaint: Complaint) -> *mut c_char {
    let line = match complaint {
        Complaint::Value(value, mend) => {
            format!("invalid value \"{value}\" in \"{directive}\" directive, {mend}")
        }
        Complaint::Said(line) => line,
        Complaint::Duplicate => format!("\"{directive}\" directive is duplicate"),
    };
    if !line.is_empty() {
        // SAFETY: the caller's.
        unsafe { log_in_place(cf, &line) };
    }
    CONF_ERROR
}

/// nginx's `NGX_CONF_ERROR`.
const CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

/// Writes a line at `emerg`, to which nginx adds the file and line that it is reading.
///
/// # Safety
/// `cf` is a live configuration.
unsafe fn log_in_place(cf: *mut ngx_conf_t, line: &str) {
    // SAFETY: the caller's; the format takes a length and a pointer to that many bytes.
    unsafe {
        nginx_sys::ngx_conf_log_error(
            NGX_LOG_EMERG as ngx_uint_t,
            cf,
            0,
            c"%*s".as_ptr(),
            line.len(),
            line.as_ptr(),
        );
    }
}

/// This module's configuration of the `http` block.
///
/// # Safety
/// `cf` is a live configuration within `http`.
pub(super) unsafe fn main_conf<M: Module>(cf: *mut ngx_conf_t) -> *mut MainOf<M> {
    // SAFETY: the caller's.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        (*(*context).main_conf.add(context_index())).cast()
    }
}

/// The core module's configuration of the location that is being read.
///
/// # Safety
/// `cf` is a live configuration within `http`.
unsafe fn core_location(cf: *mut ngx_conf_t) -> *mut ngx_http_core_loc_conf_s {
    // SAFETY: the caller's; the core module is always there.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        (*(*context).loc_conf.add(ngx_http_core_module.ctx_index)).cast()
    }
}

/// `merge_loc_conf`: inherits what is not set here.
///
/// # Safety
/// nginx calls it with the configurations that `module` has made.
pub(super) unsafe extern "C" fn merge_location<M: Module>(
    cf: *mut ngx_conf_t,
    parent: *mut c_void,
    child: *mut c_void,
) -> *mut c_char {
    // SAFETY: the caller's.
    unsafe {
        let core = &mut *core_location(cf);
        // As in `ngx_http_proxy_merge_loc_conf`: blocks within a location serve what it serves.
        let within = core.noname() != 0 || core.lmt_excpt() != 0;
        let main = &mut *main_conf::<M>(cf);
        let (parent, child) = (&*parent.cast(), &mut *child.cast::<LocationOf<M>>());
        let own = M::handler(child);
        let mut merged = M::Configuration::merge(main, child, parent, within);
        // A directive further down in the location replaced the handler.
        if merged.is_ok() && own.is_some_and(|own| is_taken(core, own)) {
            let directive = M::Configuration::answered_by(child).unwrap_or_default();
            merged = Err(conflict(directive) + &M::Configuration::place(main, child));
        }
        if let Err(line) = merged {
            // nginx is at the end of `http` now, so the line names its own place.
            log::write((*cf).log, Level::Emerg, format_args!("{line}"));
            return CONF_ERROR;
        }
        if core.lmt_excpt() != 0 && core.handler.is_none() {
            core.handler = M::handler(child).map(Handler::as_raw);
        }
        ptr::null_mut()
    }
}
