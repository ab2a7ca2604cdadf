//! Reads the frames of a client: pure, takes bytes in pieces of any size.
//!
//! The library's own reader is not used: it refuses text that is not UTF-8, which clients of nano
//! send, and copies every message twice. Its parser of frame heads is.

use std::{fmt, io::Cursor, str};

use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// The longest head of a masked frame, in bytes.
const MASKED_HEAD: usize = 14;
/// The head of a masked frame whose length is in its second byte, in bytes.
const SHORT_HEAD: usize = 6;
/// The longest payload of a control frame, in bytes.
pub(super) const MAX_CONTROL: usize = 125;

/// What a frame, or a part of one, means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The next bytes of the stream of packets, from text and binary messages alike.
    Data(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// The client closes; nothing after this frame is read. The payload is valid.
    Close(&'a [u8]),
    /// A data frame without a byte.
    Empty,
}

/// How a client broke the WebSocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// What is wrong.
    Protocol(&'static str),
    /// A message exceeds the limit, in bytes.
    TooLarge { limit: u64 },
}

impl Fault {
    /// The code of the close frame that tells the client.
    pub(super) fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::Protocol,
            Self::TooLarge { .. } => CloseCode::Size,
        }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(fault) => write!(f, "WebSocket: {fault}"),
            Self::TooLarge { limit } => {
                write!(f, "a WebSocket message over the limit of {limit} bytes")
            }
        }
    }
}

/// Splits a byte stream into frames, and checks them by the rules of RFC 6455 for a server.
#[derive(Debug)]
pub(super) struct FrameReader {
    /// The most bytes of one message, all its fragments together.
    limit: u64,
    /// The first bytes of a head that has not arrived as a whole.
    head: Vec<u8>,
    /// The frame whose payload is read.
    frame: Option<Frame>,
    /// Bytes of the fragmented message so far; `None` between messages.
    message: Option<u64>,
    /// The payload of a control frame so far.
    control: Vec<u8>,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: OpCode,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    /// Bytes of the payload that have not arrived.
    left: u64,
}

impl FrameReader {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            head: Vec::new(),
            frame: None,
            message: None,
            control: Vec::new(),
            closed: false,
        }
    }

    /// Reads the next bytes, which it changes, and reports what they mean, in order.
    ///
    /// # Errors
    /// The first fault. Nothing can be read after it.
    pub(super) fn read(
        &mut self,
        mut bytes: &mut [u8],
        mut report: impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        while !bytes.is_empty() && !self.closed {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_head(&mut bytes)? {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
            };
            let count = frame.left.min(bytes.len() as u64) as usize;
            let (payload, rest) = bytes.split_at_mut(count);
            bytes = rest;
            unmask(payload, frame.mask);
            let frame = Frame {
                left: frame.left - count as u64,
                mask: turned(frame.mask, count),
                ..frame
            };
            self.frame = (frame.left > 0).then_some(frame);
            match frame.kind {
                OpCode::Data(_) if !payload.is_empty() => report(Event::Data(payload)),
                OpCode::Data(_) if frame.left == 0 => report(Event::Empty),
                OpCode::Data(_) => {}
                OpCode::Control(kind) if self.control.is_empty() && frame.left == 0 => {
                    self.control(kind, payload, &mut report)?;
                }
                OpCode::Control(kind) => {
                    self.control.extend_from_slice(payload);
                    if frame.left == 0 {
                        let payload = std::mem::take(&mut self.control);
                        self.control(kind, &payload, &mut report)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the head of a frame; `None` until the whole of it has arrived.
    fn read_head(&mut self, bytes: &mut &mut [u8]) -> Result<Option<Frame>, Fault> {
        let held = self.head.len();
        let parsed = if held == 0 {
            parse(bytes)?
        } else {
            let missing = MASKED_HEAD - held;
            self.head.extend(bytes.iter().take(missing));
            parse(&self.head)?
        };
        let Some((head, left, len)) = parsed else {
            if held == 0 {
                self.head.extend_from_slice(bytes);
            }
            *bytes = &mut [];
            return Ok(None);
        };
        self.head = Vec::new();
        let all = std::mem::take(bytes);
        *bytes = &mut all[len - held..];
        self.check(&head, left, len)?;
        let mask = head.mask.ok_or(Fault::Protocol("a frame without a mask"))?;
        Ok(Some(Frame {
            kind: head.opcode,
            mask,
            left,
        }))
    }

    /// Checks a head of `head_len` bytes, and begins or ends a message with it.
    fn check(&mut self, head: &FrameHeader, len: u64, head_len: usize) -> Result<(), Fault> {
        if head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(Fault::Protocol("a reserved bit is set"));
        }
        let before = match (head.opcode, self.message) {
            (OpCode::Control(_), _) if !head.is_final => {
                return Err(Fault::Protocol("a fragmented control frame"));
            }
            // A longer head has a longer length: of more than 125 bytes, or not in its shortest form.
            (OpCode::Control(_), _) if head_len > SHORT_HEAD => {
                return Err(Fault::Protocol("a control frame with an extended length"));
            }
            (OpCode::Control(_), _) => return Ok(()),
            (OpCode::Data(Data::Continue), None) => {
                return Err(Fault::Protocol("a continuation without a message"));
            }
            (OpCode::Data(Data::Continue), Some(before)) => before,
            (OpCode::Data(_), Some(_)) => {
                return Err(Fault::Protocol("a new message within a fragmented one"));
            }
            (OpCode::Data(_), None) => 0,
        };
        let total = before.saturating_add(len);
        if total > self.limit {
            return Err(Fault::TooLarge { limit: self.limit });
        }
        self.message = (!head.is_final).then_some(total);
        Ok(())
    }

    fn control(
        &mut self,
        kind: Control,
        payload: &[u8],
        report: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        match kind {
            Control::Ping => report(Event::Ping(payload)),
            Control::Close => {
                check_close(payload)?;
                self.closed = true;
                report(Event::Close(payload));
            }
            _ => report(Event::Pong),
        }
        Ok(())
    }
}

/// Parses a head; returns it with the length of the payload and its own.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Fault> {
    let mut cursor = Cursor::new(bytes);
    // The parser has no other error.
    let parsed =
        FrameHeader::parse(&mut cursor).map_err(|_| Fault::Protocol("an unknown opcode"))?;
    Ok(parsed.map(|(head, left)| (head, left, cursor.position() as usize)))
}

fn check_close(payload: &[u8]) -> Result<(), Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(Fault::Protocol("a close frame with half a code"))
        };
    };
    if !CloseCode::from(u16::from_be_bytes(*code)).is_allowed() {
        return Err(Fault::Protocol("an invalid close code"));
    }
    if str::from_utf8(reason).is_err() {
        return Err(Fault::Protocol("a close reason that is not UTF-8"));
    }
    Ok(())
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The mask after `count` bytes.
fn turned(mut mask: [u8; 4], count: usize) -> [u8; 4] {
    mask.rotate_left(count % 4);
    mask
}

#[cfg(test)]
mod tests;
