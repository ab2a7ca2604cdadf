//! What a task writes to one client, whoever queues it.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, net::tcp::OwnedWriteHalf, sync::Notify};

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queued: Mutex<Queued>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    bytes: Vec<u8>,
    closed: bool,
}

impl Outbox {
    /// Lets `write` append, and the task know if it may be waiting.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let was_empty = {
            let mut queued = self.queued.lock();
            let was_empty = queued.bytes.is_empty();
            write(&mut queued.bytes);
            was_empty
        };
        if was_empty {
            self.wake.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.queued.lock().closed = true;
        self.wake.notify_one();
    }

    /// Writes all that is queued, until it is closed or the client has gone.
    pub(crate) async fn drain(self: Arc<Self>, mut socket: OwnedWriteHalf) {
        let mut bytes = Vec::new();
        loop {
            self.wake.notified().await;
            let closed = {
                let mut queued = self.queued.lock();
                mem::swap(&mut queued.bytes, &mut bytes);
                queued.closed
            };
            if socket.write_all(&bytes).await.is_err() || closed {
                return;
            }
            bytes.clear();
        }
    }
}
