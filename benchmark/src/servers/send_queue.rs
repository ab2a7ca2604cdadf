//! The send queue of one client. Any thread queues; the connection's own task writes.

use std::{
    future::poll_fn,
    io, mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{io::AsyncWrite, net::TcpStream};

use super::framing::poll_read;

#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    queued: Mutex<Vec<u8>>,
    task: AtomicWaker,
}

/// What the task is writing, and how much of it is written.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    bytes: Vec<u8>,
    written: usize,
}

impl SendQueue {
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
    pub(crate) async fn exchange(
        &self,
        socket: &mut TcpStream,
        held: &mut Vec<u8>,
        writing: &mut Writing,
    ) -> io::Result<bool> {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            self.poll_write(cx, socket, writing)?;
            poll_read(socket, held, cx)
        })
        .await
    }

    /// Writes until there is nothing left or the socket takes no more.
    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        socket: &mut TcpStream,
        writing: &mut Writing,
    ) -> io::Result<()> {
        loop {
            if writing.written == writing.bytes.len() {
                writing.bytes.clear();
                writing.written = 0;
                mem::swap(&mut *self.queued.lock(), &mut writing.bytes);
                if writing.bytes.is_empty() {
                    return Ok(());
                }
            }
            match Pin::new(&mut *socket).poll_write(cx, &writing.bytes[writing.written..]) {
                Poll::Ready(size) => writing.written += size?,
                Poll::Pending => return Ok(()),
            }
        }
    }
}
