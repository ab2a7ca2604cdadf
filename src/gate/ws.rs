//! Packets over WebSocket: each in a binary frame of its own, as nano sends them; whatever frames
//! the client likes.

use std::{
    collections::VecDeque,
    io, mem,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::{
    self, Error, Message,
    error::ProtocolError,
    protocol::{
        Role, WebSocketConfig,
        frame::{
            FrameHeader,
            coding::{Data, OpCode},
        },
    },
};

use super::{outbox::SHARE_FROM, stream::Transport};
use crate::packet::{Decoder, HEADER};

mod polled;

use self::polled::Polled;

/// The buffer each WebSocket connection keeps, in bytes; it grows to the largest frame. The library
/// fills what is left of it with zeros before every read, so it is small: with 4 KiB and 1,000
/// clients a message took 7 to 12 % more CPU time than with 1 KiB, and half of that is as fast.
/// What is read from the socket goes through a larger one that all connections share.
const READ_BUFFER: usize = 512;
/// How many bytes of pongs may wait for room. What has no place among them is forgotten when the
/// next ping comes: the last one is answered.
const PONGS: usize = 512;
/// The longest head of a frame that is not masked, in bytes.
const FRAME_HEAD: usize = 10;

pub(super) struct WebSocket<S> {
    /// Reads frames, and answers those of the protocol itself. Frames with packets do not pass
    /// through it: it would copy each into a buffer that never shrinks.
    socket: tungstenite::WebSocket<Polled<S>>,
    /// Whether it may have something to say.
    answering: bool,
    /// The client has said that it closes.
    closing: bool,
    /// What came was no WebSocket's.
    failed: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebSocket<S> {
    /// A connection that has been upgraded; `read` is what came behind the request. A message may
    /// hold several packets, so it may be larger than one.
    pub(super) fn new(io: S, read: Vec<u8>, max_packet: usize) -> Self {
        let limit = 4 * (max_packet + HEADER);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(PONGS)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let socket = tungstenite::WebSocket::from_partially_read(
            Polled::new(io),
            read,
            Role::Server,
            Some(config),
        );
        Self {
            socket,
            answering: false,
            closing: false,
            failed: false,
        }
    }

    /// Writes what is queued, and what the library has to say.
    fn poll_flush(&mut self, cx: &mut Context<'_>, written: &mut u64) -> Poll<io::Result<()>> {
        ready!(self.socket.get_mut().poll_frames(cx, written))?;
        while self.answering {
            match self.socket.flush() {
                // Closed is what it is after its closing frame.
                Ok(()) | Err(Error::ConnectionClosed) => {}
                Err(error) => return Poll::Ready(Err(into_io(error))),
            }
            // Once more if it said something: the last pong may have had no place among the others.
            self.answering = !self.socket.get_mut().frames().is_empty();
            ready!(self.socket.get_mut().poll_frames(cx, written))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        let socket = &mut self.socket;
        if self.closing || self.failed {
            return socket.get_mut().poll_discard(cx);
        }
        socket.get_mut().set_waker(cx);
        loop {
            match socket.read() {
                Ok(Message::Binary(bytes)) if !bytes.is_empty() => {
                    into.feed(&bytes);
                    return Poll::Ready(Ok(bytes.len()));
                }
                Ok(Message::Text(text)) if !text.is_empty() => {
                    into.feed(text.as_bytes());
                    return Poll::Ready(Ok(text.len()));
                }
                // The library answers pings and closing frames; what it says goes out with the next
                // write.
                Ok(Message::Ping(_)) => self.answering = true,
                Ok(Message::Close(_)) => {
                    (self.answering, self.closing) = (true, true);
                    return Poll::Ready(Ok(0));
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Pending;
                }
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(end_or_error(error));
                }
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        if !from.is_empty() {
            if self.closing {
                // Nothing follows a closing frame.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            frame(mem::take(from), self.socket.get_mut().frames())?;
        }
        self.poll_flush(cx, written)
    }

    /// Ends the stream below, without a closing frame, as nano does.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.get_mut().poll_shutdown(cx)
    }
}

/// Puts a frame around each packet. Small ones are copied behind each other, so that many leave in
/// one write; large ones are still shared with the other receivers of a broadcast.
fn frame(packets: VecDeque<Bytes>, into: &mut VecDeque<Bytes>) -> io::Result<()> {
    let mut small = BytesMut::new();
    let head = FrameHeader {
        opcode: OpCode::Data(Data::Binary),
        ..FrameHeader::default()
    };
    for mut chunk in packets {
        while let Some(packet) = next_packet(&mut chunk) {
            let share = packet.len() >= SHARE_FROM;
            small.reserve(FRAME_HEAD + if share { 0 } else { packet.len() });
            head.format(packet.len() as u64, &mut (&mut small).writer())
                .map_err(into_io)?;
            if share {
                into.extend([small.split().freeze(), packet]);
            } else {
                small.extend_from_slice(&packet);
            }
        }
    }
    if !small.is_empty() {
        into.push_back(small.freeze());
    }
    Ok(())
}

/// The next packet of a chunk, which holds whole ones.
fn next_packet(chunk: &mut Bytes) -> Option<Bytes> {
    let len = HEADER + chunk.get(1..HEADER)?.get_uint(3) as usize;
    Some(chunk.split_to(len.min(chunk.len())))
}

/// Clients go away without a closing frame too.
fn end_or_error(error: Error) -> io::Result<usize> {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(0),
        error => Err(into_io(error)),
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
