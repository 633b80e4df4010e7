//! nginx's pools: allocations in them, and what is given back.

use std::ffi::c_void;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;

use nginx_sys::{
    ngx_pcalloc, ngx_pool_cleanup_add, ngx_pool_data_t, ngx_pool_large_t, ngx_pool_t, ngx_str_t,
};
use smallvec::SmallVec;

/// Moves `value` to `pool`. It is dropped when the pool is destroyed. `None`: out of memory.
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

/// Space for a `T` in the free rest of the pool's current block, where nginx allocates next, and
/// how many bytes of the block it takes, alignment included. `None`: there is not enough, and a
/// larger pool would cost more than the heap does.
pub(super) fn spare_room<T>(pool: *mut ngx_pool_t) -> Option<(NonNull<T>, usize)> {
    // SAFETY: the pool of a live connection, and one of its blocks.
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
        Some((NonNull::new(place.cast())?, end - start))
    }
}

/// Whether the pool still has only the block that it was created with, besides large allocations.
///
/// # Safety
/// `pool` is alive.
pub(super) unsafe fn is_one_block(pool: *const ngx_pool_t) -> bool {
    // SAFETY: the caller's.
    unsafe { (*pool).d.next.is_null() }
}

/// Copies `bytes` to `pool`. `None`: out of memory.
pub(super) fn copy(pool: *mut ngx_pool_t, bytes: &[u8]) -> Option<ngx_str_t> {
    // SAFETY: the caller's pool is alive.
    unsafe { ngx_str_t::from_bytes(pool, bytes) }
}

/// What a request has left in its connection's pool: seldom more than a buffer and realip's text.
pub(super) type PoolRemains = SmallVec<[Unused; 4]>;

/// Memory that was allocated from a pool and is not used any more.
pub(super) struct Unused {
    start: *mut u8,
    end: *mut u8,
}

impl Unused {
    /// The `bytes` of a pool that end at `end`.
    ///
    /// # Safety
    /// They are one allocation of the pool's, padding in front of it included, or lie in no pool.
    /// They are not read or written again, and no list of the pool's has them.
    pub(super) unsafe fn before<T>(end: *mut T, bytes: usize) -> Unused {
        let end = end.cast::<u8>();
        let start = end.wrapping_sub(bytes);
        Unused { start, end }
    }

    /// What `place` points to.
    ///
    /// # Safety
    /// As for [`Unused::before`].
    pub(super) unsafe fn at<T>(place: *mut T) -> Unused {
        // SAFETY: the caller's.
        unsafe { Unused::before(place.wrapping_add(1), size_of::<T>()) }
    }
}

/// Gives unused memory back to `pool`, as far as nothing that is in use lies behind it. nginx
/// itself gives back only what was too large for a block. A further block that becomes empty is
/// freed.
///
/// The end of a block (`d.last`) is the end of the last allocation from it. While that is one of
/// `unused`, or nginx's record of a freed large allocation, the end is moved to where it began.
///
/// # Safety
/// `pool` is alive.
pub(super) unsafe fn give_back(pool: *mut ngx_pool_t, unused: &[Unused]) {
    // SAFETY: the blocks of a live pool. What is cut off is not in use: the caller has said so for
    // `unused`, and nginx takes any record without an allocation for its next one.
    unsafe {
        cut(pool, pool, unused);
        let mut before = pool;
        loop {
            let block = (*before).d.next;
            if block.is_null() {
                return;
            }
            cut(pool, block, unused);
            // As `ngx_palloc_block` starts one: its header is the first part of the pool's.
            let start = block.cast::<u8>().add(size_of::<ngx_pool_data_t>());
            if (*block).d.last > start {
                before = block;
                continue;
            }
            (*before).d.next = (*block).d.next;
            if (*pool).current == block {
                (*pool).current = pool;
            }
            libc::free(block.cast());
        }
    }
}

/// # Safety
/// As [`give_back`], for one of the pool's blocks.
unsafe fn cut(pool: *mut ngx_pool_t, block: *mut ngx_pool_t, unused: &[Unused]) {
    // SAFETY: the caller's.
    unsafe {
        loop {
            let last = (*block).d.last;
            let ends_there = |piece: &&Unused| piece.end == last && piece.start < last;
            (*block).d.last = match unused.iter().find(ends_there) {
                Some(piece) => piece.start,
                None => match unlink_note(pool, last) {
                    Some(start) => start,
                    None => return,
                },
            };
        }
    }
}

/// Unlinks the record of a freed large allocation that ends at `end`. Returns where it begins.
///
/// # Safety
/// `pool` is alive.
unsafe fn unlink_note(pool: *mut ngx_pool_t, end: *mut u8) -> Option<*mut u8> {
    // SAFETY: the records of a live pool.
    unsafe {
        let mut place: *mut *mut ngx_pool_large_t = &raw mut (*pool).large;
        while let Some(note) = (*place).as_mut() {
            let start = *place;
            if start.add(1).cast() == end && note.alloc.is_null() {
                *place = note.next;
                return Some(start.cast());
            }
            place = &raw mut note.next;
        }
        None
    }
}
