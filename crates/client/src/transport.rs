//! A transport of packets: a byte stream (TCP or TLS), or a WebSocket over one.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    io::{BoxedIo, READ_BUFFER},
    websocket::WebSocket,
};

pub(crate) struct Transport {
    framing: Framing,
    /// Whether written bytes may still be in a buffer of TLS.
    unflushed: bool,
}

enum Framing {
    /// Packets without a separator.
    Stream(BoxedIo),
    WebSocket(Box<WebSocket>),
}

impl Transport {
    pub(crate) fn stream(io: BoxedIo) -> Self {
        Self {
            framing: Framing::Stream(io),
            unflushed: false,
        }
    }

    pub(crate) fn websocket(socket: WebSocket) -> Self {
        Self {
            framing: Framing::WebSocket(Box::new(socket)),
            unflushed: false,
        }
    }

    /// Reads once and passes the bytes to `take`. Returns their count, 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        match &mut self.framing {
            Framing::Stream(io) => {
                let mut buffer = [MaybeUninit::uninit(); READ_BUFFER];
                let mut buffer = ReadBuf::uninit(&mut buffer);
                match ready!(Pin::new(io).poll_read(cx, &mut buffer)) {
                    // TLS without close_notify; many servers omit it.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Poll::Ready(Ok(0));
                    }
                    result => result?,
                }
                take(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Framing::WebSocket(socket) => socket.poll_read(cx, take),
        }
    }

    /// Writes and flushes the whole packets in `from`; ready when none is left.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        match &mut self.framing {
            Framing::Stream(io) => {
                while !from.is_empty() {
                    match ready!(Pin::new(&mut *io).poll_write(cx, from))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        count => from.advance(count),
                    }
                    self.unflushed = true;
                }
                if self.unflushed {
                    ready!(Pin::new(io).poll_flush(cx))?;
                }
            }
            Framing::WebSocket(socket) => {
                // Set until all is written, whatever the socket says before.
                self.unflushed = true;
                ready!(socket.poll_write(cx, from))?;
            }
        }
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Closes the socket at once; reads and writes fail from then on.
    pub(crate) fn abandon(&mut self) {
        self.framing = Framing::Stream(Box::new(tokio::io::join(
            tokio::io::empty(),
            tokio::io::empty(),
        )));
    }

    /// Whether all written bytes, and answers to pings, have reached the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        let answers = matches!(&self.framing, Framing::WebSocket(socket) if socket.has_queued());
        !self.unflushed && !answers
    }

    /// Closes the sending side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.framing {
            Framing::Stream(io) => Pin::new(io).poll_shutdown(cx),
            Framing::WebSocket(socket) => socket.poll_shutdown(cx),
        }
    }
}
