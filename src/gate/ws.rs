//! Packets over WebSocket: each in a binary frame of its own, as nano sends them; whatever frames the client likes.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::stream::Transport;
use crate::packet::{Decoder, HEADER};

/// The buffer each WebSocket connection reads through, in bytes. The library fills it with zeros before every read and keeps it for the
/// life of the connection, so it is small.
pub(crate) const READ_BUFFER: usize = 4 * 1024;
/// Frames are gathered up to this size before they are written.
const WRITE_BUFFER: usize = 4 * 1024;

pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// Whether the socket holds something back.
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebSocket<S> {
    /// A connection that has been upgraded; `read` is what came behind the request. A message may hold several packets, so it may be
    /// larger than one.
    pub(super) async fn new(io: S, read: Vec<u8>, max_packet: usize) -> Self {
        let limit = 4 * (max_packet + HEADER);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let inner = WebSocketStream::from_partially_read(io, read, Role::Server, Some(config)).await;
        Self { inner, unflushed: false }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx)).map_err(into_io)?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

/// The next packet of the queue. A chunk holds whole packets.
fn next_packet(from: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let chunk = from.front_mut()?;
    let len = HEADER + chunk.get(1..HEADER)?.get_uint(3) as usize;
    let packet = chunk.split_to(len.min(chunk.len()));
    if chunk.is_empty() {
        from.pop_front();
    }
    Some(packet)
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        loop {
            let Some(message) = ready!(Pin::new(&mut self.inner).poll_next(cx)) else { return Poll::Ready(Ok(0)) };
            match message.map_err(into_io)? {
                Message::Binary(bytes) if !bytes.is_empty() => {
                    into.feed(&bytes);
                    return Poll::Ready(Ok(bytes.len()));
                }
                Message::Text(text) if !text.is_empty() => {
                    into.feed(text.as_bytes());
                    return Poll::Ready(Ok(text.len()));
                }
                // The library answers pings and closing frames; somebody has to flush what it says.
                Message::Ping(_) | Message::Close(_) => self.unflushed = true,
                _ => {}
            }
            if self.unflushed && self.poll_flush(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut VecDeque<Bytes>, written: &mut u64) -> Poll<io::Result<()>> {
        while !from.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(into_io)?;
            let Some(packet) = next_packet(from) else { break };
            *written += packet.len() as u64;
            self.unflushed = true;
            Pin::new(&mut self.inner).start_send(Message::Binary(packet)).map_err(into_io)?;
        }
        *from = VecDeque::new();
        if self.unflushed {
            ready!(self.poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream below, without a closing frame, as nano does.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionAborted.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
