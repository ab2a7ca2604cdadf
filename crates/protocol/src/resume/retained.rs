//! Packets that were sent and are not acknowledged.

use std::{collections::VecDeque, mem, ops::Range};

use bytes::{Buf, Bytes, BytesMut};

use super::lost::Lost;
use crate::packet::{Kind, packet_len};

/// How much one end keeps for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of unacknowledged packets, headers included.
    pub bytes: usize,
    /// Unacknowledged packets.
    pub messages: usize,
}

impl Limits {
    /// Creates limits in bytes and in messages.
    pub fn new(bytes: usize, messages: usize) -> Self {
        Self { bytes, messages }
    }
}

impl Default for Limits {
    /// 4 MiB and 65,536 messages: those of a server's send queue.
    fn default() -> Self {
        Self::new(4 * 1024 * 1024, 64 * 1024)
    }
}

/// A chunk that nothing else holds is copied if it has fewer bytes than this. The buffer that it lies in
/// may be twice as long, and is better written to again while it is in the processor's cache: when it was
/// kept, a session with eight requests in flight took 73 KiB, and takes 39.
const SHARE_FROM: usize = 2 * 1024;

/// The most that is allocated at once for copies, in bytes.
const BLOCK: usize = 4 * 1024;

/// The data packets that may have to be sent again, in order. Holds no memory when it is empty.
#[derive(Debug, Default)]
pub(super) struct Retained {
    runs: VecDeque<Run>,
    /// Copies, behind all runs.
    tail: Tail,
    /// How many packets were sent before the first that is kept.
    first: u64,
    bytes: usize,
    messages: usize,
}

/// Data packets that lie behind each other in memory.
#[derive(Debug, Default)]
struct Run<B = Bytes> {
    packets: B,
    count: usize,
}

type Tail = Run<BytesMut>;

impl<B: Buf + AsRef<[u8]>> Run<B> {
    /// Drops up to `most` packets, and returns their number and bytes.
    fn drop_first(&mut self, most: u64) -> (usize, usize) {
        let (mut count, mut len) = (0, 0);
        if self.count as u64 <= most {
            (count, len) = (self.count, self.packets.remaining());
        } else {
            while (count as u64) < most
                && let Some(packet) = packet_len(&self.packets.as_ref()[len..])
            {
                (count, len) = (count + 1, len + packet);
            }
        }
        self.packets.advance(len);
        self.count -= count;
        (count, len)
    }
}

impl Retained {
    /// Keeps what another process has kept, behind `first` packets; `None` if a chunk does not hold
    /// whole data packets, and nothing else.
    pub(super) fn restore(first: u64, chunks: &[Bytes]) -> Option<Self> {
        let mut retained = Self {
            first,
            ..Self::default()
        };
        for chunk in chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let len = packet_len(rest).filter(|_| rest[0] == Kind::Data as u8)?;
                rest = rest.get(len..)?;
            }
            retained.push(chunk);
        }
        first.checked_add(retained.messages as u64)?;
        Some(retained)
    }

    /// The number of packets before the first that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of packets ever sent.
    pub(super) fn sent(&self) -> u64 {
        self.first + self.messages as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Keeps the data packets of a chunk of whole packets. Its memory is shared if it is long, or shared
    /// already.
    pub(super) fn push(&mut self, chunk: &Bytes) {
        let copied = chunk.len() < SHARE_FROM && chunk.is_unique();
        let (mut start, mut at, mut count) = (0, 0, 0);
        while let Some(len) = packet_len(&chunk[at..]) {
            if chunk[at] == Kind::Data as u8 {
                count += 1;
            } else {
                self.push_run(chunk, start..at, count, copied);
                (start, count) = (at + len, 0);
            }
            at += len;
        }
        self.push_run(chunk, start..at, count, copied);
    }

    fn push_run(&mut self, chunk: &Bytes, range: Range<usize>, count: usize, copied: bool) {
        if count == 0 {
            return;
        }
        let len = range.len();
        if copied {
            self.make_room(len);
            self.tail.packets.extend_from_slice(&chunk[range]);
            self.tail.count += count;
        } else {
            self.seal();
            self.runs.push_back(Run {
                packets: chunk.slice(range),
                count,
            });
        }
        self.bytes += len;
        self.messages += count;
    }

    /// Begins a new block for copies if the last one is full. It is as long as all that is kept, so that
    /// little is allocated for a client which is sent little.
    fn make_room(&mut self, len: usize) {
        let packets = &self.tail.packets;
        if packets.capacity() - packets.len() < len {
            self.seal();
            let block = BytesMut::with_capacity(len.max(self.bytes.min(BLOCK)));
            self.tail.packets = block;
        }
    }

    fn seal(&mut self) {
        let Tail { packets, count } = mem::take(&mut self.tail);
        if count > 0 {
            self.runs.push_back(Run {
                packets: packets.freeze(),
                count,
            });
        }
    }

    /// Drops all packets before the one with this number.
    pub(super) fn drop_before(&mut self, number: u64) {
        while self.first < number && self.drop_first(number - self.first) {}
        if self.messages == 0 {
            (self.runs, self.tail) = Default::default();
        }
    }

    /// Drops the oldest packets until `limits` are kept.
    pub(super) fn shrink(&mut self, limits: Limits) {
        while (self.bytes > limits.bytes || self.messages > limits.messages) && self.messages > 1 {
            self.drop_first(1);
        }
    }

    /// Drops up to `most` packets of the first run; false if there is none.
    fn drop_first(&mut self, most: u64) -> bool {
        let (count, len) = match self.runs.front_mut() {
            Some(run) => run.drop_first(most),
            None => self.tail.drop_first(most),
        };
        if self.runs.front().is_some_and(|run| run.count == 0) {
            self.runs.pop_front();
        }
        self.first += count as u64;
        self.messages -= count;
        self.bytes -= len;
        count > 0
    }

    /// Checks that everything behind the first `received` packets is kept.
    pub(super) fn check(&self, received: u64) -> Result<(), Lost> {
        if received > self.sent() {
            Err(Lost::Invalid)
        } else if received < self.first {
            Err(Lost::Overflow)
        } else {
            Ok(())
        }
    }

    /// The packets that are kept, in order; each chunk holds whole ones.
    pub(super) fn chunks(&self) -> Vec<Bytes> {
        let runs = self.runs.iter().map(|run| run.packets.clone());
        let tail = Some(&self.tail).filter(|tail| tail.count > 0);
        runs.chain(tail.map(|tail| Bytes::copy_from_slice(&tail.packets)))
            .collect()
    }
}
