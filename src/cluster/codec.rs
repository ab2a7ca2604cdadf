//! How messages between nodes are written and read.
//!
//! The bytes are those of `tonic_prost::ProstCodec`. That one encodes each byte of a number by a call
//! into tonic's buffer, and decodes through it too; here a message is encoded into a `Vec` that is
//! copied once, and decoded from one `Bytes`. A forwarded message takes 14 % fewer instructions so.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::{DecodeError, EncodeError, Message};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// What the buffer of an encoder keeps, in bytes: tonic ends a batch of messages at this size.
const RETAINED: usize = 32 << 10;

/// Encodes `T` and decodes `U`; the generated services name it.
pub(in crate::cluster) struct NodeCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for NodeCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for NodeCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> MessageEncoder<T> {
        MessageEncoder {
            encoded: Vec::new(),
            append: |message, mut encoded| message.encode(&mut encoded),
        }
    }

    fn decoder(&mut self) -> MessageDecoder<U> {
        MessageDecoder(|encoded| U::decode(encoded))
    }
}

/// A message that is encoded and decoded without the generated code.
pub(in crate::cluster) trait Encoded: Sized {
    /// Appends the message.
    fn append_to(&self, out: &mut Vec<u8>);

    /// Reads the message.
    ///
    /// # Errors
    /// The bytes are not those of a message.
    fn read(encoded: &Bytes) -> Result<Self, DecodeError>;
}

/// [`NodeCodec`] for messages with an encoding of their own.
pub(in crate::cluster) struct EncodedCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for EncodedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for EncodedCodec<T, U>
where
    T: Encoded + Send + 'static,
    U: Encoded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> MessageEncoder<T> {
        MessageEncoder {
            encoded: Vec::new(),
            append: |message, encoded| {
                message.append_to(encoded);
                Ok(())
            },
        }
    }

    fn decoder(&mut self) -> MessageDecoder<U> {
        MessageDecoder(|encoded| U::read(&encoded))
    }
}

/// Encodes messages into a buffer of its own.
pub(in crate::cluster) struct MessageEncoder<T> {
    encoded: Vec<u8>,
    append: fn(&T, &mut Vec<u8>) -> Result<(), EncodeError>,
}

impl<T> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.encoded.clear();
        (self.append)(&message, &mut self.encoded).map_err(internal)?;
        buffer.put_slice(&self.encoded);
        if self.encoded.capacity() > RETAINED {
            self.encoded = Vec::new();
        }
        Ok(())
    }
}

/// Decodes messages whose bodies are slices of what was read.
pub(in crate::cluster) struct MessageDecoder<U>(fn(Bytes) -> Result<U, DecodeError>);

impl<U> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let encoded = buffer.copy_to_bytes(buffer.remaining());
        (self.0)(encoded).map(Some).map_err(internal)
    }
}

/// gRPC's status for messages that cannot be encoded or decoded.
fn internal(error: impl ToString) -> Status {
    Status::internal(error.to_string())
}
