//! Packets over WebSocket, on the client's side. Each packet that is sent has a binary frame of its
//! own; packets that are received may be split over frames of text and of bytes in any way.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    io,
    mem::{self, MaybeUninit},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use nano_protocol::{
    packet::{HEADER, packet_len},
    websocket::{Event, Fault, FrameReader, Opcode, apply_mask, control, put_head},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::{BoxedIo, READ_BUFFER};

/// Frames are collected up to this size before they are written, in bytes.
const WRITE_BUFFER: usize = 64 * 1024;

/// One WebSocket connection after its HTTP upgrade.
pub(crate) struct WebSocket {
    io: BoxedIo,
    reader: FrameReader,
    /// The bytes that followed the reply to the upgrade and are not read yet.
    unread: Vec<u8>,
    /// Whole frames, except that a part of the first may be written already.
    frames: BytesMut,
    masks: Masks,
    /// Whether a close frame is queued or written: nothing follows it.
    closing: bool,
    /// Set when the server has closed, or broken the protocol.
    end: Option<Result<(), Fault>>,
}

impl WebSocket {
    /// Takes over an upgraded stream. A message may hold several packets, so its limit is four times
    /// `max_packet` bytes.
    pub(crate) fn new(io: BoxedIo, read: Vec<u8>, max_packet: usize) -> Self {
        Self {
            io,
            reader: FrameReader::of_server(4 * (max_packet + HEADER) as u64),
            unread: read,
            frames: BytesMut::new(),
            masks: Masks::default(),
            closing: false,
            end: None,
        }
    }

    /// Reads until bytes of packets have arrived, and passes them to `take`. Returns their count, 0 at
    /// the end: a server may go without a close frame.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(end) = &mut self.end {
                let end = mem::replace(end, Ok(()));
                let invalid = |fault| io::Error::new(io::ErrorKind::InvalidData, fault);
                return Poll::Ready(end.map(|()| 0).map_err(invalid));
            }
            let count = if self.unread.is_empty() {
                let mut buffer = [MaybeUninit::uninit(); READ_BUFFER];
                let mut buffer = ReadBuf::uninit(&mut buffer);
                match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                    // TLS without close_notify; many servers omit it.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Poll::Ready(Ok(0));
                    }
                    result => result?,
                }
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(0));
                }
                self.feed(buffer.filled_mut(), &mut take)
            } else {
                let mut unread = mem::take(&mut self.unread);
                self.feed(&mut unread, &mut take)
            };
            if self.end == Some(Ok(())) {
                // One attempt to send the closing reply is enough.
                let _ = self.poll_flush(cx);
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Reads frames. Answers are queued; the next write sends them.
    fn feed(&mut self, bytes: &mut [u8], take: &mut impl FnMut(&[u8])) -> usize {
        let Self { frames, masks, .. } = self;
        let (mut count, mut close) = (0, None);
        let result = self.reader.read(bytes, |event| match event {
            Event::Data(bytes) => {
                count += bytes.len();
                take(bytes);
            }
            // A server that does not read gets no more of them.
            Event::Ping(payload) if frames.len() < WRITE_BUFFER => {
                frames.extend(control(Opcode::Pong, payload, Some(masks.next())));
            }
            Event::Ping(_) | Event::Pong | Event::Empty => {}
            Event::Close(payload) => close = Some(payload.to_vec()),
        });
        if let Some(payload) = close {
            self.end = Some(Ok(()));
            self.queue_close(&payload);
        } else if let Err(fault) = result {
            self.end = Some(Err(fault));
        }
        count
    }

    /// Writes and flushes the whole packets in `from`; ready when none is left.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.frames.len() < WRITE_BUFFER
                && let Some(len) = packet_len(from)
            {
                if self.closing {
                    // RFC 6455: nothing follows a close frame.
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                self.queue_packet(&from.split_to(len));
            }
            ready!(self.poll_flush(cx))?;
            if packet_len(from).is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn queue_packet(&mut self, packet: &[u8]) {
        let mask = self.masks.next();
        put_head(
            &mut self.frames,
            Opcode::Binary,
            packet.len() as u64,
            Some(mask),
        );
        let begin = self.frames.len();
        self.frames.extend_from_slice(packet);
        apply_mask(&mut self.frames[begin..], mask);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.frames))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.frames.advance(count),
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Whether answers of this end wait for the next write.
    pub(crate) fn has_queued(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Queues a close frame behind all others, if none is queued.
    fn queue_close(&mut self, payload: &[u8]) {
        if !mem::replace(&mut self.closing, true) {
            let frame = control(Opcode::Close, payload, Some(self.masks.next()));
            self.frames.extend_from_slice(&frame);
        }
    }

    /// Sends a close frame; the server ends the stream.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue_close(&[]);
        self.poll_flush(cx)
    }
}

/// Masks that no other program can foresee: RFC 6455 asks for that, so that a page cannot choose the
/// bytes that a proxy sees. A keyed hash of a counter, with a key of the connection's own.
#[derive(Default)]
struct Masks {
    key: RandomState,
    count: u64,
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        (self.key.hash_one(self.count) as u32).to_ne_bytes()
    }
}
