//! What is to be written to one client, whoever queues it. The connection's own task writes it.

use std::{
    future::poll_fn,
    io, mem,
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::framing::try_read;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queued: Mutex<Vec<u8>>,
    task: AtomicWaker,
}

/// What the task is writing, and how much of it is written.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Lets `write` append, and the task know if it may be waiting.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let was_empty = {
            let mut queued = self.queued.lock();
            let was_empty = queued.is_empty();
            write(&mut queued);
            was_empty
        };
        if was_empty {
            self.task.wake();
        }
    }

    /// Reads into `held`, and writes what is queued meanwhile; `false` at the end of the stream.
    pub(crate) async fn exchange(&self, socket: &TcpStream, held: &mut Vec<u8>, writing: &mut Writing) -> io::Result<bool> {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            self.poll_write(cx, socket, writing)?;
            loop {
                if socket.poll_read_ready(cx)?.is_pending() {
                    return Poll::Pending;
                }
                match try_read(socket, held) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
        })
        .await
    }

    /// Writes until there is nothing left or the socket takes no more.
    fn poll_write(&self, cx: &mut Context<'_>, socket: &TcpStream, writing: &mut Writing) -> io::Result<()> {
        loop {
            if writing.written == writing.bytes.len() {
                writing.bytes.clear();
                writing.written = 0;
                mem::swap(&mut *self.queued.lock(), &mut writing.bytes);
                if writing.bytes.is_empty() {
                    return Ok(());
                }
            }
            match socket.try_write(&writing.bytes[writing.written..]) {
                Ok(size) => writing.written += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match socket.poll_write_ready(cx) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => return Ok(()),
                },
                Err(error) => return Err(error),
            }
        }
    }
}
