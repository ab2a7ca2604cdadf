//! A stream that is polled, as a library sees it that reads and writes until it would block.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::gate::stream::{Stream, Transport};

pub(super) struct Polled<S> {
    stream: Stream<S>,
    /// Whom to wake when what would have blocked goes on.
    waker: Waker,
    /// Read already, and not taken yet: the library asks for little at a time.
    unread: Bytes,
    /// Whole frames, but for the part of the first that is out already. Whoever writes something
    /// else waits for them.
    frames: VecDeque<Bytes>,
}

impl<S> Polled<S> {
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

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Polled<S> {
    /// Where frames are queued; to be written by [`poll_frames`](Polled::poll_frames).
    pub(super) fn frames(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.frames
    }

    /// Writes the queued frames; ready when none is left. How many bytes went is added to
    /// `written`.
    pub(super) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_write(cx, &mut self.frames, written)
    }

    /// Reads and forgets; how many bytes, 0 at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.unread = Bytes::new();
        self.stream.poll_read_with(cx, |_| ())
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> Read for Polled<S> {
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
            // It would still hold its memory.
            self.unread = Bytes::new();
        }
        Ok(count)
    }
}

/// Only for what the library says by itself, pongs and a closing frame.
impl<S> Write for Polled<S> {
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
