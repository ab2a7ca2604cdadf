//! What arrives through tunnels.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::wire::Chunk;
use crate::{
    cluster::NodeCall,
    error::{Error, code},
};

/// The tunnels that end at this gate, by id.
#[derive(Default)]
pub(in crate::gate) struct Inboxes {
    /// Held for one change; no other lock is taken while it is held.
    open: Mutex<HashMap<u64, Inbox>>,
}

struct Inbox {
    /// The address of the other gate.
    peer: Arc<str>,
    chunks: mpsc::Sender<(Chunk, NodeCall)>,
}

impl Inboxes {
    /// Opens the end of a tunnel; `None` if there is one with the id.
    pub(in crate::gate) fn open(self: &Arc<Self>, id: u64, peer: &str) -> Option<Incoming> {
        // The other gate sends the next chunk when this one is answered.
        let (sender, chunks) = mpsc::channel(1);
        match self.open.lock().entry(id) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(Inbox {
                peer: peer.into(),
                chunks: sender,
            }),
        };
        Some(Incoming {
            id,
            chunks,
            inboxes: self.clone(),
        })
    }

    /// Ends a tunnel: what has arrived is still read.
    pub(in crate::gate) fn end(&self, id: u64) {
        let ended = self.open.lock().remove(&id);
        // Without the lock: it wakes the reader.
        drop(ended);
    }

    /// Ends all tunnels to a gate that was cut off: a chunk may be lost.
    pub(in crate::gate) fn end_all(&self, peer: &str) {
        let ended: Vec<_> = {
            let mut open = self.open.lock();
            let ended = open.extract_if(|_, inbox| *inbox.peer == *peer);
            ended.collect()
        };
        drop(ended);
    }

    /// Hands a chunk over. A call for a tunnel that has ended, or of another gate, fails. So does a chunk
    /// that finds no room, of which the rest of the tunnel is lost.
    pub(in crate::gate) fn deliver(&self, chunk: Chunk, call: NodeCall) {
        let sender = {
            let open = self.open.lock();
            let inbox = open.get(&chunk.tunnel);
            let inbox = inbox.filter(|inbox| inbox.peer == call.from);
            inbox.map(|inbox| inbox.chunks.clone())
        };
        let Some(sender) = sender else {
            return call.fail(Error::new(code::NOT_FOUND, "the tunnel has ended"));
        };
        let tunnel = chunk.tunnel;
        if let Err(unsent) = sender.try_send((chunk, call)) {
            let (_, call) = unsent.into_inner();
            self.end(tunnel);
            call.fail(Error::new(
                code::TOO_MANY,
                "the chunk before is not consumed",
            ));
        }
    }
}

/// One direction of a tunnel, at its end.
pub(in crate::gate) struct Incoming {
    id: u64,
    chunks: mpsc::Receiver<(Chunk, NodeCall)>,
    inboxes: Arc<Inboxes>,
}

impl Incoming {
    /// Waits for the next chunk, and lets the other gate send one more. `None` when the tunnel has ended.
    pub(in crate::gate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let next = ready!(self.chunks.poll_recv(cx));
        Poll::Ready(next.map(|(chunk, call)| {
            call.respond(Ok(Bytes::new()));
            chunk
        }))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.inboxes.open.lock().remove(&self.id);
    }
}
