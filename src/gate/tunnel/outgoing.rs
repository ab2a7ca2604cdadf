//! What is sent through a tunnel.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::PollSender;

use super::{
    inboxes::Inboxes,
    wire::{CARRY, Chunk},
};
use crate::{
    cluster::NodeCaller,
    error::{Error, code},
};

/// The most bytes of one chunk.
const CHUNK: usize = 32 * 1024;

/// How long a chunk may wait at the other gate. A client that reads nothing for so long is cut, and
/// can return.
const CARRY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the end of a tunnel may be on its way after a chunk was refused.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// One direction of a tunnel, at its beginning. Dropped without an end, it sends one.
///
/// One chunk is under way at a time, and everything that is written meanwhile goes into the next. A
/// chunk that is lost ends the tunnel in both directions: the client and its session then find out what
/// is missing, as after any lost connection.
pub(in crate::gate) struct Outgoing {
    tunnel: u64,
    chunks: PollSender<Chunk>,
}

impl Outgoing {
    /// Opens the direction to the gate at this address. `inboxes` have the other direction.
    pub(in crate::gate) fn open(
        caller: NodeCaller,
        to: String,
        tunnel: u64,
        inboxes: Arc<Inboxes>,
    ) -> Self {
        let (sender, mut chunks) = mpsc::channel::<Chunk>(1);
        tokio::spawn(async move {
            let mut ended = false;
            let send = |chunk| caller.call::<_, ()>(&to, tunnel, CARRY, &chunk, CARRY_TIMEOUT);
            while let Some(chunk) = chunks.recv().await {
                ended = chunk.end;
                let Err(error) = send(chunk).await else {
                    continue;
                };
                // After an error nothing may follow but the end.
                chunks.close();
                if !is_lost(&error) {
                    // The other gate has ended the tunnel. How it has is on its way here, if it has
                    // said so.
                    sleep(END_TIMEOUT).await;
                    return inboxes.end(tunnel);
                }
                // The writer may have nothing to write for long: the reader learns of it.
                inboxes.end(tunnel);
                break;
            }
            if !ended {
                let end = Chunk {
                    tunnel,
                    end: true,
                    ..Chunk::default()
                };
                // The other gate may be gone.
                let _ = send(end).await;
            }
        });
        Self {
            tunnel,
            chunks: PollSender::new(sender),
        }
    }

    /// Sends everything; ready when nothing is left. Adds the number of bytes to `sent`.
    ///
    /// # Errors
    /// The tunnel has ended.
    pub(in crate::gate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        sent: &mut u64,
    ) -> Poll<io::Result<()>> {
        while !from.is_empty() {
            ready!(self.poll_ready(cx))?;
            let mut data = BytesMut::new();
            while data.len() < CHUNK
                && let Some(front) = from.front_mut()
            {
                let len = front.len().min(CHUNK - data.len());
                data.extend_from_slice(&front.split_to(len));
                if front.is_empty() {
                    from.pop_front();
                }
            }
            *sent += data.len() as u64;
            self.send(Chunk {
                data: data.freeze(),
                ..Chunk::default()
            })?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when a chunk may be sent.
    ///
    /// # Errors
    /// The tunnel has ended.
    pub(in crate::gate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.chunks.poll_reserve(cx).map_err(|_| ended())
    }

    /// Sends a chunk, after [`poll_ready`](Outgoing::poll_ready).
    ///
    /// # Errors
    /// The tunnel has ended.
    pub(in crate::gate) fn send(&mut self, chunk: Chunk) -> io::Result<()> {
        let tunnel = self.tunnel;
        let chunk = Chunk { tunnel, ..chunk };
        self.chunks.send_item(chunk).map_err(|_| ended())
    }
}

/// Whether a chunk has not arrived, or was not read.
fn is_lost(error: &Error) -> bool {
    matches!(
        error.code(),
        code::UNAVAILABLE | code::TIMEOUT | code::TOO_MANY
    )
}

fn ended() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
