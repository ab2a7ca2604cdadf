//! Reads the frames of one end: takes bytes in pieces of any size.
//!
//! It is not the reader of a WebSocket library, which refuses text that is not UTF-8 and copies every
//! message twice: clients of nano send such text.

use std::{fmt, str};

use super::{
    head::{Head, Opcode, UnknownOpcode},
    mask::apply_mask,
};

/// The longest head of a frame with a mask, in bytes.
const LONGEST_HEAD: usize = 14;
/// The close code for input that is no WebSocket.
const PROTOCOL_ERROR: u16 = 1002;
/// The close code for a message over the limit.
const MESSAGE_TOO_BIG: u16 = 1009;

/// What a frame, or a part of one, means.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The next bytes of the stream of packets, from text and binary messages alike.
    Data(&'a [u8]),
    /// A ping with this payload, which the pong repeats.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The other end closes; nothing after this frame is read. The payload is valid.
    Close(&'a [u8]),
    /// A data frame without a byte.
    Empty,
}

/// How the other end broke the WebSocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// What is wrong.
    Protocol(&'static str),
    /// A message exceeds the limit, in bytes.
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

impl Fault {
    /// The code of the close frame that tells the other end.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => PROTOCOL_ERROR,
            Self::TooLarge { .. } => MESSAGE_TOO_BIG,
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

/// Splits a byte stream into frames, and checks them by the rules of RFC 6455.
#[derive(Debug)]
pub struct FrameReader {
    /// Whether frames must have a mask; otherwise they must not.
    masked: bool,
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
    opcode: Opcode,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: Option<[u8; 4]>,
    /// Bytes of the payload that have not arrived.
    left: u64,
}

impl FrameReader {
    /// Reads what a client sends, which has masks. `limit` is for the bytes of one message.
    pub fn of_client(limit: u64) -> Self {
        Self::new(limit, true)
    }

    /// Reads what a server sends, which has none. `limit` is for the bytes of one message.
    pub fn of_server(limit: u64) -> Self {
        Self::new(limit, false)
    }

    fn new(limit: u64, masked: bool) -> Self {
        Self {
            masked,
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
    pub fn read(
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
            if let Some(mask) = frame.mask {
                apply_mask(payload, mask);
            }
            let frame = Frame {
                left: frame.left - count as u64,
                mask: frame.mask.map(|mask| turned(mask, count)),
                ..frame
            };
            self.frame = (frame.left > 0).then_some(frame);
            if !frame.opcode.is_control() {
                match (payload.is_empty(), frame.left) {
                    (false, _) => report(Event::Data(payload)),
                    (true, 0) => report(Event::Empty),
                    (true, _) => {}
                }
            } else if self.control.is_empty() && frame.left == 0 {
                self.control(frame.opcode, payload, &mut report)?;
            } else {
                self.control.extend_from_slice(payload);
                if frame.left == 0 {
                    let payload = std::mem::take(&mut self.control);
                    self.control(frame.opcode, &payload, &mut report)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the head of a frame; `None` until the whole of it has arrived.
    fn read_head(&mut self, bytes: &mut &mut [u8]) -> Result<Option<Frame>, Fault> {
        let held = self.head.len();
        let parsed = if held == 0 {
            Head::parse(bytes)
        } else {
            let missing = LONGEST_HEAD - held;
            self.head.extend(bytes.iter().take(missing));
            Head::parse(&self.head)
        };
        let parsed = parsed.map_err(|UnknownOpcode| Fault::Protocol("an unknown opcode"))?;
        let Some(head) = parsed else {
            if held == 0 {
                self.head.extend_from_slice(bytes);
            }
            *bytes = &mut [];
            return Ok(None);
        };
        self.head = Vec::new();
        let all = std::mem::take(bytes);
        *bytes = &mut all[head.len - held..];
        self.check(&head)?;
        match (self.masked, head.mask) {
            (true, None) => Err(Fault::Protocol("a frame without a mask")),
            (false, Some(_)) => Err(Fault::Protocol("a frame with a mask")),
            (_, mask) => Ok(Some(Frame {
                opcode: head.opcode,
                mask,
                left: head.payload,
            })),
        }
    }

    /// Checks a head, and begins or ends a message with it.
    fn check(&mut self, head: &Head) -> Result<(), Fault> {
        if head.is_extended {
            return Err(Fault::Protocol("a reserved bit is set"));
        }
        let before = match (head.opcode, self.message) {
            (opcode, _) if opcode.is_control() => {
                return match (head.is_final, head.extended_length) {
                    (false, _) => Err(Fault::Protocol("a fragmented control frame")),
                    (true, 0) => Ok(()),
                    // Of more than 125 bytes, or not in its shortest form.
                    (true, _) => Err(Fault::Protocol("a control frame with an extended length")),
                };
            }
            (Opcode::Continuation, None) => {
                return Err(Fault::Protocol("a continuation without a message"));
            }
            (Opcode::Continuation, Some(before)) => before,
            (_, Some(_)) => {
                return Err(Fault::Protocol("a new message within a fragmented one"));
            }
            (_, None) => 0,
        };
        let total = before.saturating_add(head.payload);
        if total > self.limit {
            return Err(Fault::TooLarge { limit: self.limit });
        }
        self.message = (!head.is_final).then_some(total);
        Ok(())
    }

    fn control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        report: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        match opcode {
            Opcode::Ping => report(Event::Ping(payload)),
            Opcode::Close => {
                check_close(payload)?;
                self.closed = true;
                report(Event::Close(payload));
            }
            _ => report(Event::Pong),
        }
        Ok(())
    }
}

fn check_close(payload: &[u8]) -> Result<(), Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(Fault::Protocol("a close frame with half a code"))
        };
    };
    if !is_allowed(u16::from_be_bytes(*code)) {
        return Err(Fault::Protocol("an invalid close code"));
    }
    if str::from_utf8(reason).is_err() {
        return Err(Fault::Protocol("a close reason that is not UTF-8"));
    }
    Ok(())
}

/// Whether a close frame may have this code: it is registered for that, or free for applications.
fn is_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999)
}

/// The mask after `count` bytes.
fn turned(mut mask: [u8; 4], count: usize) -> [u8; 4] {
    mask.rotate_left(count % 4);
    mask
}
