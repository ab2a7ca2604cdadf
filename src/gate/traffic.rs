//! How much one client has sent and was sent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of a client's packets and bytes, for operators.
///
/// Written by the task that drives the connection, read by any thread.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    bytes_received: AtomicU64,
    packets_sent: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Traffic {
    pub(super) fn received(&self, bytes: u64) {
        add(&self.bytes_received, bytes);
    }

    /// Packets have left the send queue.
    pub(super) fn taken(&self, packets: u64) {
        add(&self.packets_sent, packets);
    }

    pub(super) fn sent(&self, bytes: u64) {
        add(&self.bytes_sent, bytes);
    }

    /// Bytes received, packets sent and bytes sent.
    pub(super) fn totals(&self) -> [u64; 3] {
        [&self.bytes_received, &self.packets_sent, &self.bytes_sent].map(|it| it.load(Relaxed))
    }
}

/// With one writer no atomic addition is needed, which would take as long as 20 instructions.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}
