//! Encoded packets that wait for one client's socket. `client_state` decides what becomes of a client
//! that does not take them.

use std::{
    collections::VecDeque,
    ops::{AddAssign, RangeInclusive},
};

use bytes::{Bytes, BytesMut};

use crate::{message::Message, net::stream::SHARE_FROM};

/// The longest chunk of small packets, unless one packet is longer, and the queue of a client that does
/// not keep up, in bytes.
const LONG: usize = 16 * 1024;

/// A packet from this size on is shared with the queues of other clients, not copied, when the client
/// does not keep up: it is kept for long, and to write many chunks at once is not what it waits for.
const SHARE_BEHIND: usize = 256;

/// Sizes that a buffer of small packets may begin with, in bytes: one packet needs no more than a new
/// buffer has, and a longer buffer would be kept for few packets.
const USUAL: RangeInclusive<usize> = 256..=2048;

/// A FIFO of packets, counted in bytes and messages. An empty queue holds no memory.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// Whole packets each.
    chunks: VecDeque<Bytes>,
    /// Small packets behind the last chunk.
    tail: BytesMut,
    /// The size that the next buffer of small packets begins with: that of the last one, if it is one of
    /// [`USUAL`]. To grow from nothing took 4 % of the instructions of eight requests in flight.
    usual: usize,
    encoded: Size,
    /// Messages that the outbound pipeline has yet to process, all behind `tail`.
    unprocessed: VecDeque<Message>,
    unencoded: Size,
}

#[derive(Debug, Default)]
struct Size {
    bytes: usize,
    messages: usize,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.messages += other.messages;
    }
}

impl Size {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.messages += 1;
    }
}

impl SendQueue {
    /// Whether another packet of `len` bytes exceeds the limits. An empty queue takes a packet of
    /// any size.
    pub(super) fn is_full(&self, len: usize, max_bytes: usize, max_messages: usize) -> bool {
        let messages = self.messages();
        messages > 0 && (self.bytes() + len > max_bytes || messages >= max_messages)
    }

    /// The bytes that are queued.
    pub(super) fn bytes(&self) -> usize {
        self.encoded.bytes + self.unencoded.bytes
    }

    /// The packets and messages that are queued.
    pub(super) fn messages(&self) -> usize {
        self.encoded.messages + self.unencoded.messages
    }

    /// Queues an encoded packet.
    pub(super) fn packet(&mut self, packet: &Bytes) {
        let share_from = if self.is_behind() {
            SHARE_BEHIND
        } else {
            SHARE_FROM
        };
        if packet.len() < share_from {
            self.make_room(packet.len());
            self.tail.extend_from_slice(packet);
        } else {
            self.seal();
            self.chunks.push_back(packet.clone());
        }
        self.encoded.add(packet.len());
    }

    /// Queues the packet that `write` appends to the buffer.
    pub(super) fn write<E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.make_room(*USUAL.end());
        let before = self.tail.len();
        write(&mut self.tail)?;
        self.encoded.add(self.tail.len() - before);
        Ok(())
    }

    /// Queues a message for the outbound pipeline.
    pub(super) fn message(&mut self, message: Message) {
        self.unencoded.add(message.body.len());
        self.unprocessed.push_back(message);
    }

    pub(super) fn has_unprocessed(&self) -> bool {
        !self.unprocessed.is_empty()
    }

    /// Takes the messages for the pipeline; its results are queued again as packets.
    pub(super) fn take_unprocessed(&mut self) -> VecDeque<Message> {
        self.unencoded = Size::default();
        std::mem::take(&mut self.unprocessed)
    }

    /// Moves all encoded packets to `into` and returns their number.
    pub(super) fn take(&mut self, into: &mut VecDeque<Bytes>) -> usize {
        if !self.chunks.is_empty() {
            into.extend(std::mem::take(&mut self.chunks));
        }
        if let Some(chunk) = self.sealed() {
            into.push_back(chunk);
        }
        std::mem::take(&mut self.encoded).messages
    }

    /// Moves everything from `later` behind the packets of this queue, which must hold no messages
    /// for the pipeline.
    pub(super) fn append(&mut self, later: Self) {
        self.seal();
        self.chunks.extend(later.chunks);
        self.tail = later.tail;
        self.encoded += later.encoded;
        self.unprocessed.extend(later.unprocessed);
        self.unencoded += later.unencoded;
    }

    /// Discards everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_behind(&self) -> bool {
        self.encoded.bytes >= LONG
    }

    /// Begins a new chunk when the last one is long and would have to grow: a buffer grows to twice
    /// its size, half of which may stay unused.
    fn make_room(&mut self, len: usize) {
        let used = self.tail.len();
        if used >= LONG / 2 && used + len > self.tail.capacity() {
            self.seal();
        }
        if self.tail.is_empty() {
            // It is likely to be filled if the last one was and the client is behind: then it need
            // not grow.
            let long = self.is_behind() && self.usual == *USUAL.end();
            self.tail.reserve(if long { LONG } else { self.usual });
        }
    }

    fn seal(&mut self) {
        if let Some(chunk) = self.sealed() {
            self.chunks.push_back(chunk);
        }
    }

    /// The small packets behind the last chunk, as a chunk.
    fn sealed(&mut self) -> Option<Bytes> {
        if self.tail.is_empty() {
            return None;
        }
        let size = self.tail.len().next_power_of_two().min(*USUAL.end());
        self.usual = if USUAL.contains(&size) { size } else { 0 };
        Some(std::mem::take(&mut self.tail).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of all chunks that only this queue holds.
    fn own(queue: &SendQueue) -> usize {
        let chunks = queue.chunks.iter().filter(|chunk| chunk.is_unique());
        chunks.map(Bytes::len).sum::<usize>() + queue.tail.capacity()
    }

    #[test]
    fn packets_for_many_clients_are_copied_until_a_client_is_behind() {
        let (mut queue, packet) = (SendQueue::default(), Bytes::from(vec![7; 1000]));
        for _ in 0..200 {
            queue.packet(&packet);
        }
        assert_eq!((queue.bytes(), queue.messages()), (200_000, 200));
        assert!(own(&queue) <= 2 * LONG, "{}", own(&queue));
        let mut chunks = VecDeque::new();
        assert_eq!(queue.take(&mut chunks), 200);
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), 200_000);
    }

    #[test]
    fn packets_of_its_own_take_little_more_than_their_bytes_when_a_client_is_behind() {
        for len in [50, 300, 1000, 2000] {
            let mut queue = SendQueue::default();
            let mut capacity = 0;
            for _ in 0..1_000_000 / len {
                let sealed = queue.chunks.len();
                let before = queue.tail.capacity();
                let written: Result<(), ()> = queue.write(|out| {
                    out.extend_from_slice(&vec![1; len]);
                    Ok(())
                });
                assert_eq!(written, Ok(()));
                if queue.chunks.len() > sealed {
                    capacity += before;
                }
            }
            capacity += queue.tail.capacity();
            assert!(capacity < queue.bytes() / 10 * 12, "{len}: {capacity}");
        }
    }

    #[test]
    fn small_packets_between_shared_ones_reserve_no_long_chunk() {
        let (mut queue, shared) = (SendQueue::default(), Bytes::from(vec![7; 1000]));
        for _ in 0..100 {
            queue.packet(&shared);
            queue.packet(&Bytes::from_static(&[1; 50]));
            assert!(queue.bytes() < 2 * LONG || queue.tail.capacity() <= *USUAL.start());
        }
    }
}
