//! The gate between a client and the gate that holds its session.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{client::Tunnel, wire::Chunk};
use crate::{
    gate::linger::linger,
    net::stream::Transport,
    packet::{self, Decoder},
};

/// Carries the packets of a client until its connection or the tunnel ends. `decoder` has what the
/// client has sent behind its handshake.
pub(in crate::gate) async fn carry<T: Transport>(transport: T, decoder: Decoder, tunnel: Tunnel) {
    let mut carried = Carried {
        transport,
        tunnel,
        from_client: decoder,
        up: VecDeque::new(),
        from_session: Decoder::new(packet::MAX_BODY),
        down: VecDeque::new(),
        end: None,
    };
    let ended = poll_fn(|cx| carried.poll(cx)).await;
    if ended.is_ok()
        && let Some(end) = carried.end
    {
        let code = u16::try_from(end.close_code).ok().filter(|code| *code > 0);
        linger(carried.transport, code, &end.close_reason).await;
    }
}

struct Carried<T> {
    transport: T,
    tunnel: Tunnel,
    from_client: Decoder,
    up: VecDeque<Bytes>,
    from_session: Decoder,
    down: VecDeque<Bytes>,
    /// How the other gate has ended the connection.
    end: Option<Chunk>,
}

impl<T: Transport> Carried<T> {
    /// Ready at the end of either side.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(ended) = self.poll_down(cx) {
            return Poll::Ready(ended);
        }
        self.poll_up(cx)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.transport.poll_write(cx, &mut self.down, &mut 0))?;
            if self.end.is_some() {
                return Poll::Ready(Ok(()));
            }
            let Some(chunk) = ready!(self.tunnel.incoming.poll_next(cx)) else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            self.from_session.feed(&chunk.data);
            self.down.extend(packets(&mut self.from_session)?);
            if chunk.end {
                self.end = Some(chunk);
            }
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.up.extend(packets(&mut self.from_client)?);
            let outgoing = &mut self.tunnel.outgoing;
            ready!(outgoing.poll_send(cx, &mut self.up, &mut 0))?;
            ready!(outgoing.poll_ready(cx))?;
            let read = self.transport.poll_read(cx, &mut self.from_client);
            if ready!(read)? == 0 {
                let final_close = self.transport.is_final_close();
                self.tunnel.outgoing.send(Chunk {
                    end: true,
                    final_close,
                    ..Chunk::default()
                })?;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Takes all whole packets, as bytes.
fn packets(decoder: &mut Decoder) -> io::Result<Option<Bytes>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut bytes = BytesMut::new();
    while let Some(packet) = decoder.decode().map_err(invalid)? {
        packet::encode(packet.kind, &packet.body, &mut bytes).map_err(invalid)?;
    }
    Ok((!bytes.is_empty()).then(|| bytes.freeze()))
}
