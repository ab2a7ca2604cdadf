//! What stands for the transport of a session whose client is away.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{net::stream::Transport, packet::Decoder};

/// A transport without a connection: every use fails.
pub(in crate::gate) struct Disconnected;

impl Transport for Disconnected {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut Decoder) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(not_connected()))
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        _: &mut VecDeque<Bytes>,
        _: &mut u64,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(not_connected()))
    }

    fn close(&mut self, _: Option<u16>, _: &str) -> io::Result<()> {
        Err(not_connected())
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(not_connected()))
    }
}

fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
