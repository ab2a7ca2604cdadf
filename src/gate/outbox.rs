//! What one client is about to be sent.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::message::Message;

/// Up to this size a packet is copied behind the one before it, so that many leave in one write; a
/// larger one is queued as it is and shared with the other receivers of a broadcast.
pub(super) const SHARE_FROM: usize = 4 * 1024;

/// A queue of packets. Empty it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    encoded: Size,
    /// Messages that an outbound pipeline has yet to see.
    unprocessed: VecDeque<Message>,
    unencoded: Size,
}

#[derive(Debug, Default)]
struct Size {
    bytes: usize,
    messages: usize,
}

impl Size {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.messages += 1;
    }
}

impl Outbox {
    /// Whether another packet of `len` bytes goes beyond the limits. An empty queue takes one of
    /// any size.
    pub(super) fn is_full(&self, len: usize, max_bytes: usize, max_messages: usize) -> bool {
        let messages = self.encoded.messages + self.unencoded.messages;
        let bytes = self.encoded.bytes + self.unencoded.bytes;
        messages > 0 && (bytes + len > max_bytes || messages >= max_messages)
    }

    /// Queues a packet that was encoded elsewhere.
    pub(super) fn packet(&mut self, packet: &Bytes) {
        if packet.len() < SHARE_FROM {
            self.tail.extend_from_slice(packet);
        } else {
            self.seal();
            self.chunks.push_back(packet.clone());
        }
        self.encoded.add(packet.len());
    }

    /// Queues a packet that `write` appends to the buffer.
    pub(super) fn write<E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.tail.len();
        write(&mut self.tail)?;
        self.encoded.add(self.tail.len() - before);
        Ok(())
    }

    /// Queues a message for the pipeline.
    pub(super) fn message(&mut self, message: Message) {
        self.unencoded.add(message.body.len());
        self.unprocessed.push_back(message);
    }

    pub(super) fn has_unprocessed(&self) -> bool {
        !self.unprocessed.is_empty()
    }

    /// Takes what is still to go through the pipeline; what comes out of it is queued again.
    pub(super) fn take_unprocessed(&mut self) -> VecDeque<Message> {
        self.unencoded = Size::default();
        std::mem::take(&mut self.unprocessed)
    }

    /// Takes all encoded packets; how many they are.
    pub(super) fn take(&mut self, into: &mut VecDeque<Bytes>) -> usize {
        self.seal();
        if into.is_empty() {
            *into = std::mem::take(&mut self.chunks);
        } else {
            into.append(&mut self.chunks);
        }
        std::mem::take(&mut self.encoded).messages
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks
                .push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}
