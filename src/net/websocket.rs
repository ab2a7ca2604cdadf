//! Packets over WebSocket, on the server's side. Each outgoing packet has a binary frame of its own,
//! as in nano; incoming packets may be split over text and binary frames in any way.

use std::{
    collections::VecDeque,
    io, mem,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use nano_protocol::websocket::{
    Event, Fault, FrameReader, MAX_CONTROL, MAX_HEAD, Opcode, control, put_head,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::{SHARE_FROM, Stream, Transport};
use crate::packet::{Decoder, HEADER};

/// The most bytes of pongs that wait for the socket. A pong beyond them is replaced by the next one:
/// RFC 6455 asks for an answer to the last ping only.
const PONGS: usize = 2 * 1024;

/// The close code of a client that does not come back, as it is in the frame.
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

/// One WebSocket connection after its HTTP upgrade.
pub(crate) struct WebSocket<S> {
    stream: Stream<S>,
    reader: FrameReader,
    /// The bytes that followed the request and are not read yet.
    unread: Vec<u8>,
    /// Whole frames, except that a part of the first may be written already.
    frames: VecDeque<Bytes>,
    pongs: Pongs,
    /// Frames without a byte of a packet since they were last asked for.
    overhead: usize,
    input: Input,
    /// Whether a close frame is queued or written: nothing follows it.
    closing: bool,
    /// Whether the client has closed with code 1000.
    final_close: bool,
}

/// Whether frames are read.
#[derive(Debug, Clone, Copy)]
enum Input {
    Open,
    /// The client has closed, or broken the protocol: reported once all bytes before are.
    Ended(Option<Fault>),
    /// That is reported. The rest is discarded.
    Reported(Option<Fault>),
}

/// Pongs that wait for the socket.
#[derive(Debug, Default)]
struct Pongs {
    /// Whole frames, [`PONGS`] bytes at most.
    queued: Vec<u8>,
    /// The last one, if it found no room.
    last: Option<Vec<u8>>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> WebSocket<S> {
    /// Takes over an upgraded stream; `read` holds the bytes that followed the request. A message
    /// may hold several packets, so its limit is four times `max_packet` bytes.
    pub(crate) fn new(io: S, read: Vec<u8>, max_packet: usize) -> Self {
        Self {
            stream: Stream::new(io),
            reader: FrameReader::of_client(4 * (max_packet + HEADER) as u64),
            unread: read,
            frames: VecDeque::new(),
            pongs: Pongs::default(),
            overhead: 0,
            input: Input::Open,
            closing: false,
            final_close: false,
        }
    }

    /// Writes the queued frames, then pongs. Neither is written inside of the other.
    fn poll_flush(&mut self, cx: &mut Context<'_>, written: &mut u64) -> Poll<io::Result<()>> {
        ready!(self.stream.poll_write(cx, &mut self.frames, written))?;
        while let Some(pong) = self.pongs.next() {
            self.frames.push_back(pong);
            ready!(self.stream.poll_write(cx, &mut self.frames, written))?;
        }
        // An idle connection holds no queue.
        self.frames = VecDeque::new();
        Poll::Ready(Ok(()))
    }

    /// Queues a close frame behind all others, if none is queued. Pongs are of no use any more.
    fn queue_close(&mut self, payload: &[u8]) {
        if !mem::replace(&mut self.closing, true) {
            self.pongs = Pongs::default();
            let frame = control(Opcode::Close, payload, None);
            self.frames.push_back(frame.into());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for WebSocket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        match self.input {
            Input::Open => {}
            Input::Ended(fault) => {
                self.input = Input::Reported(fault);
                return Poll::Ready(fault.map_or(Ok(0), |fault| {
                    Err(io::Error::new(io::ErrorKind::InvalidData, fault))
                }));
            }
            Input::Reported(_) => return self.poll_discard(cx),
        }
        let (reader, pongs, overhead) = (&mut self.reader, &mut self.pongs, &mut self.overhead);
        let mut close = None;
        let mut result = Ok(());
        let mut read = |bytes: &mut [u8]| {
            result = reader.read(bytes, |event| match event {
                Event::Data(bytes) => into.feed(bytes),
                Event::Ping(payload) => {
                    *overhead += 1;
                    pongs.answer(payload);
                }
                Event::Pong | Event::Empty => *overhead += 1,
                Event::Close(payload) => close = Some(payload.to_vec()),
            });
        };
        let count = if self.unread.is_empty() {
            ready!(self.stream.poll_read_with(cx, read))?
        } else {
            let mut unread = mem::take(&mut self.unread);
            read(&mut unread);
            unread.len()
        };
        if let Some(payload) = close {
            self.final_close = payload.starts_with(&NORMAL);
            self.input = Input::Ended(None);
            self.queue_close(&payload);
        } else if let Err(fault) = result {
            self.input = Input::Ended(Some(fault));
        }
        Poll::Ready(Ok(count))
    }

    fn take_overhead(&mut self) -> usize {
        mem::take(&mut self.overhead)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_read_with(cx, |_| ())
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
            frame(mem::take(from), &mut self.frames);
        }
        self.poll_flush(cx, written)
    }

    fn is_final_close(&self) -> bool {
        self.final_close
    }

    /// Queues a close frame, unless one answers the client's. Input that is no WebSocket, or too
    /// much at once, has a code of its own.
    fn close(&mut self, code: Option<u16>, reason: &str) -> io::Result<()> {
        let fault = match self.input {
            Input::Open => None,
            Input::Ended(fault) | Input::Reported(fault) => fault,
        };
        let Some(code) = fault.map(|fault| fault.close_code()).or(code) else {
            return Ok(());
        };
        let end = (0..=reason.len().min(MAX_CONTROL - size_of_val(&code)))
            .rev()
            .find(|&end| reason.is_char_boundary(end));
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(&reason.as_bytes()[..end.unwrap_or_default()]);
        self.queue_close(&payload);
        Ok(())
    }

    /// Ends the stream below.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}

impl Pongs {
    /// Queues the answer to a ping.
    fn answer(&mut self, payload: &[u8]) {
        let pong = control(Opcode::Pong, payload, None);
        if self.last.is_none() && self.queued.len() + pong.len() <= PONGS {
            self.queued.extend(pong);
        } else {
            self.last = Some(pong);
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        if self.queued.is_empty() {
            self.last.take().map(Bytes::from)
        } else {
            Some(mem::take(&mut self.queued).into())
        }
    }
}

/// Puts a frame around each packet. Small packets are copied behind each other, large ones stay
/// shared; see [`SHARE_FROM`].
fn frame(packets: VecDeque<Bytes>, into: &mut VecDeque<Bytes>) {
    let mut small = BytesMut::new();
    for mut chunk in packets {
        while let Some(packet) = next_packet(&mut chunk) {
            let share = packet.len() >= SHARE_FROM;
            small.reserve(MAX_HEAD + if share { 0 } else { packet.len() });
            put_head(&mut small, Opcode::Binary, packet.len() as u64, None);
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
}

/// Cuts the next packet off a chunk of whole packets.
fn next_packet(chunk: &mut Bytes) -> Option<Bytes> {
    let len = HEADER + chunk.get(1..HEADER)?.get_uint(3) as usize;
    Some(chunk.split_to(len.min(chunk.len())))
}
