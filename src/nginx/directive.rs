//! Directives: rows of a table become nginx's commands, and each value is checked by `nginx -t`.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

use hub::outside::Level;
use hub::settings::{self, Service};
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_DIRECT_CONF,
    NGX_HTTP_LIF_CONF, NGX_HTTP_LMT_CONF, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_LOG_EMERG, NGX_MAIN_CONF,
    NGX_OK, ngx_command_t, ngx_conf_t, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value_t, ngx_http_conf_ctx_t,
    ngx_http_core_module, ngx_str_t, ngx_uint_t,
};

use super::bindings::ngx_http_core_loc_conf_s;
use super::log;
use super::peer::Address;
use super::request::ComplexValue;
use super::{event, module, pool};
use crate::conf::{Location, Main, Place, Process};

/// Where a directive may stand.
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

/// What a directive does with its arguments. An error is the rest of the line in the log, after
/// `invalid value "x" in "websocket_y" directive` where it is about a value.
pub enum Set {
    /// It is about the process.
    Process(fn(&mut Process, &Args<'_>) -> Result<(), Complaint>),
    /// It is about the whole `http` block.
    Main(fn(&mut Main, &Args<'_>) -> Result<(), Complaint>),
    /// It is about a location, and inherited.
    Location(fn(&mut settings::Location, &mut Main, &Args<'_>) -> Result<(), Complaint>),
}

/// One row of the table of directives.
pub struct Directive {
    /// Its name in nginx.conf; nginx compares names as C strings.
    pub name: &'static CStr,
    /// Where it may stand.
    pub context: Context,
    /// How many arguments it takes.
    pub takes: Takes,
    /// What it does.
    pub set: Set,
}

/// What is wrong with a directive, for the line that `nginx -t` prints.
#[derive(Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The directive was there before.
    Duplicate,
    /// `invalid value "…" in "…" directive, …`: the value, and how to mend it.
    Value(String, String),
    /// The whole line is said already, by us or by nginx.
    Said(String),
}

/// The arguments of a directive.
pub struct Args<'a> {
    values: &'a [ngx_str_t],
    cf: *mut ngx_conf_t,
}

impl Args<'_> {
    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Argument `index`, from 0, as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self, index: usize) -> Result<&str, Complaint> {
        std::str::from_utf8(self.bytes(index))
            .map_err(|_| self.refuse(index, "it must be valid UTF-8"))
    }

    /// Argument `index` as it stands.
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.values[index].as_bytes()
    }

    /// A complaint about argument `index`; `mend` says what it should be.
    pub fn refuse(&self, index: usize, mend: impl Into<String>) -> Complaint {
        let value = String::from_utf8_lossy(self.bytes(index)).into_owned();
        Complaint::Value(value, mend.into())
    }

    /// The line of nginx.conf that is being read.
    pub fn place(&self) -> Place {
        // SAFETY: nginx calls directives with a live configuration, within a file.
        unsafe {
            let file = &*(*self.cf).conf_file;
            Place {
                file: String::from_utf8_lossy(file.file.name.as_bytes()).into_owned(),
                line: file.line,
            }
        }
    }

    /// A size in bytes, with nginx's suffixes `k`, `m`, `g`.
    ///
    /// # Errors
    /// It is no size.
    pub fn size(&self, index: usize) -> Result<u64, Complaint> {
        let mut text = self.values[index];
        // SAFETY: reads the argument.
        let size = unsafe { nginx_sys::ngx_parse_offset(&raw mut text) };
        u64::try_from(size).map_err(|_| self.refuse(index, "it must be a size such as \"64k\""))
    }

    /// A time in milliseconds, with nginx's suffixes.
    ///
    /// # Errors
    /// It is no time.
    pub fn time(&self, index: usize) -> Result<u64, Complaint> {
        let mut text = self.values[index];
        // SAFETY: reads the argument.
        let time = unsafe { nginx_sys::ngx_parse_time(&raw mut text, 0) };
        u64::try_from(time).map_err(|_| self.refuse(index, "it must be a time such as \"30s\""))
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, index: usize) -> Result<u64, Complaint> {
        let number = self.text(index)?.parse();
        number.map_err(|_| self.refuse(index, "it must be a whole number"))
    }

    /// One of the `named` values.
    ///
    /// # Errors
    /// It is none of them.
    pub fn one_of<T: Copy>(&self, index: usize, named: &[(&str, T)]) -> Result<T, Complaint> {
        let found = named
            .iter()
            .find(|(name, _)| name.as_bytes() == self.bytes(index));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = named
                .iter()
                .map(|(name, _)| format!("\"{name}\""))
                .collect();
            let (last, first) = names
                .split_last()
                .map_or((String::new(), &[][..]), |(l, f)| (l.clone(), f));
            let list = match first {
                [] => last,
                first => format!("{} or {last}", first.join(", ")),
            };
            self.refuse(index, format!("it must be {list}"))
        })
    }

    /// Compiles a value with variables.
    ///
    /// # Errors
    /// nginx has said what is wrong with it.
    pub fn complex(&self, index: usize) -> Result<ComplexValue, Complaint> {
        let said = || Complaint::Said(String::new());
        // SAFETY: nginx calls directives with a live configuration.
        unsafe {
            let mut value = self.values[index];
            let compiled =
                pool::zeroed::<ngx_http_complex_value_t>((*self.cf).pool).ok_or_else(said)?;
            let mut compile: ngx_http_compile_complex_value_t = std::mem::zeroed();
            compile.cf = self.cf;
            compile.value = &raw mut value;
            compile.complex_value = compiled.as_ptr();
            if ngx_http_compile_complex_value(&raw mut compile) != NGX_OK as isize {
                return Err(said());
            }
            Ok(ComplexValue(compiled))
        }
    }

    /// Resolves `host:port`, or `unix:path`, as `proxy_pass` does.
    ///
    /// # Errors
    /// The name does not resolve; argument `index` is to blame.
    pub fn resolve(&self, index: usize, url: &str) -> Result<Vec<Address>, Complaint> {
        // SAFETY: nginx calls directives with a live configuration; it keeps what it points to in
        // the configuration's pool.
        unsafe {
            let copy = pool::copy((*self.cf).pool, url.as_bytes());
            let copy = copy.ok_or_else(|| Complaint::Said("out of memory".into()))?;
            let mut parsed: nginx_sys::ngx_url_t = std::mem::zeroed();
            parsed.url = copy;
            parsed.default_port = 6379;
            if nginx_sys::ngx_parse_url((*self.cf).pool, &raw mut parsed) != NGX_OK as isize {
                let cause = match NonNull::new(parsed.err) {
                    Some(text) => CStr::from_ptr(text.as_ptr()).to_string_lossy(),
                    None => "out of memory".into(),
                };
                return Err(self.refuse(index, format!("{cause} in \"{url}\"")));
            }
            Ok((0..parsed.naddrs)
                .map(|index| address(&*parsed.addrs.add(index)))
                .collect())
        }
    }
}

/// # Safety
/// `found` is one of `ngx_parse_url`'s.
unsafe fn address(found: &nginx_sys::ngx_addr_t) -> Address {
    // SAFETY: the caller's.
    let sockaddr = unsafe {
        std::slice::from_raw_parts(found.sockaddr.cast::<u8>(), found.socklen as usize).to_vec()
    };
    Address {
        sockaddr,
        name: String::from_utf8_lossy(found.name.as_bytes()).into_owned(),
    }
}

/// Makes nginx's table of commands from ours, with the empty row at its end.
pub(super) const fn commands<const N: usize, const M: usize>(
    rows: &'static [Directive; N],
) -> [ngx_command_t; M] {
    assert!(M == N + 1);
    let mut commands = [const { ngx_command_t::empty() }; M];
    let mut index = 0;
    while index < N {
        let row = &rows[index];
        commands[index].name = ngx_str_t {
            len: row.name.count_bytes(),
            data: row.name.as_ptr().cast_mut().cast(),
        };
        commands[index].type_ = (contexts(row.context) | arity(row.takes)) as ngx_uint_t;
        commands[index].set = Some(on_directive);
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

/// `set` of every command: finds its row, and says what is wrong in nginx's words.
unsafe extern "C" fn on_directive(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `post` is the row that `commands` put there; nginx gives the arguments, and the
    // configuration that `module` has made, of the kind that the row's `set` asks for.
    unsafe {
        let row = &*(*command).post.cast::<Directive>();
        let words =
            std::slice::from_raw_parts((*(*cf).args).elts.cast::<ngx_str_t>(), (*(*cf).args).nelts);
        let args = Args {
            values: &words[1..],
            cf,
        };
        let result = match row.set {
            Set::Process(set) => set(&mut *conf.cast::<Process>(), &args),
            Set::Main(set) => set(&mut *conf.cast::<Main>(), &args),
            Set::Location(set) => {
                let location = &mut *conf.cast::<Location>();
                set(&mut location.settings, &mut *main_conf(cf), &args)
                    .and_then(|()| heard(row, location, &args))
            }
        };
        match result {
            Ok(()) => ptr::null_mut(),
            Err(Complaint::Duplicate) => c"is duplicate".as_ptr().cast_mut(),
            Err(complaint) => complain(cf, &row.name.to_string_lossy(), complaint),
        }
    }
}

/// A directive of a location, or of what is above one, is fine: notes where it stands, and sets the
/// content handler of what the location serves.
fn heard(
    row: &'static Directive,
    location: &mut Location,
    args: &Args<'_>,
) -> Result<(), Complaint> {
    let name = row.name.to_str().unwrap_or_default();
    let cf = args.cf;
    // SAFETY: nginx calls directives with a live configuration within `http`.
    let (main, core, block) =
        unsafe { (&mut *main_conf(cf), &mut *core_location(cf), (*cf).cmd_type) };
    let in_location = block & (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF) as usize == 0;
    let mention = main.mention(name, args.place(), in_location);
    location.mentions.note(name, mention);
    if in_location {
        if location.settings.service.is_some() && is_taken(core) {
            let service = location.served_by().unwrap_or(name);
            return Err(Complaint::Said(conflict(service)));
        }
        set_handler(core, location);
    }
    Ok(())
}

/// Another module answers the location's requests.
fn is_taken(core: &ngx_http_core_loc_conf_s) -> bool {
    core.handler.is_some_and(|handler| {
        let ours = [event::on_handshake, event::on_publish, event::on_status];
        !ours.iter().any(|our| {
            let our: unsafe extern "C" fn(_) -> _ = *our;
            ptr::fn_addr_eq(handler, our)
        })
    })
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

/// Writes a line at `emerg` to which nginx adds file and line of what it is reading.
///
/// # Safety
/// `cf` is a live configuration.
unsafe fn log_in_place(cf: *mut ngx_conf_t, line: &str) {
    // SAFETY: the caller's; the format takes a length and a pointer to so many bytes.
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
unsafe fn main_conf(cf: *mut ngx_conf_t) -> *mut Main {
    // SAFETY: the caller's.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        (*(*context).main_conf.add(module::context_index())).cast()
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

/// The content handler of what the location serves.
fn set_handler(core: &mut ngx_http_core_loc_conf_s, location: &Location) {
    match location.settings.service {
        Some(Service::WebSocket) => core.handler = Some(event::on_handshake),
        Some(Service::Publisher) => core.handler = Some(event::on_publish),
        Some(Service::Status) => core.handler = Some(event::on_status),
        None => {}
    }
}

/// `merge_loc_conf`: what is not set here is inherited.
///
/// # Safety
/// nginx calls it with the configurations that `module` has made.
pub(super) unsafe extern "C" fn merge_location(
    cf: *mut ngx_conf_t,
    parent: *mut c_void,
    child: *mut c_void,
) -> *mut c_char {
    // SAFETY: the caller's.
    unsafe {
        let core = &mut *core_location(cf);
        // As in `ngx_http_proxy_merge_loc_conf`: blocks within a location serve what it serves.
        let within = core.noname() != 0 || core.lmt_excpt() != 0;
        let (main, child) = (&mut *main_conf(cf), &mut *child.cast::<Location>());
        let serves_itself = child.settings.service.is_some();
        let mut merged = child.merge(&*parent.cast::<Location>(), within, main);
        // A directive further down in the location has replaced the handler.
        if merged.is_ok() && serves_itself && is_taken(core) {
            let directive = child.served_by().unwrap_or_default();
            merged = Err(conflict(directive) + &child.at(main));
        }
        if let Err(line) = merged {
            // nginx reads the end of `http` by now: the line names its own place.
            log::write((*cf).log, Level::Emerg, format_args!("{line}"));
            return CONF_ERROR;
        }
        if core.lmt_excpt() != 0 && core.handler.is_none() {
            set_handler(core, child);
        }
        ptr::null_mut()
    }
}
