//! A transport of packets: a byte stream (TCP or TLS), or a WebSocket over one.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, error::ProtocolError, protocol::WebSocketConfig},
};

use nano_protocol::packet::{HEADER, packet_len};

/// The buffer of one read from a stream, in bytes. It is on the stack, so a thousand idle bots hold
/// no buffers.
const READ_BUFFER: usize = 16 * 1024;
/// The read buffer that each WebSocket keeps, in bytes.
const WEBSOCKET_READ_BUFFER: usize = 4 * 1024;
/// WebSocket frames are collected up to this size before they are written, in bytes.
const WEBSOCKET_WRITE_BUFFER: usize = 64 * 1024;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxedIo = Box<dyn Io>;

pub(crate) struct Transport {
    framing: Framing,
    /// Whether written bytes may still be in a buffer of TLS or of the WebSocket.
    unflushed: bool,
}

enum Framing {
    /// Packets without a separator.
    Stream(BoxedIo),
    /// Each packet is sent in one binary message. When reading, messages are only chunks of bytes:
    /// text or binary, with any number of packets.
    WebSocket(Box<WebSocketStream<BoxedIo>>),
}

/// A message may hold several packets, so its limit is a multiple of the packet limit.
pub(crate) fn websocket_config(max_packet: usize) -> WebSocketConfig {
    let limit = 4 * (max_packet + HEADER);
    WebSocketConfig::default()
        .read_buffer_size(WEBSOCKET_READ_BUFFER)
        .write_buffer_size(WEBSOCKET_WRITE_BUFFER)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
}

impl Transport {
    pub(crate) fn stream(io: BoxedIo) -> Self {
        Self {
            framing: Framing::Stream(io),
            unflushed: false,
        }
    }

    pub(crate) fn websocket(socket: WebSocketStream<BoxedIo>) -> Self {
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
            Framing::WebSocket(socket) => loop {
                match ready!(Pin::new(&mut **socket).poll_next(cx)) {
                    Some(Ok(message @ (Message::Binary(_) | Message::Text(_))))
                        if !message.is_empty() =>
                    {
                        let bytes = message.into_data();
                        take(&bytes);
                        return Poll::Ready(Ok(bytes.len()));
                    }
                    Some(Ok(Message::Close(_))) => {
                        // The library has queued the closing reply; one attempt to send it is
                        // enough.
                        let _ = Pin::new(&mut **socket).poll_flush(cx);
                        return Poll::Ready(Ok(0));
                    }
                    // A ping: the library has queued the pong, and the next write flushes it.
                    Some(Ok(_)) => self.unflushed = true,
                    Some(Err(error)) => return Poll::Ready(end_or_error(error)),
                    None => return Poll::Ready(Ok(0)),
                }
            },
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
                let mut socket = Pin::new(&mut **socket);
                while let Some(len) = packet_len(from) {
                    ready!(socket.as_mut().poll_ready(cx)).map_err(into_io)?;
                    socket
                        .as_mut()
                        .start_send(Message::Binary(from.split_to(len).freeze()))
                        .map_err(into_io)?;
                    self.unflushed = true;
                }
                if self.unflushed {
                    ready!(socket.poll_flush(cx)).map_err(into_io)?;
                }
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

    /// Whether all written bytes have reached the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Closes the sending side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.framing {
            Framing::Stream(io) => Pin::new(io).poll_shutdown(cx),
            Framing::WebSocket(socket) => Pin::new(&mut **socket).poll_close(cx).map_err(into_io),
        }
    }
}

/// Go nano ends a WebSocket without a close frame, so that counts as an end and not as an error.
fn end_or_error(error: Error) -> io::Result<usize> {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(0),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        error => Err(into_io(error)),
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionAborted.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
