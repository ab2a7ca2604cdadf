//! Packets that were sent and are not acknowledged.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

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

/// The data packets that may have to be sent again, in order. Holds no memory when it is empty.
#[derive(Debug, Default)]
pub(super) struct Retained {
    runs: VecDeque<Run>,
    /// How many packets were sent before the first that is kept.
    first: u64,
    bytes: usize,
    messages: usize,
}

/// Data packets that lie behind each other in memory.
#[derive(Debug)]
struct Run {
    packets: Bytes,
    count: usize,
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

    /// Keeps the data packets of a chunk of whole packets. Its memory is shared, not copied.
    pub(super) fn push(&mut self, chunk: &Bytes) {
        let (mut start, mut at, mut count) = (0, 0, 0);
        while let Some(len) = packet_len(&chunk[at..]) {
            if chunk[at] == Kind::Data as u8 {
                count += 1;
            } else {
                self.push_run(chunk, start..at, count);
                (start, count) = (at + len, 0);
            }
            at += len;
        }
        self.push_run(chunk, start..at, count);
    }

    fn push_run(&mut self, chunk: &Bytes, range: std::ops::Range<usize>, count: usize) {
        if count == 0 {
            return;
        }
        self.bytes += range.len();
        self.messages += count;
        self.runs.push_back(Run {
            packets: chunk.slice(range),
            count,
        });
    }

    /// Drops all packets before the one with this number.
    pub(super) fn drop_before(&mut self, number: u64) {
        while self.first < number && self.drop_first(number - self.first) {}
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
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
        let Some(run) = self.runs.front_mut() else {
            return false;
        };
        let (count, len) = if run.count as u64 <= most {
            (run.count, run.packets.len())
        } else {
            let mut dropped = (0, 0);
            while (dropped.0 as u64) < most
                && let Some(len) = packet_len(&run.packets[dropped.1..])
            {
                dropped = (dropped.0 + 1, dropped.1 + len);
            }
            dropped
        };
        run.packets.advance(len);
        run.count -= count;
        if run.count == 0 {
            self.runs.pop_front();
        }
        self.first += count as u64;
        self.messages -= count;
        self.bytes -= len;
        true
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
        self.runs.iter().map(|run| run.packets.clone()).collect()
    }
}
