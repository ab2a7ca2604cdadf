//! The client of another gate, as a transport of the gate that holds its session.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{inboxes::Incoming, outgoing::Outgoing, wire::Chunk};
use crate::{net::stream::Transport, packet::Decoder};

/// Carries the packets of a client whose connection another gate has accepted.
pub(in crate::gate) struct Tunnelled {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Whether the client's end has arrived.
    ended: bool,
    final_close: bool,
    close: (u16, String),
    /// Whether the end was sent.
    shut_down: bool,
}

impl Tunnelled {
    pub(in crate::gate) fn new(incoming: Incoming, outgoing: Outgoing) -> Self {
        Self {
            incoming,
            outgoing,
            ended: false,
            final_close: false,
            close: (0, String::new()),
            shut_down: false,
        }
    }
}

impl Transport for Tunnelled {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Decoder) -> Poll<io::Result<usize>> {
        while !self.ended {
            let Some(chunk) = ready!(self.incoming.poll_next(cx)) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            (self.ended, self.final_close) = (chunk.end, chunk.final_close);
            if !chunk.data.is_empty() {
                into.feed(&chunk.data);
                return Poll::Ready(Ok(chunk.data.len()));
            }
        }
        Poll::Ready(Ok(0))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut VecDeque<Bytes>,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        self.outgoing.poll_send(cx, from, written)
    }

    fn is_final_close(&self) -> bool {
        self.final_close
    }

    fn close(&mut self, code: Option<u16>, reason: &str) -> io::Result<()> {
        self.close = (code.unwrap_or_default(), reason.to_owned());
        Ok(())
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut_down {
            ready!(self.outgoing.poll_ready(cx))?;
            self.shut_down = true;
            let (code, reason) = &self.close;
            self.outgoing.send(Chunk {
                end: true,
                close_code: (*code).into(),
                close_reason: reason.clone(),
                ..Chunk::default()
            })?;
        }
        Poll::Ready(Ok(()))
    }
}
