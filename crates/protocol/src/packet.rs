//! Packets, the outer frame on the wire:
//! `kind (1 byte), length of the body (3 bytes, big endian), body`.
//!
//! Both directions use the same form. A [`Decoder`] takes bytes as they come from a socket, in
//! pieces of any size; it does no I/O.
//!
//! ```
//! use bytes::BytesMut;
//! use nano::packet::{self, Decoder, Kind};
//!
//! let mut out = BytesMut::new();
//! packet::encode(Kind::Data, b"hello", &mut out)?;
//! assert_eq!(&out[..], b"\x04\x00\x00\x05hello");
//!
//! let mut decoder = Decoder::new(65_536);
//! decoder.feed(&out[..6]);
//! assert_eq!(decoder.decode()?, None);
//! decoder.feed(&out[6..]);
//! assert_eq!(decoder.decode()?.map(|packet| packet.body), Some("hello".into()));
//! # Ok::<(), packet::PacketError>(())
//! ```

use std::{error, fmt};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Length of a packet's header in bytes.
pub const HEADER: usize = 4;

/// The longest body the length field can announce, in bytes (16 MiB - 1).
pub const MAX_BODY: usize = 0xFF_FFFF;

/// The purpose of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Opens a connection; the body is JSON, see [`handshake`](crate::handshake).
    Handshake = 1,
    /// The client has read the handshake reply; no body.
    Ack,
    /// Shows that the sender is alive; no body.
    Heartbeat,
    /// Carries a [`Message`](crate::message::Message).
    Data,
    /// The server is about to close the connection; the body is JSON, see
    /// [`kick`](crate::kick::Kick).
    Kick,
}

impl TryFrom<u8> for Kind {
    type Error = PacketError;

    #[inline]
    fn try_from(byte: u8) -> Result<Self, PacketError> {
        match byte {
            1 => Ok(Self::Handshake),
            2 => Ok(Self::Ack),
            3 => Ok(Self::Heartbeat),
            4 => Ok(Self::Data),
            5 => Ok(Self::Kick),
            _ => Err(PacketError::Kind(byte)),
        }
    }
}

/// One received packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The purpose.
    pub kind: Kind,
    /// The content: a slice of the received bytes, which stay in memory as long as any body cut
    /// from them. Copy what is to be kept for long.
    pub body: Bytes,
}

/// Bytes that are not a packet, or a body too large for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// The first byte is not a packet kind.
    Kind(u8),
    /// The body is over the limit; both in bytes.
    TooLarge {
        /// Length of the body.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl error::Error for PacketError {}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(byte) => write!(f, "no packet kind: {byte}"),
            Self::TooLarge { size, limit } => write!(
                f,
                "a packet body of {size} bytes, over the limit of {limit}"
            ),
        }
    }
}

/// Splits a byte stream into packets.
///
/// Feeding costs amortised constant time per byte, however the stream is split. Memory grows with
/// the bytes that arrived, never with the length that a header announces; an empty decoder holds
/// none.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
    failed: Option<PacketError>,
}

impl Decoder {
    /// Creates a decoder that accepts bodies of up to `limit` bytes, the limit included.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            failed: None,
        }
    }

    /// Appends the next bytes of the stream. After an error they are discarded.
    #[inline]
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// Returns the next packet, or `None` until more bytes are fed.
    ///
    /// A header is checked as soon as it is complete: the kind, then the length. Packets before an
    /// invalid one are returned first.
    ///
    /// # Errors
    ///
    /// The fault of the header. The stream cannot be resynchronised, so every later call returns
    /// the same error.
    #[inline]
    pub fn decode(&mut self) -> Result<Option<Packet>, PacketError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.cut().inspect_err(|&error| {
            self.failed = Some(error);
            self.buffer = BytesMut::new();
        })
    }

    /// Whether no bytes of an unfinished packet are held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    #[inline]
    fn cut(&mut self) -> Result<Option<Packet>, PacketError> {
        let &[kind, high, middle, low, ref rest @ ..] = &self.buffer[..] else {
            return Ok(None);
        };
        let kind = Kind::try_from(kind)?;
        let size = u32::from_be_bytes([0, high, middle, low]) as usize;
        if size > self.limit {
            return Err(PacketError::TooLarge {
                size,
                limit: self.limit,
            });
        }
        if rest.len() < size {
            return Ok(None);
        }

        self.buffer.advance(HEADER);
        // An empty slice would still keep the chunk in memory.
        let body = if size == 0 {
            Bytes::new()
        } else {
            self.buffer.split_to(size).freeze()
        };
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(Some(Packet { kind, body }))
    }
}

/// The length of the first packet in `packets`, header included; `None` without a whole header.
///
/// For bytes that were encoded here. What a peer sent goes through a [`Decoder`], which checks it.
#[inline]
pub fn packet_len(packets: &[u8]) -> Option<usize> {
    let &[_, high, middle, low] = packets.first_chunk()?;
    Some(HEADER + u32::from_be_bytes([0, high, middle, low]) as usize)
}

/// Appends a packet.
///
/// # Errors
///
/// [`PacketError::TooLarge`] if the body is over [`MAX_BODY`]; nothing is appended then.
#[inline]
pub fn encode(kind: Kind, body: &[u8], out: &mut BytesMut) -> Result<(), PacketError> {
    encode_header(kind, body.len(), out)?;
    out.extend_from_slice(body);
    Ok(())
}

/// Appends the header of a packet whose body of `len` bytes follows.
///
/// # Errors
///
/// [`PacketError::TooLarge`] if `len` is over [`MAX_BODY`]; nothing is appended then.
#[inline]
pub fn encode_header(kind: Kind, len: usize, out: &mut BytesMut) -> Result<(), PacketError> {
    out.put_slice(&header(kind, len)?);
    Ok(())
}

/// Appends a packet whose body is what `write` appends, so a message needs no buffer of its own.
///
/// ```
/// use bytes::BytesMut;
/// use nano::{message, packet};
///
/// let mut out = BytesMut::new();
/// packet::encode_with(packet::Kind::Data, &mut out, |out| {
///     message::encode_response(1, false, b"pong", out);
///     Ok::<_, packet::PacketError>(())
/// })?;
/// assert_eq!(&out[..], b"\x04\x00\x00\x06\x04\x01pong");
/// # Ok::<(), packet::PacketError>(())
/// ```
///
/// # Errors
///
/// That of `write`, or [`PacketError::TooLarge`] if it appended more than [`MAX_BODY`] bytes;
/// nothing is appended then.
///
/// # Panics
///
/// If `write` shortens the buffer instead of appending to it.
pub fn encode_with<E: From<PacketError>>(
    kind: Kind,
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.put_bytes(0, HEADER);
    let body = out.len();
    let header = write(out).and_then(|()| Ok(header(kind, out.len() - body)?));
    match header {
        Ok(header) => out[start..body].copy_from_slice(&header),
        Err(_) => out.truncate(start),
    }
    header.map(drop)
}

#[inline]
fn header(kind: Kind, size: usize) -> Result<[u8; HEADER], PacketError> {
    match u32::try_from(size).map(u32::to_be_bytes) {
        Ok([0, high, middle, low]) => Ok([kind as u8, high, middle, low]),
        _ => Err(PacketError::TooLarge {
            size,
            limit: MAX_BODY,
        }),
    }
}
