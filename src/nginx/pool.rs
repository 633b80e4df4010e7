//! nginx's pools.

use std::ffi::c_void;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;

use nginx_sys::{ngx_pcalloc, ngx_pool_cleanup_add, ngx_pool_t};

/// Moves `value` to `pool`; it is dropped when the pool is destroyed. `None`: out of memory.
pub(super) fn keep<T>(pool: *mut ngx_pool_t, value: T) -> Option<NonNull<T>> {
    unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
        // SAFETY: `data` is the box that `keep` leaked; nginx runs a cleanup once.
        drop(unsafe { Box::from_raw(data.cast::<T>()) });
    }
    let value = Box::into_raw(Box::new(value));
    // SAFETY: the caller's pool is alive; the cleanup owns the box from here on.
    unsafe {
        let cleanup = ngx_pool_cleanup_add(pool, 0);
        if cleanup.is_null() {
            drop(Box::from_raw(value));
            return None;
        }
        (*cleanup).handler = Some(drop_value::<T>);
        (*cleanup).data = value.cast();
    }
    NonNull::new(value)
}

/// A zeroed `T` in `pool`. `None`: out of memory.
///
/// # Safety
/// `pool` is alive, and all zeroes are a valid `T` (a C struct of nginx's).
pub(super) unsafe fn zeroed<T>(pool: *mut ngx_pool_t) -> Option<NonNull<T>> {
    const { assert!(align_of::<T>() <= 16) };
    // SAFETY: the caller's.
    NonNull::new(unsafe { ngx_pcalloc(pool, size_of::<T>()) }.cast())
}

/// Room for a `T` in the free rest of the pool's last block. `None`: there is no such room, and a
/// larger pool would cost more than the heap does.
pub(super) fn spare_room<T>(pool: *mut ngx_pool_t) -> Option<NonNull<T>> {
    // SAFETY: the pool of a live connection; its current block is where nginx allocates next.
    unsafe {
        let block = (*pool).current;
        let start = (*block).d.last as usize;
        let place = start.next_multiple_of(align_of::<T>());
        let end = place + size_of::<T>();
        if end > (*block).d.end as usize {
            return None;
        }
        let place = (*block).d.last.add(place - start);
        (*block).d.last = (*block).d.last.add(end - start);
        NonNull::new(place.cast())
    }
}

/// Copies `bytes` to `pool`. `None`: out of memory.
pub(super) fn copy(pool: *mut ngx_pool_t, bytes: &[u8]) -> Option<nginx_sys::ngx_str_t> {
    // SAFETY: the caller's pool is alive.
    unsafe { nginx_sys::ngx_str_t::from_bytes(pool, bytes) }
}
