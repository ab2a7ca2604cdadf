//! A deadline for progress: of responses that the client does not read, and of bodies that it does
//! not send.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// The bytes that have to move within each period, so that a drip is no progress.
const PROGRESS: usize = 1024;

/// What the parts of one HTTP connection tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Whether the socket takes no more at the moment.
    blocked: AtomicBool,
    /// Whether there was no progress for a period: the connection ends.
    stalled: AtomicBool,
    /// Whether anything was written.
    written: AtomicBool,
}

impl Signals {
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(super) fn has_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }
}

/// Measures the progress of one direction.
struct Progress {
    period: Duration,
    /// Bytes since the deadline was set.
    moved: usize,
    /// Set while something waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    fn new(period: Duration) -> Self {
        Self {
            period,
            moved: 0,
            deadline: None,
        }
    }

    fn advance(&mut self, count: usize) {
        self.moved += count;
        if self.moved >= PROGRESS {
            self.finish();
        }
    }

    /// Nothing waits any more.
    fn finish(&mut self) {
        (self.moved, self.deadline) = (0, None);
    }

    /// Ready once too little has moved for a period.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let period = self.period;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(period)));
        // A reader that was busy itself gets one more look at what has arrived.
        if deadline.is_elapsed() || deadline.deadline() <= Instant::now() {
            return Poll::Ready(());
        }
        deadline.as_mut().poll(cx)
    }
}

/// A stream whose writes fail once the other side has not read for a period.
pub(super) struct ProgressIo<S> {
    pub(super) io: S,
    progress: Progress,
    signals: Arc<Signals>,
}

impl<S> ProgressIo<S> {
    pub(super) fn new(io: S, period: Duration, signals: Arc<Signals>) -> Self {
        Self {
            io,
            progress: Progress::new(period),
            signals,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.signals.is_stalled() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Ends a wait, or fails when it takes too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let blocked = result.is_pending();
        self.signals.blocked.store(blocked, Ordering::Relaxed);
        if blocked && self.progress.poll_stalled(cx).is_ready() {
            self.signals.stalled.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProgressIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProgressIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &result {
            self.signals.written.store(true, Ordering::Relaxed);
            self.progress.advance(*count);
        }
        self.watch(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        if result.is_ready() {
            self.progress.finish();
        }
        self.watch(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A request body that fails, and its connection with it, once it has not arrived for a period.
pub(super) struct ProgressBody {
    body: Incoming,
    progress: Progress,
    signals: Arc<Signals>,
}

impl ProgressBody {
    pub(super) fn new(body: Incoming, period: Duration, signals: Arc<Signals>) -> Self {
        Self {
            body,
            progress: Progress::new(period),
            signals,
        }
    }
}

impl Body for ProgressBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.progress
                    .advance(frame.data_ref().map_or(0, Buf::remaining));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.progress.poll_stalled(cx).is_ready() => {
                self.signals.stalled.store(true, Ordering::Relaxed);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the body does not arrive");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
