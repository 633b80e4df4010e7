//! nginx variables.

use std::borrow::Cow;

use nginx_sys::{
    __BindgenBitfieldUnit, NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_PREFIX, NGX_OK,
    ngx_conf_t, ngx_http_add_variable, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t,
    ngx_http_core_module, ngx_http_request_t, ngx_http_variable_t, ngx_int_t, ngx_str_t,
    ngx_variable_value_t,
};

use super::guard::{Panicked, guard};
use super::host::Host;
use super::pool;
use super::request::Request;

/// How a row names its variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The whole name, without `$`. Computed once per request.
    Once(&'static str),
    /// The whole name. Computed each time.
    Always(&'static str),
    /// The name's prefix; `get` receives the rest.
    Prefix(&'static str),
}

/// One row of the table of variables.
pub struct Variable {
    /// Its name.
    pub name: Name,
    /// Its value for a request.
    pub get: Get,
}

/// A variable's value; `None` is "not found". The second argument is the rest of the name after a
/// prefix.
pub type Get = for<'a> fn(&'a Request, &[u8]) -> Option<Cow<'a, [u8]>>;

/// A host whose requests have variables.
pub trait Variables: Host {
    /// All variables.
    fn variables() -> &'static [Variable];
}

/// Adds the variables, in `preconfiguration`. False: nginx has logged why.
pub(super) fn add<M: Variables>(cf: *mut ngx_conf_t) -> bool {
    M::variables().iter().all(|row| {
        let (name, flags) = match row.name {
            Name::Once(name) => (name, 0),
            Name::Always(name) => (name, NGX_HTTP_VAR_NOCACHEABLE),
            Name::Prefix(name) => (name, NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_PREFIX),
        };
        let mut name = ngx_str_t {
            len: name.len(),
            data: name.as_ptr().cast_mut(),
        };
        // SAFETY: nginx copies the name, lower-cased.
        let variable = unsafe { ngx_http_add_variable(cf, &raw mut name, flags as usize) };
        // SAFETY: a new variable in the configuration's pool, or null.
        let Some(variable) = (unsafe { variable.as_mut() }) else {
            return false;
        };
        variable.get_handler = Some(on_get::<M>);
        variable.data = (&raw const *row) as usize;
        if let Name::Prefix(_) = row.name {
            variable.get_handler = Some(on_get_prefix::<M>);
            variable.data = name.data as usize;
        }
        true
    })
}

unsafe extern "C" fn on_get<M: Variables>(
    r: *mut ngx_http_request_t,
    value: *mut ngx_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: `add` has put a row there; nginx calls with a live request.
    unsafe {
        let row = &*std::ptr::with_exposed_provenance::<Variable>(data);
        let request = Request::from_raw(r);
        set(
            request,
            &mut *value,
            guard::<M, _>(|| (row.get)(&request, &[])),
        )
    }
}

/// For a prefixed variable nginx passes the whole name as `data`; the row is found by its prefix.
unsafe extern "C" fn on_get_prefix<M: Variables>(
    r: *mut ngx_http_request_t,
    value: *mut ngx_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: nginx points to the variable's name, and calls with a live request.
    unsafe {
        let name = &*std::ptr::with_exposed_provenance::<ngx_str_t>(data);
        let request = Request::from_raw(r);
        let mut rows = M::variables().iter();
        let found = rows.find_map(|row| match row.name {
            Name::Prefix(prefix) => Some((row, name.as_bytes().strip_prefix(prefix.as_bytes())?)),
            Name::Once(_) | Name::Always(_) => None,
        });
        let found = guard::<M, _>(|| found.and_then(|(row, rest)| (row.get)(&request, rest)));
        set(request, &mut *value, found)
    }
}

fn set(
    request: Request,
    value: &mut ngx_variable_value_t,
    found: Result<Option<Cow<'_, [u8]>>, Panicked>,
) -> ngx_int_t {
    let Ok(found) = found else {
        return NGX_ERROR as ngx_int_t;
    };
    let Some(bytes) = found else {
        value.set_not_found(1);
        return NGX_OK as ngx_int_t;
    };
    let (data, len) = match bytes {
        // The bytes are the request's own, and live as long as it does.
        Cow::Borrowed(bytes) => (bytes.as_ptr().cast_mut(), bytes.len()),
        Cow::Owned(bytes) => {
            // SAFETY: the request is live.
            let copied = pool::copy(unsafe { (*request.as_raw()).pool }, &bytes);
            let Some(copied) = copied else {
                return NGX_ERROR as ngx_int_t;
            };
            (copied.data, copied.len)
        }
    };
    value._bitfield_1 = __BindgenBitfieldUnit::new(valid(len));
    value.data = data;
    NGX_OK as ngx_int_t
}

/// The first word of `ngx_variable_value_t`: 28 bits of `len`, then `valid`, `no_cacheable`,
/// `not_found` and `escape`. The bindings' setters would write bit by bit.
fn valid(len: usize) -> [u8; 4] {
    let len = len as u32;
    if cfg!(target_endian = "little") {
        (len | 1 << 28).to_le_bytes()
    } else {
        (len << 4 | 1 << 3).to_be_bytes()
    }
}

/// The variables used by the configuration, in lower case.
pub struct Used<'a>(&'a [ngx_http_variable_t]);

impl Used<'_> {
    /// # Safety
    /// `cf` is a live configuration within `http`, and is not read any more.
    pub(super) unsafe fn by<'a>(cf: *mut ngx_conf_t) -> Used<'a> {
        // SAFETY: after the configuration is read, the core module lists the variables in use.
        unsafe {
            let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
            let core = *(*context).main_conf.add(ngx_http_core_module.ctx_index);
            Used(
                (*core.cast::<ngx_http_core_main_conf_t>())
                    .variables
                    .as_slice(),
            )
        }
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|variable| variable.name.as_bytes())
    }

    /// Whether `name` is among them.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|used| used == name.as_bytes())
    }

    /// The rest of each name that begins with `prefix`.
    pub fn after(&self, prefix: &str) -> Vec<Vec<u8>> {
        let names = self.names();
        let rest = names.filter_map(|name| name.strip_prefix(prefix.as_bytes()));
        rest.map(<[u8]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_value_is_as_c_reads_it() {
        for len in [0, 1, 3, 512, (1 << 28) - 1] {
            let value = ngx_variable_value_t {
                _bitfield_align_1: [],
                _bitfield_1: __BindgenBitfieldUnit::new(valid(len)),
                data: std::ptr::null_mut(),
            };
            let flags = (value.no_cacheable(), value.not_found(), value.escape());
            assert_eq!(
                (value.len() as usize, value.valid(), flags),
                (len, 1, (0, 0, 0))
            );
        }
    }
}
