//! The transport of a session that has changed its connection, of any kind or none.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{net::stream::Transport, packet::Decoder};

/// Any transport, or none while the client is away: then reads and writes fail.
pub(in crate::gate) struct Replaceable(pub(in crate::gate) Option<Box<dyn Transport>>);

impl Replaceable {
    fn get(&mut self) -> io::Result<&mut dyn Transport> {
        match &mut self.0 {
            Some(transport) => Ok(&mut **transport),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Transport for Replaceable {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        self.get()?.poll_read(cx, into)
    }

    fn take_overhead(&mut self) -> usize {
        self.0
            .as_mut()
            .map_or(0, |transport| transport.take_overhead())
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.get()?.poll_discard(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        self.get()?.poll_write(cx, from, written)
    }

    fn is_final_close(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|transport| transport.is_final_close())
    }

    fn close(&mut self, code: Option<u16>, reason: &str) -> io::Result<()> {
        self.get()?.close(code, reason)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get()?.poll_shutdown(cx)
    }
}
