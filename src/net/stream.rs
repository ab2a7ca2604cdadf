//! Packets over a byte stream: TCP, or TLS on TCP.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::packet::{self, Decoder};

/// The most bytes one read takes. All connections of a thread share one buffer, so that an idle
/// connection holds none.
const READ_BUFFER: usize = 64 * 1024;
/// The most chunks one vectored write takes.
const WRITE_CHUNKS: usize = 32;
/// Packets below this size, in bytes, are copied behind each other, so that many leave in one
/// write. Larger ones stay as they are, shared with the other receivers of a broadcast.
pub(crate) const SHARE_FROM: usize = 4 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER]);
}

/// Carries packets to and from one client.
///
/// Implemented by this crate for TCP, TLS and WebSocket; an application implements it for others and
/// gives the node an [`Acceptor`](crate::transport::Acceptor). A byte stream such as a Unix socket
/// needs no implementation: [`Stream`] is one.
///
/// Packets may be split and joined on the way in: the decoder cuts them. On the way out a transport
/// of messages may send each chunk as one message. All methods are polled by one task, and must not
/// block.
pub trait Transport: Send + Unpin + 'static {
    /// Reads once into the decoder and returns the number of bytes, 0 at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>>;

    /// Returns how many frames without a byte of a packet were read since the last call, such as
    /// pings; a byte stream has none. They cost work, so they count against the rate of messages.
    fn take_overhead(&mut self) -> usize {
        0
    }

    /// Reads once, discards the bytes and returns their number, 0 at the end of the stream. Called
    /// while a connection closes.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_read(cx, &mut Decoder::new(packet::MAX_BODY))
    }

    /// Writes and flushes everything; ready when nothing is left. Adds the number of bytes that
    /// were written to `written`, also when it is not ready. Each chunk of `from` holds whole
    /// packets.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>>;

    /// Whether the client has said that it does not come back: a close frame with code 1000. A byte
    /// stream has no such thing.
    fn is_final_close(&self) -> bool {
        false
    }

    /// Queues what tells the client why nothing follows, with a close code of RFC 6455; nothing
    /// without a code, unless the transport has one of its own. The next `poll_write` writes it. A
    /// byte stream has no such thing.
    ///
    /// # Errors
    /// It cannot be encoded.
    fn close(&mut self, _code: Option<u16>, _reason: &str) -> io::Result<()> {
        Ok(())
    }

    /// Ends the outgoing direction of the stream.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A byte stream in which packets follow each other: the [`Transport`] of TCP, TLS and Unix sockets.
#[derive(Debug)]
pub struct Stream<S> {
    io: S,
    /// Whether bytes were written since the last flush: TLS buffers.
    unflushed: bool,
}

impl<S> Stream<S> {
    /// Wraps a connected stream.
    pub fn new(io: S) -> Self {
        Self {
            io,
            unflushed: false,
        }
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads once and passes the bytes to `take`; an empty slice at the end of the stream.
    pub(crate) fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut [u8]),
    ) -> Poll<io::Result<usize>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            take(buffer.filled_mut());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for Stream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |read| into.feed(read))
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |_| ())
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
}
