//! The arguments of a directive: reads and checks them, and reports errors in nginx's words.

use std::ffi::CStr;
use std::fmt;
use std::ptr::NonNull;

use nginx_sys::{
    NGX_OK, ngx_addr_t, ngx_conf_t, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value_t, ngx_parse_url, ngx_str_t,
    ngx_url_t,
};

use super::complex::ComplexValue;
use super::peer::Address;
use super::pool;

/// An error in a directive, for the line that `nginx -t` prints.
#[derive(Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The directive was already given.
    Duplicate,
    /// `invalid value "…" in "…" directive, …`: the value, and what it should be.
    Value(String, String),
    /// The rest of the line, without a value; empty if nginx has logged the whole line.
    Said(String),
}

/// The outcome of a directive.
pub type Obeyed = Result<(), Complaint>;

/// A line of nginx.conf or of a file that it includes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Path of the file, as nginx names it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The arguments of a directive.
pub struct Args<'a> {
    values: &'a [ngx_str_t],
    cf: *mut ngx_conf_t,
}

impl Args<'_> {
    /// The arguments of the directive that nginx is reading.
    ///
    /// # Safety
    /// `cf` is a live configuration, within a directive and for `'a`.
    pub(super) unsafe fn of<'a>(cf: *mut ngx_conf_t) -> Args<'a> {
        // SAFETY: the caller's; the first word is the directive's name.
        let words = unsafe { (*(*cf).args).as_slice::<ngx_str_t>() };
        let values = &words[1..];
        Args { values, cf }
    }

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

    /// Argument `index` as written.
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.values[index].as_bytes()
    }

    /// An error about argument `index`; `mend` says what it should be.
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
    /// It is not a size.
    pub fn size(&self, index: usize) -> Result<u64, Complaint> {
        let mut text = self.values[index];
        // SAFETY: reads the argument.
        let size = unsafe { nginx_sys::ngx_parse_offset(&raw mut text) };
        u64::try_from(size).map_err(|_| self.refuse(index, "it must be a size such as \"64k\""))
    }

    /// A time in milliseconds, with nginx's suffixes.
    ///
    /// # Errors
    /// It is not a time.
    pub fn time(&self, index: usize) -> Result<u64, Complaint> {
        let mut text = self.values[index];
        // SAFETY: reads the argument.
        let time = unsafe { nginx_sys::ngx_parse_time(&raw mut text, 0) };
        u64::try_from(time).map_err(|_| self.refuse(index, "it must be a time such as \"30s\""))
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is not a number.
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
    /// The value is invalid; nginx has logged why.
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
    /// The name of argument `index` does not resolve.
    pub fn resolve(
        &self,
        index: usize,
        url: &str,
        default_port: u16,
    ) -> Result<Vec<Address>, Complaint> {
        // SAFETY: nginx calls directives with a live configuration; it keeps what it points to in
        // the configuration's pool.
        unsafe {
            let copy = pool::copy((*self.cf).pool, url.as_bytes());
            let copy = copy.ok_or_else(|| Complaint::Said("out of memory".into()))?;
            let mut parsed: ngx_url_t = std::mem::zeroed();
            parsed.url = copy;
            parsed.default_port = default_port;
            if ngx_parse_url((*self.cf).pool, &raw mut parsed) != NGX_OK as isize {
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
unsafe fn address(found: &ngx_addr_t) -> Address {
    // SAFETY: the caller's.
    let sockaddr = unsafe {
        std::slice::from_raw_parts(found.sockaddr.cast::<u8>(), found.socklen as usize).to_vec()
    };
    Address {
        sockaddr,
        name: String::from_utf8_lossy(found.name.as_bytes()).into_owned(),
    }
}
