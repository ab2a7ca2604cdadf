//! Packets over WebSocket, on the server's side. Each outgoing packet has a binary frame of its own,
//! as in nano; incoming packets may be split over text and binary frames in any way.

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
            coding::{CloseCode, Control, Data, OpCode},
        },
    },
};

use super::stream::{SHARE_FROM, Transport};
use crate::packet::{Decoder, HEADER};

mod sync_io;

use self::sync_io::SyncIo;

/// The read buffer of each WebSocket connection, in bytes; it grows to the largest frame.
///
/// The library zeroes the rest of it before every read, so it is small: with 4 KiB and 1,000
/// clients a message took 7 to 12 % more CPU time than with 1 KiB, and 512 bytes are as fast. The
/// socket is read through a larger buffer that all connections of a thread share.
const READ_BUFFER: usize = 512;
/// The most bytes of pongs that wait for the socket. A pong beyond them is replaced by the next one:
/// RFC 6455 asks for an answer to the last ping only.
const PONGS: usize = 512;
/// The longest reason in a close frame, in bytes: a control frame has 125, two are for the code.
const MAX_CLOSE_REASON: usize = 123;
/// The longest header of an unmasked frame, in bytes.
const FRAME_HEAD: usize = 10;

/// One WebSocket connection after its HTTP upgrade.
pub(crate) struct WebSocket<S> {
    /// Reads frames and answers pings and close frames. Outgoing packets bypass it: it would copy
    /// each into a buffer that never shrinks.
    socket: tungstenite::WebSocket<SyncIo<S>>,
    /// Whether the library may have a pong or a close frame to write.
    answering: bool,
    /// Whether a close frame was received.
    closing: bool,
    /// Whether the input was invalid; the rest is discarded.
    failed: bool,
    /// The close code of invalid input.
    fault: Option<CloseCode>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebSocket<S> {
    /// Takes over an upgraded stream; `read` holds the bytes that followed the request. A message
    /// may hold several packets, so its limit is four times `max_packet` bytes.
    pub(crate) fn new(io: S, read: Vec<u8>, max_packet: usize) -> Self {
        let limit = 4 * (max_packet + HEADER);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(PONGS)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let socket = tungstenite::WebSocket::from_partially_read(
            SyncIo::new(io),
            read,
            Role::Server,
            Some(config),
        );
        Self {
            socket,
            answering: false,
            closing: false,
            failed: false,
            fault: None,
        }
    }

    /// Writes the queued frames, then pongs and close frames of the library.
    fn poll_flush(&mut self, cx: &mut Context<'_>, written: &mut u64) -> Poll<io::Result<()>> {
        ready!(self.socket.get_mut().poll_frames(cx, written))?;
        while self.answering {
            match self.socket.flush() {
                // The library reports this once its close frame is written.
                Ok(()) | Err(Error::ConnectionClosed) => {}
                Err(error) => return Poll::Ready(Err(into_io(error))),
            }
            // Once more if a frame was queued: the last pong may have found no room before it.
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
                // The library has queued the answer; the next write sends it.
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
                    self.fault = fault(&error);
                    return Poll::Ready(end_or_error(error));
                }
            }
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.socket.get_mut().poll_discard(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        if !from.is_empty() {
            if self.closing {
                // RFC 6455: nothing follows a close frame.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            frame(mem::take(from), self.socket.get_mut().frames())?;
        }
        self.poll_flush(cx, written)
    }

    /// Queues a close frame, unless the client has sent one, which the library answers. Input that
    /// is no WebSocket, or too much at once, has a code of its own.
    fn close(&mut self, code: Option<u16>, reason: &str) -> io::Result<()> {
        let Some(code) = self.fault.map(u16::from).or(code) else {
            return Ok(());
        };
        if mem::replace(&mut self.closing, true) {
            return Ok(());
        }
        let end = (0..=reason.len().min(MAX_CLOSE_REASON))
            .rev()
            .find(|&end| reason.is_char_boundary(end));
        let reason = &reason[..end.unwrap_or_default()];
        let head = FrameHeader {
            opcode: OpCode::Control(Control::Close),
            ..FrameHeader::default()
        };
        let len = size_of_val(&code) + reason.len();
        let mut frame = BytesMut::with_capacity(FRAME_HEAD + len);
        head.format(len as u64, &mut (&mut frame).writer())
            .map_err(into_io)?;
        frame.put_u16(code);
        frame.put_slice(reason.as_bytes());
        self.socket.get_mut().frames().push_back(frame.freeze());
        Ok(())
    }

    /// Ends the stream below.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.get_mut().poll_shutdown(cx)
    }
}

/// Puts a frame around each packet. Small packets are copied behind each other, large ones stay
/// shared; see [`SHARE_FROM`].
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

/// Cuts the next packet off a chunk of whole packets.
fn next_packet(chunk: &mut Bytes) -> Option<Bytes> {
    let len = HEADER + chunk.get(1..HEADER)?.get_uint(3) as usize;
    Some(chunk.split_to(len.min(chunk.len())))
}

/// A client may go without a close frame: that is the end of the stream, not an error.
fn end_or_error(error: Error) -> io::Result<usize> {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(0),
        error => Err(into_io(error)),
    }
}

/// The close code of RFC 6455 for invalid input.
fn fault(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Capacity(_) => Some(CloseCode::Size),
        _ => None,
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
