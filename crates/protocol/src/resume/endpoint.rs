//! One end of a session that can be resumed.

use std::{error, fmt};

use bytes::Bytes;

use super::{
    lost::Lost,
    retained::{Limits, Retained},
};

/// An acknowledgement is due after this many packets.
const ACK_MESSAGES: u64 = 256;
/// An acknowledgement is due after this many bytes of packet bodies.
const ACK_BYTES: usize = 32 * 1024;
/// The longest encoded count.
const MAX_COUNT: usize = 10;

/// One end of a session that can be resumed: what it has received, and what it may have to send
/// again.
///
/// The owner reports each data packet it receives and each chunk it hands to the socket, in order.
/// An acknowledgement is due early after 256 packets or 32 KiB, and when half of the [`Limits`] is
/// unacknowledged here: the count is then sent until the last one is repeated, which asks the other end
/// for its own. Such a question is answered if there is something to acknowledge.
#[derive(Debug)]
pub struct Endpoint {
    limits: Limits,
    received: u64,
    /// What the other end knows of `received`.
    announced: u64,
    /// Bytes received since then.
    unannounced: usize,
    retained: Retained,
    /// The packets that the other end has acknowledged.
    acknowledged: u64,
    /// Whether a heartbeat with the count is due.
    due: bool,
    question: Question,
}

/// Asks the other end how much it has received, because half of the limits is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    /// The count must be sent, and repeat the one before.
    Due,
    /// Not answered yet.
    Asked,
}

/// The state of an [`Endpoint`], to go on in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The data packets received.
    pub received: u64,
    /// The data packets that the other end has acknowledged.
    pub acknowledged: u64,
    /// The data packets sent before the first that is kept.
    pub first: u64,
    /// What is kept: whole data packets, in order.
    pub packets: Vec<Bytes>,
}

/// A [`Snapshot`] that is none of an endpoint: its packets are cut or of another kind, or more is
/// acknowledged than was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotError;

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot of an endpoint is invalid")
    }
}

impl error::Error for SnapshotError {}

/// An acknowledgement that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckError {
    /// The body of the heartbeat is not a count.
    Malformed,
    /// It is larger than what was sent.
    Ahead,
    /// It is smaller than an earlier one.
    Backwards,
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the body of a heartbeat is not a count",
            Self::Ahead => "more was acknowledged than was sent",
            Self::Backwards => "less was acknowledged than before",
        })
    }
}

impl error::Error for AckError {}

impl Endpoint {
    /// Creates one end of a new session.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            received: 0,
            announced: 0,
            unannounced: 0,
            retained: Retained::default(),
            acknowledged: 0,
            due: false,
            question: Question::None,
        }
    }

    /// The data packets received since the session's first handshake.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The data packets sent since the session's first handshake.
    pub fn sent(&self) -> u64 {
        self.retained.sent()
    }

    /// The bytes and the number of the packets that are kept.
    pub fn unacknowledged(&self) -> (usize, usize) {
        (self.retained.bytes(), self.retained.messages())
    }

    /// Everything that another process needs to go on as this end.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            received: self.received,
            acknowledged: self.acknowledged,
            first: self.retained.first(),
            packets: self.retained.chunks(),
        }
    }

    /// Goes on as the end of which the snapshot was taken. What the other end knows of
    /// [`received`](Endpoint::received) is unknown, so an acknowledgement is due.
    ///
    /// # Errors
    /// The snapshot cannot be one of an endpoint.
    pub fn restore(limits: Limits, snapshot: Snapshot) -> Result<Self, SnapshotError> {
        let retained = Retained::restore(snapshot.first, &snapshot.packets);
        let retained = retained.ok_or(SnapshotError)?;
        if snapshot.acknowledged > snapshot.first {
            return Err(SnapshotError);
        }
        Ok(Self {
            received: snapshot.received,
            acknowledged: snapshot.acknowledged,
            retained,
            due: true,
            ..Self::new(limits)
        })
    }

    /// Whether as much is unacknowledged as is kept. An end that sends more than that loses the
    /// oldest packets, and the session if they are needed.
    pub fn is_full(&self) -> bool {
        self.retained.bytes() >= self.limits.bytes
            || self.retained.messages() >= self.limits.messages
    }

    /// Counts a received data packet, whose body has `len` bytes.
    pub fn receive(&mut self, len: usize) {
        self.receive_all(1, len);
    }

    /// Counts several received data packets, whose bodies have `len` bytes together.
    pub fn receive_all(&mut self, packets: u64, len: usize) {
        self.received += packets;
        self.unannounced += len;
        self.due |= self.received - self.announced >= ACK_MESSAGES || self.unannounced >= ACK_BYTES;
    }

    /// Keeps the data packets of a chunk that is about to be sent; it holds whole packets of any
    /// kind. Beyond the limits the oldest packets are dropped.
    pub fn record(&mut self, chunk: &Bytes) {
        self.retained.push(chunk);
        self.retained.shrink(self.limits);
        self.ask_for_count();
    }

    /// As [`record`](Endpoint::record), but drops nothing: for an end that sends nothing while it
    /// [is full](Endpoint::is_full). Such an end exceeds the limits by one chunk at most.
    pub fn keep(&mut self, chunk: &Bytes) {
        self.retained.push(chunk);
        self.ask_for_count();
    }

    fn ask_for_count(&mut self) {
        let half_used = self.retained.bytes() > self.limits.bytes / 2
            || self.retained.messages() > self.limits.messages / 2;
        if half_used && self.question == Question::None {
            (self.question, self.due) = (Question::Due, true);
        }
    }

    /// Applies the body of a received heartbeat; an empty one says nothing.
    ///
    /// # Errors
    /// The body cannot be right; nothing changes.
    pub fn on_heartbeat(&mut self, body: &[u8]) -> Result<(), AckError> {
        if body.is_empty() {
            return Ok(());
        }
        let count = decode_count(body).ok_or(AckError::Malformed)?;
        if count > self.sent() {
            return Err(AckError::Ahead);
        }
        if count < self.acknowledged {
            return Err(AckError::Backwards);
        }
        // One that repeats the last is a question. To answer all counts would go on for ever, as long as
        // both ends send something in the meantime.
        let repeated = count == self.acknowledged;
        self.acknowledge(count);
        self.due |= repeated && self.received > self.announced;
        Ok(())
    }

    fn acknowledge(&mut self, count: u64) {
        self.acknowledged = count;
        self.retained.drop_before(count);
        self.question = Question::None;
    }

    /// Whether a heartbeat should be sent now, ahead of the next one. It may be due twice in a row.
    pub fn heartbeat_due(&self) -> bool {
        self.due
    }

    /// Appends the body of a heartbeat: the count of received packets.
    pub fn heartbeat(&mut self, body: &mut Vec<u8>) {
        self.announce();
        encode_count(self.received, body);
    }

    /// Notes that the other end has been sent the count of received packets.
    pub fn announce(&mut self) {
        if self.question == Question::Due && self.announced == self.received {
            self.question = Question::Asked;
        }
        (self.announced, self.unannounced) = (self.received, 0);
        self.due = self.question == Question::Due;
    }

    /// Checks that the other end can go on after `received` packets. Changes nothing.
    ///
    /// # Errors
    /// [`Lost::Invalid`] if it cannot have received so many, or has acknowledged more;
    /// [`Lost::Overflow`] if it needs packets that are no longer kept.
    pub fn check(&self, received: u64) -> Result<(), Lost> {
        if received < self.acknowledged {
            return Err(Lost::Invalid);
        }
        self.retained.check(received)
    }

    /// Goes on over a new connection, whose other end has received so many packets. Returns what to
    /// send again, before anything new and without [recording](Endpoint::record) it.
    ///
    /// # Errors
    /// As [`check`](Endpoint::check); nothing changes.
    pub fn resume(&mut self, received: u64) -> Result<Vec<Bytes>, Lost> {
        self.check(received)?;
        self.acknowledge(received);
        self.announce();
        Ok(self.retained.chunks())
    }
}

/// Seven bits a byte, lowest first, the high bit set on all bytes but the last.
fn encode_count(mut count: u64, out: &mut Vec<u8>) {
    while count >= 0x80 {
        out.push(count as u8 | 0x80);
        count >>= 7;
    }
    out.push(count as u8);
}

fn decode_count(bytes: &[u8]) -> Option<u64> {
    let (last, rest) = bytes.split_last()?;
    if bytes.len() > MAX_COUNT || last & 0x80 != 0 || rest.iter().any(|byte| byte & 0x80 == 0) {
        return None;
    }
    bytes
        .iter()
        .enumerate()
        .try_fold(0u64, |count, (at, byte)| {
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * at);
            (shifted >> (7 * at) == bits).then_some(count | shifted)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_survives_the_wire_and_other_bytes_are_none() {
        for count in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut body = Vec::new();
            encode_count(count, &mut body);
            assert_eq!(decode_count(&body), Some(count));
        }
        for body in [
            &[0x80][..],
            &[1, 1],
            &[0xff; 10],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert_eq!(decode_count(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_restored_endpoint_goes_on_as_the_one_before() {
        let packet = |text: &str| Bytes::from([&[4, 0, 0, 1], text.as_bytes()].concat());
        let mut before = Endpoint::new(Limits::default());
        for text in ["a", "b", "c"] {
            before.record(&packet(text));
        }
        before.receive(5);
        before.on_heartbeat(&[1]).unwrap();
        let snapshot = before.snapshot();
        let mut after = Endpoint::restore(Limits::default(), snapshot.clone()).unwrap();
        assert_eq!(after.snapshot(), snapshot);
        assert!(after.heartbeat_due(), "the other end may be waiting");
        for received in 0..5 {
            assert_eq!(after.check(received), before.check(received), "{received}");
        }
        after.record(&packet("d"));
        let again = after.resume(2).unwrap().concat();
        assert_eq!(again, [packet("c"), packet("d")].concat());
        assert_eq!((after.sent(), after.received()), (4, 1));
    }

    #[test]
    fn a_snapshot_that_is_none_is_refused() {
        let restore = |acknowledged, first, packet: &'static [u8]| {
            let snapshot = Snapshot {
                received: 0,
                acknowledged,
                first,
                packets: vec![Bytes::from_static(packet)],
            };
            Endpoint::restore(Limits::default(), snapshot).is_ok()
        };
        assert!(restore(2, 2, b"\x04\0\0\x01x"));
        assert!(!restore(3, 2, b"\x04\0\0\x01x"), "more than was sent");
        assert!(!restore(2, u64::MAX, b"\x04\0\0\x01x"), "more than counts");
        for cut in [
            &b"\x04\0\0\x02x"[..],
            b"\x04\0\0",
            b"\x03\0\0\x01x",
            b"\x04\xff\xff\xff",
        ] {
            assert!(!restore(2, 2, cut), "{cut:?}");
        }
    }
}
