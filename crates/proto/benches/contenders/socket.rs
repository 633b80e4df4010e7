//! A socket in memory: its client sends the same stream again and again.
//!
//! The speed of a copy depends on where in their pages source and destination lie: an unlucky pair
//! is up to ten times slower. Both ends are moved now and then, so that no contender wins by luck.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Row;

/// Sent bytes beyond this many are dropped, as if the client had taken them.
const SEND_BUFFER: usize = 2 << 20;

const PAGE: usize = 4096;
/// The stream stays in one place for this many turns.
const TURNS: usize = 64;
/// The distance from one place to the next, modulo a page. It is a prime, so that all alignments
/// occur.
const STRIDE: usize = 1543;

pub struct Socket {
    /// The stream and a page for it to move in.
    memory: Vec<u8>,
    stream: Range<usize>,
    turns: usize,
    at: usize,
    read_bytes: usize,
    sent: Rc<RefCell<Vec<u8>>>,
    /// Where in its page the sent data begins.
    sent_from: usize,
}

impl Socket {
    pub fn new(row: &Row) -> Self {
        Self {
            memory: [&row.stream[..], &[0; PAGE]].concat(),
            stream: 0..row.stream.len(),
            turns: 0,
            at: 0,
            read_bytes: row.read_bytes,
            sent: Rc::new(RefCell::new(Vec::with_capacity(SEND_BUFFER))),
            sent_from: 0,
        }
    }

    /// What has been sent.
    pub fn sent(&self) -> Rc<RefCell<Vec<u8>>> {
        self.sent.clone()
    }

    /// A read gives at most this many bytes.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// The bytes of one read, at most `room`. A read stops at the stream's end, and the next begins
    /// anew.
    pub fn next(&mut self, room: usize) -> &[u8] {
        if self.at == self.stream.len() {
            self.begin_anew();
        }
        let begin = self.at;
        self.at += room.min(self.read_bytes).min(self.stream.len() - begin);
        &self.memory[self.stream.clone()][begin..self.at]
    }

    fn begin_anew(&mut self) {
        self.at = 0;
        self.turns += 1;
        if self.turns.is_multiple_of(TURNS) {
            let begin = (self.stream.start + STRIDE) % PAGE;
            let moved = begin..begin + self.stream.len();
            self.memory.copy_within(self.stream.clone(), begin);
            self.stream = moved;
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let mut sent = self.sent.borrow_mut();
        if sent.len() + bytes.len() > SEND_BUFFER {
            self.sent_from = (self.sent_from + STRIDE) % PAGE;
            sent.clear();
            sent.resize(self.sent_from, 0);
        }
        sent.extend_from_slice(bytes);
    }

    pub fn send_all(&mut self, slices: &[io::IoSlice<'_>]) -> usize {
        slices.iter().for_each(|slice| self.send(slice));
        slices.iter().map(|slice| slice.len()).sum()
    }
}

impl io::Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(buf.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl io::Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(buf);
        Ok(buf.len())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.send_all(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tokio::io::AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(self.next(buf.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Write::write(&mut *self, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.send_all(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl futures_util::AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Read::read(&mut *self, buf))
    }
}

impl futures_util::AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Write::write(&mut *self, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.send_all(slices)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
