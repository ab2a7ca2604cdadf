//! What is to be written to one client, whoever queues it. The connection's own task writes it.

use std::{io, mem};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, tcp::WriteHalf},
    sync::Notify,
};

use super::framing::try_read;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queued: Mutex<Vec<u8>>,
    wake: Notify,
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
            self.wake.notify_one();
        }
    }

    /// Reads into `held`, and writes what is queued meanwhile; `false` at the end of the stream.
    pub(crate) async fn exchange(&self, socket: &mut TcpStream, held: &mut Vec<u8>, writing: &mut Vec<u8>) -> io::Result<bool> {
        let (reader, mut writer) = socket.split();
        loop {
            tokio::select! {
                () = self.wake.notified() => self.write(&mut writer, writing).await?,
                readable = reader.readable() => {
                    readable?;
                    match try_read(reader.as_ref(), held) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        result => return result,
                    }
                }
            }
        }
    }

    async fn write(&self, socket: &mut WriteHalf<'_>, writing: &mut Vec<u8>) -> io::Result<()> {
        mem::swap(&mut *self.queued.lock(), writing);
        socket.write_all(writing).await?;
        writing.clear();
        Ok(())
    }
}
