//! What is kept for a client that can return, and is sent again: `resume::Endpoint` of nano-protocol
//! decides what. No I/O, no lock.

use std::{collections::VecDeque, mem};

use bytes::{Bytes, BytesMut};

use crate::{
    gate::{live_limits::LiveLimits, send_queue::SendQueue},
    packet::{self, Kind},
    resume::{AckError, Endpoint, Limits, Lost, Snapshot},
};

/// One client's counts, and the packets it has not acknowledged. The order in which packets leave
/// the send queue is the order in which they are counted.
#[derive(Debug)]
pub(in crate::gate) struct Replay {
    endpoint: Endpoint,
    /// What is sent again once the client has acknowledged the handshake of its return.
    again: Vec<Bytes>,
    /// What precedes the send queue; counted already.
    ready: VecDeque<Bytes>,
}

fn kept(limits: &LiveLimits) -> Limits {
    Limits::new(
        limits.unacknowledged_bytes(),
        limits.unacknowledged_messages(),
    )
}

impl Replay {
    /// That of a client whose session is new.
    pub(in crate::gate) fn new(limits: &LiveLimits) -> Self {
        let limits = kept(limits);
        Self {
            endpoint: Endpoint::new(limits),
            again: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// That of a client which comes from another gate; `None` if the snapshot is invalid.
    pub(in crate::gate) fn adopted(limits: &LiveLimits, snapshot: Snapshot) -> Option<Self> {
        let limits = kept(limits);
        Some(Self {
            endpoint: Endpoint::restore(limits, snapshot).ok()?,
            again: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// Counts what is queued as sent, for a client that is away.
    pub(in crate::gate) fn settle(&mut self, queue: &mut SendQueue) {
        self.drain(queue, &mut VecDeque::new());
        self.ready.clear();
    }

    pub(in crate::gate) fn snapshot(&self) -> Snapshot {
        self.endpoint.snapshot()
    }

    pub(in crate::gate) fn received(&self) -> u64 {
        self.endpoint.received()
    }

    /// The bytes and the number of the packets that are kept.
    pub(in crate::gate) fn unacknowledged(&self) -> (usize, usize) {
        self.endpoint.unacknowledged()
    }

    /// Counts data packets of the client, whose bodies have `len` bytes together.
    pub(in crate::gate) fn receive(&mut self, packets: u64, len: usize) {
        self.endpoint.receive_all(packets, len);
    }

    /// Applies the body of a heartbeat of the client.
    pub(in crate::gate) fn on_heartbeat(&mut self, body: &[u8]) -> Result<(), AckError> {
        self.endpoint.on_heartbeat(body)
    }

    /// The body of the next heartbeat.
    pub(in crate::gate) fn heartbeat(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.endpoint.heartbeat(&mut body);
        body
    }

    /// Moves everything that may be sent to `into`, and heartbeats that are due. Returns the
    /// number of packets.
    pub(in crate::gate) fn take(
        &mut self,
        queue: &mut SendQueue,
        into: &mut VecDeque<Bytes>,
    ) -> usize {
        let mut packets = self.ready.len();
        into.append(&mut self.ready);
        packets += self.drain(queue, into);
        while self.endpoint.heartbeat_due() {
            let (body, mut out) = (self.heartbeat(), BytesMut::new());
            // A count of ten bytes at most fits into a packet.
            if packet::encode(Kind::Heartbeat, &body, &mut out).is_ok() {
                into.push_back(out.freeze());
                packets += 1;
            }
        }
        packets
    }

    /// Counts and keeps what is queued, in order, and moves it to `into`.
    fn drain(&mut self, queue: &mut SendQueue, into: &mut VecDeque<Bytes>) -> usize {
        let before = into.len();
        let packets = queue.take(into);
        for chunk in into.range(before..) {
            self.endpoint.record(chunk);
        }
        packets
    }

    /// Checks that a client can go on after it has received so many packets of what was sent to
    /// it.
    ///
    /// # Errors
    /// See [`Endpoint::check`].
    pub(in crate::gate) fn check(&self, received: u64) -> Result<(), Lost> {
        self.endpoint.check(received)
    }

    /// Goes on over a new connection. What is queued counts as sent before; control packets of the
    /// old connection are dropped.
    ///
    /// # Errors
    /// See [`Endpoint::resume`].
    pub(in crate::gate) fn resume(
        &mut self,
        received: u64,
        queue: &mut SendQueue,
    ) -> Result<(), Lost> {
        self.endpoint.check(received)?;
        self.settle(queue);
        self.again = self.endpoint.resume(received)?;
        Ok(())
    }

    /// Notes that the client has acknowledged the handshake: what it misses is sent behind the reply.
    pub(in crate::gate) fn acknowledge(&mut self, queue: &mut SendQueue) {
        if self.again.is_empty() {
            return;
        }
        let mut ready = mem::take(&mut self.ready);
        self.drain(queue, &mut ready);
        ready.extend(mem::take(&mut self.again));
        self.ready = ready;
    }
}
