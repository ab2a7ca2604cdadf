//! WebSocket frames of both ends (RFC 6455), without the connection that carries them.
//!
//! A gate and a client read frames with a [`FrameReader`] and write them with [`put_head`] and
//! [`control`]. A WebSocket carries a stream of packets here: messages of text and of bytes alike
//! are the next bytes of it, whole or in part.
//!
//! ```
//! use nano_protocol::websocket::{Event, FrameReader, Opcode, apply_mask, put_head};
//!
//! let (mask, mut payload) = ([1, 2, 3, 4], *b"packets");
//! let mut frame = Vec::new();
//! put_head(&mut frame, Opcode::Binary, payload.len() as u64, Some(mask));
//! apply_mask(&mut payload, mask);
//! frame.extend(payload);
//!
//! let mut read = Vec::new();
//! let mut reader = FrameReader::of_client(1024);
//! let result = reader.read(&mut frame, |event| match event {
//!     Event::Data(bytes) => read.extend_from_slice(bytes),
//!     other => panic!("{other:?}"),
//! });
//! assert_eq!((result, &read[..]), (Ok(()), &b"packets"[..]));
//! ```

use bytes::BufMut;

mod head;
mod mask;
mod reader;

pub use self::{
    head::Opcode,
    mask::apply_mask,
    reader::{Event, Fault, FrameReader},
};

/// The longest head of a frame without a mask, in bytes.
pub const MAX_HEAD: usize = 10;

/// The longest payload of a control frame, in bytes.
pub const MAX_CONTROL: usize = 125;

/// Appends the head of a frame that is a message of its own. Its payload follows, under the mask if
/// there is one: a client masks what it sends, with bytes that cannot be foreseen; a server does not.
pub fn put_head(into: &mut impl BufMut, opcode: Opcode, len: u64, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    into.put_u8(0x80 | opcode as u8);
    match len {
        0..126 => into.put_u8(masked | len as u8),
        126..0x1_0000 => {
            into.put_u8(masked | 126);
            into.put_u16(len as u16);
        }
        _ => {
            into.put_u8(masked | 127);
            into.put_u64(len);
        }
    }
    into.put_slice(mask.as_ref().map_or(&[], |mask| mask));
}

/// Returns a control frame: a close, a ping or a pong. Its payload may have [`MAX_CONTROL`] bytes.
pub fn control(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MAX_HEAD + payload.len());
    put_head(&mut frame, opcode, payload.len() as u64, mask);
    let begin = frame.len();
    frame.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut frame[begin..], mask);
    }
    frame
}
