//! Values with variables, evaluated by nginx for a request.

use std::ptr::NonNull;

use hub::answer::Text;
use hub::outside::EvaluationFailed;
use nginx_sys::{NGX_OK, ngx_http_complex_value, ngx_http_complex_value_t, ngx_str_t};

use super::request::{Request, bytes};

/// A directive's argument, with its variables, as compiled by nginx.
#[derive(Clone, Copy)]
pub struct ComplexValue(pub(super) NonNull<ngx_http_complex_value_t>);

impl ComplexValue {
    /// The value for this request. It is valid as long as the request.
    ///
    /// # Errors
    /// [`EvaluationFailed`]; nginx has logged why.
    pub fn evaluate(self, request: Request) -> Result<Text, EvaluationFailed> {
        let mut value = ngx_str_t::empty();
        // SAFETY: the value lies in the configuration's pool, the request is live.
        let rc =
            unsafe { ngx_http_complex_value(request.as_ptr(), self.0.as_ptr(), &raw mut value) };
        if rc == NGX_OK as isize {
            Ok(Text::from_slice(value.as_bytes()))
        } else {
            Err(EvaluationFailed)
        }
    }

    /// The text of the argument, with its variables as written.
    pub fn text(self) -> &'static [u8] {
        // SAFETY: the value lies in the configuration's pool, which outlives all requests.
        unsafe { bytes(self.0.as_ref().value) }
    }

    /// True if the argument contains variables: its value differs between requests.
    pub fn has_variables(self) -> bool {
        // SAFETY: the value lies in the configuration's pool.
        !unsafe { self.0.as_ref() }.lengths.is_null()
    }
}
