//! Clients without sockets, which take whatever they are sent: the process's CPU time is the server's.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use nano::{
    App, Listener, Timeouts,
    packet::Decoder,
    transport::{Accepted, Acceptor, Transport},
};
use tokio::task::yield_now;

/// A handshake, and its acknowledgement.
const OPENING: &[u8] = b"\x01\0\0\x02{}\x02\0\0\0";
/// The first byte of a data packet.
const DATA: u8 = 4;

/// How many data packets all clients of a node have taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken(Arc<AtomicU64>);

impl Taken {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes `count` of these the clients of a node.
pub(crate) fn with_readers(app: App, count: usize) -> (App, Taken) {
    let taken = Taken::default();
    let readers = Readers {
        left: count,
        taken: taken.clone(),
    };
    let app = app
        .timeouts(Timeouts::new().heartbeat(None))
        .listen(Listener::custom(readers));
    (app, taken)
}

struct Readers {
    left: usize,
    taken: Taken,
}

impl Acceptor for Readers {
    type Transport = Reader;

    async fn accept(&mut self) -> io::Result<Accepted<Reader>> {
        if self.left == 0 {
            return pending().await;
        }
        if self.left.is_multiple_of(64) {
            // Sockets do not all come at once, either: the node does other things between them.
            yield_now().await;
        }
        self.left -= 1;
        Ok(Accepted::new(Reader {
            input: Bytes::from_static(OPENING),
            taken: self.taken.clone(),
        }))
    }
}

struct Reader {
    input: Bytes,
    taken: Taken,
}

impl Transport for Reader {
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        let input = std::mem::take(&mut self.input);
        if input.is_empty() {
            return Poll::Pending;
        }
        into.feed(&input);
        Poll::Ready(Ok(input.len()))
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        for chunk in from.drain(..) {
            *written += chunk.len() as u64;
            self.taken
                .0
                .fetch_add(data_packets(&chunk), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A chunk holds whole packets: a type, a length of three bytes, a body.
fn data_packets(mut chunk: &[u8]) -> u64 {
    let mut count = 0;
    while let [kind, a, b, c, rest @ ..] = chunk {
        count += u64::from(*kind == DATA);
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        chunk = rest.get(len..).unwrap_or_default();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_data_are_counted() {
        assert_eq!(
            data_packets(b"\x01\0\0\x02{}\x04\0\0\x01x\x03\0\0\0\x04\0\0\0"),
            2
        );
        assert_eq!(data_packets(b""), 0);
    }
}
