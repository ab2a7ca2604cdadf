//! What carries packets to and from the server: a stream of bytes (TCP, or TLS on it), or a
//! WebSocket on one.

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

use crate::packet::HEADER;

/// How much one read of a stream takes at most, in bytes. It lives on the stack, so that a thousand
/// idle bots hold no buffers.
const READ_BUFFER: usize = 16 * 1024;
/// The buffer each WebSocket keeps, in bytes.
const WEBSOCKET_READ_BUFFER: usize = 4 * 1024;
/// WebSocket frames are gathered up to this size before they are written, in bytes.
const WEBSOCKET_WRITE_BUFFER: usize = 64 * 1024;

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(super) type BoxedIo = Box<dyn Io>;

pub(super) struct Transport {
    framing: Framing,
    /// Whether something was written that may still be held back.
    unflushed: bool,
}

enum Framing {
    /// Packets follow each other.
    Stream(BoxedIo),
    /// Each packet leaves in a binary frame of its own. They are read from frames of any kind,
    /// several in one or one in several.
    WebSocket(Box<WebSocketStream<BoxedIo>>),
}

/// A message may hold several packets, so it may be larger than one.
pub(super) fn websocket_config(max_packet: usize) -> WebSocketConfig {
    let limit = 4 * (max_packet + HEADER);
    WebSocketConfig::default()
        .read_buffer_size(WEBSOCKET_READ_BUFFER)
        .write_buffer_size(WEBSOCKET_WRITE_BUFFER)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
}

impl Transport {
    pub(super) fn stream(io: BoxedIo) -> Self {
        Self {
            framing: Framing::Stream(io),
            unflushed: false,
        }
    }

    pub(super) fn websocket(socket: WebSocketStream<BoxedIo>) -> Self {
        Self {
            framing: Framing::WebSocket(Box::new(socket)),
            unflushed: false,
        }
    }

    /// Reads once; how many bytes `take` was given, 0 at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        match &mut self.framing {
            Framing::Stream(io) => {
                let mut buffer = [MaybeUninit::uninit(); READ_BUFFER];
                let mut buffer = ReadBuf::uninit(&mut buffer);
                match ready!(Pin::new(io).poll_read(cx, &mut buffer)) {
                    // How TLS names an end that was not announced; many servers do not.
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
                        // The library has queued the answer. If it does not leave at once, nobody
                        // misses it.
                        let _ = Pin::new(&mut **socket).poll_flush(cx);
                        return Poll::Ready(Ok(0));
                    }
                    // The library answers pings; the next write flushes what it says.
                    Some(Ok(_)) => self.unflushed = true,
                    Some(Err(error)) => return Poll::Ready(end_or_error(error)),
                    None => return Poll::Ready(Ok(0)),
                }
            },
        }
    }

    /// Writes and flushes the packets in `from`; ready when nothing is left.
    pub(super) fn poll_write(
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

    /// Whether all that was written has left.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Says to the server that nothing more follows.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.framing {
            Framing::Stream(io) => Pin::new(io).poll_shutdown(cx),
            Framing::WebSocket(socket) => Pin::new(&mut **socket).poll_close(cx).map_err(into_io),
        }
    }
}

/// The length of the first packet, header included, of a buffer of whole packets.
fn packet_len(packets: &[u8]) -> Option<usize> {
    let mut header = packets.get(1..HEADER)?;
    Some(HEADER + header.get_uint(3) as usize)
}

/// Servers of nano end a WebSocket without a closing frame.
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
