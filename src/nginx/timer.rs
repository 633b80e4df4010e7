//! The module's only timer in a worker, and its only posted event.

use std::ffi::c_void;

use nginx_sys::{
    ngx_add_timer, ngx_connection_t, ngx_cycle, ngx_del_timer, ngx_delete_posted_event,
    ngx_event_t, ngx_post_event, ngx_posted_next_events,
};

use super::process;

type Handler = unsafe extern "C" fn(*mut ngx_event_t);

/// When a host wants to be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// The time of the timer, by [`process::now`]; `None` for never.
    pub due: Option<u64>,
    /// A quitting process must wait for the timer.
    pub owed: bool,
    /// The posted event is wanted in the next round of the event loop.
    pub turn: bool,
}

/// The timer and the posted event of a worker. Both call its host.
pub(super) struct Timer {
    timer: Box<ngx_event_t>,
    turn: Box<ngx_event_t>,
    due: Option<u64>,
    /// The owner of the events: nginx's debug log reads its descriptor.
    _nobody: Box<ngx_connection_t>,
}

impl Timer {
    /// Both are idle at first, so an idle worker has no timer of ours.
    pub(super) fn new(on_timer: Handler, on_turn: Handler) -> Timer {
        // SAFETY: nginx makes its own connections by zeroing them.
        let mut nobody: Box<ngx_connection_t> = Box::new(unsafe { std::mem::zeroed() });
        nobody.fd = -1;
        let data = (&raw mut *nobody).cast();
        Timer {
            timer: blank(on_timer, data),
            turn: blank(on_turn, data),
            due: None,
            _nobody: nobody,
        }
    }

    /// Sets timer and event as the host wants.
    pub(super) fn set(&mut self, wants: Wants) {
        self.timer.set_cancelable(u32::from(!wants.owed));
        self.wait_until(wants.due);
        if wants.turn {
            self.next_turn();
        }
    }

    fn wait_until(&mut self, due: Option<u64>) {
        if due == self.due && (due.is_none() || self.timer.timer_set() != 0) {
            return;
        }
        self.due = due;
        // SAFETY: the event is boxed, so its place in the tree stays; one thread.
        unsafe {
            if self.timer.timer_set() != 0 {
                ngx_del_timer(&raw mut *self.timer);
            }
            if let Some(due) = due {
                let wait = due.saturating_sub(process::now()).max(1);
                ngx_add_timer(&raw mut *self.timer, wait as usize);
            }
        }
    }

    /// Posts to the next round of the event loop, which begins by polling the sockets:
    /// `ngx_posted_events` would be run before nginx returns to epoll.
    fn next_turn(&mut self) {
        // SAFETY: the event is boxed; the queue is nginx's; one thread.
        unsafe { ngx_post_event(&raw mut *self.turn, &raw mut ngx_posted_next_events) };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: takes the events out of nginx's tree and queue before their memory goes.
        unsafe {
            if self.timer.timer_set() != 0 {
                ngx_del_timer(&raw mut *self.timer);
            }
            if self.turn.posted() != 0 {
                ngx_delete_posted_event(&raw mut *self.turn);
            }
        }
    }
}

fn blank(handler: Handler, data: *mut c_void) -> Box<ngx_event_t> {
    // SAFETY: nginx makes its own events by zeroing them (ngx_pcalloc).
    let mut event: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
    event.handler = Some(handler);
    event.data = data;
    // SAFETY: the cycle and its log live as long as the process.
    event.log = unsafe { (*ngx_cycle).log };
    event
}
