//! Sends of a fan-out by io_uring: one system call for thousands of sockets.
//!
//! Each send is `IORING_OP_SEND` with `MSG_DONTWAIT`, so the kernel tries it at once and never
//! waits. When `io_uring_enter(2)` returns, all are done, and no buffer has to be kept. With
//! `IOSQE_CQE_SKIP_SUCCESS` only failed sends produce a completion, and `MSG_WAITALL` makes the
//! kernel count a short send as failed.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types::Fd};

use hub::outside::Sent;

/// Most sends in one system call.
const ENTRIES: u32 = 4096;

/// A worker's ring. Only its own thread may use it.
pub struct Ring {
    ring: IoUring,
}

impl Ring {
    /// Opens a ring and tests that it sends as this module needs.
    ///
    /// # Errors
    /// The kernel has no such io_uring, or a sandbox forbids it.
    pub fn open() -> Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_submit_all()
            .build(ENTRIES)?;
        let missing = |what| Err(Error::new(ErrorKind::Unsupported, what));
        if !ring.params().is_feature_skip_cqe_on_success() {
            return missing("the kernel cannot leave out completions");
        }
        let mut ring = Ring { ring };
        if !ring.behaves()? {
            return missing("the kernel does not tell of short sends");
        }
        Ok(ring)
    }

    /// How many sockets [`Ring::send_each`] takes at a time.
    pub fn capacity(&self) -> usize {
        ENTRIES as usize
    }

    /// Offers `bytes` to each socket, and reports those that did not take all: index and outcome.
    /// Negative sockets are skipped.
    ///
    /// # Errors
    /// The kernel refused. The number says how many sockets, counted from the first, were offered
    /// the bytes. The ring must not be used any more.
    pub fn send_each(
        &mut self,
        sockets: &[i32],
        bytes: &[u8],
        mut short: impl FnMut(usize, Sent),
    ) -> std::result::Result<(), (usize, Error)> {
        debug_assert!(sockets.len() <= self.capacity());
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for (place, &socket) in sockets.iter().enumerate().filter(|(_, fd)| **fd >= 0) {
            let entry = send(socket, bytes.as_ptr(), length).user_data(place as u64);
            // SAFETY: the bytes outlive the call of `submit` below, in which the kernel finishes
            // with them. The queue has space: it is empty between calls.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_err() {
                short(place, Sent::Again);
            }
        }
        let submitted = self.submit();
        for completion in self.ring.completion() {
            let place = completion.user_data() as usize;
            short(place, outcome(completion.result()));
        }
        submitted.map_err(|(left, cause)| {
            let plain = (0..sockets.len()).filter(|&place| sockets[place] >= 0);
            (plain.rev().nth(left - 1).unwrap_or(0), cause)
        })
    }

    /// Hands the queue to the kernel. An error says how many entries the kernel has not taken.
    fn submit(&mut self) -> std::result::Result<(), (usize, Error)> {
        loop {
            let result = self.ring.submit();
            let left = self.ring.submission().len();
            match result {
                _ if left == 0 => return Ok(()),
                // The kernel was interrupted, or short of a resource, between two entries.
                Ok(taken) if taken > 0 => {}
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Ok(_) => return Err((left, ErrorKind::WriteZero.into())),
                Err(cause) => return Err((left, cause)),
            }
        }
    }

    /// Tests on a pair of sockets everything that the module relies on.
    fn behaves(&mut self) -> Result<bool> {
        let (ours, _theirs) = socket_pair()?;
        let socket = [ours.as_raw_fd()];
        let more_than_fits = vec![0; 4 << 20];
        let mut tell = |bytes: &[u8]| {
            let mut told = None;
            self.send_each(&socket, bytes, |_, sent| told = Some(sent))
                .map(|()| told)
                .map_err(|(_, cause)| cause)
        };
        let whole = tell(b"fits")?;
        let part = tell(&more_than_fits)?;
        let none = tell(b"has no room")?;
        Ok(whole.is_none()
            && matches!(part, Some(Sent::Bytes(count)) if count < more_than_fits.len())
            && none == Some(Sent::Again))
    }
}

fn send(socket: i32, bytes: *const u8, length: u32) -> Entry {
    opcode::Send::new(Fd(socket), bytes, length)
        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
}

fn outcome(result: i32) -> Sent {
    const AGAIN: i32 = -libc::EAGAIN;
    const INTERRUPTED: i32 = -libc::EINTR;
    match result {
        0.. => Sent::Bytes(result as usize),
        AGAIN | INTERRUPTED => Sent::Again,
        _ => Sent::Failed,
    }
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    Ok((ours.into(), theirs.into()))
}
