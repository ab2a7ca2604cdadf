//! Packets over a stream of bytes: TCP, or TLS on it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::packet::Decoder;

/// How much one read takes at most. One buffer per thread serves all connections, so that one with
/// nothing to read holds none.
const READ_BUFFER: usize = 64 * 1024;
/// How many chunks one write takes at most.
const WRITE_CHUNKS: usize = 32;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER]);
}

/// What carries packets to and from one client.
pub(super) trait Transport: Send + Unpin {
    /// Reads once into the decoder; how many bytes, 0 at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>>;

    /// Writes and flushes everything; ready when nothing is left. How many bytes went is added to
    /// `written`.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>>;

    /// Says to the other side that nothing more follows.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A stream of bytes in which packets follow each other.
pub(super) struct Stream<S> {
    io: S,
    /// Whether something was written that the stream may still hold back.
    unflushed: bool,
}

impl<S> Stream<S> {
    pub(super) fn new(io: S) -> Self {
        Self {
            io,
            unflushed: false,
        }
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads once; what came is given to `take`, nothing at the end of the stream.
    pub(super) fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            take(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for Stream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |read| into.feed(read))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        while !from.is_empty() {
            let count = ready!(self.write_some(cx, from))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += count as u64;
            self.unflushed = true;
            advance(from, count);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn write_some(
        &mut self,
        cx: &mut Context<'_>,
        from: &VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if from.len() == 1 || !io.is_write_vectored() {
            return io.poll_write(cx, from.front().map_or(&[], |chunk| chunk));
        }
        let mut slices = [IoSlice::new(&[]); WRITE_CHUNKS];
        for (slice, chunk) in slices.iter_mut().zip(from) {
            *slice = IoSlice::new(chunk);
        }
        io.poll_write_vectored(cx, &slices[..from.len().min(WRITE_CHUNKS)])
    }
}

fn advance(from: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(chunk) = from.front_mut() {
        if count < chunk.len() {
            chunk.advance(count);
            return;
        }
        count -= chunk.len();
        from.pop_front();
    }
    // All is out: an idle connection holds no queue either.
    *from = VecDeque::new();
}
