//! A polled stream as `std::io::Read` and `Write`, for a library that uses these.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::stream::{Stream, Transport};

/// Adapts a [`Stream`]: what would wait returns `WouldBlock` and wakes the stored waker later.
pub(super) struct SyncIo<S> {
    stream: Stream<S>,
    /// Woken when a read that returned `WouldBlock` can go on.
    waker: Waker,
    /// Bytes read from the socket and not yet by the library, which asks for few at a time.
    unread: Bytes,
    /// Whole frames, except that a part of the first may be written already. The library's frames
    /// wait until it is empty.
    frames: VecDeque<Bytes>,
}

impl<S> SyncIo<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: Stream::new(stream),
            waker: Waker::noop().clone(),
            unread: Bytes::new(),
            frames: VecDeque::new(),
        }
    }

    pub(super) fn set_waker(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> SyncIo<S> {
    /// The queue of frames that [`poll_frames`](SyncIo::poll_frames) writes.
    pub(super) fn frames(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.frames
    }

    /// Writes the queued frames; ready when none is left. Adds the number of bytes to `written`.
    pub(super) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_write(cx, &mut self.frames, written)
    }

    /// Reads once, discards the bytes and returns their number, 0 at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.unread = Bytes::new();
        self.stream.poll_read_with(cx, |_| ())
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> Read for SyncIo<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut take = |read: &[u8]| {
            let count = read.len().min(into.len());
            into[..count].copy_from_slice(&read[..count]);
            count
        };
        if self.unread.is_empty() {
            let (mut cx, mut count) = (Context::from_waker(&self.waker), 0);
            let read = self.stream.poll_read_with(&mut cx, |read| {
                count = take(read);
                self.unread = Bytes::copy_from_slice(&read[count..]);
            });
            return match read {
                Poll::Ready(result) => result.map(|_| count),
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let count = take(&self.unread);
        self.unread.advance(count);
        if self.unread.is_empty() {
            // An empty slice would still hold its memory.
            self.unread = Bytes::new();
        }
        Ok(count)
    }
}

/// Used by the library for its own frames only: pongs and a close frame.
impl<S> Write for SyncIo<S> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        if !self.frames.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.frames.push_back(Bytes::copy_from_slice(frame));
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
