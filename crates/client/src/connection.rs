//! The task of one connection: reads, writes, sends heartbeats.

use std::{
    future::poll_fn,
    io, mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, warn};

use nano_protocol::{
    Error,
    kick::Kick,
    message::{self, Message, MessageError, RouteFault},
    packet::{self, Decoder, Kind, Packet, PacketError},
};

use crate::{
    disconnect::DisconnectReason,
    heartbeat::{Heartbeat, Tick},
    shared::Shared,
    transport::Transport,
};

/// How long closing may take: sending the last packets, then waiting for the server's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The timer of a connection without heartbeats: far enough to never matter.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Connection {
    transport: Transport,
    decoder: Decoder,
    /// Messages that came in front of the handshake reply.
    early: Vec<Bytes>,
    /// Packets taken from the send queue; the first may be partly written.
    outgoing: BytesMut,
    heartbeat: Option<Heartbeat>,
    /// The last field, so the socket is closed before the client learns of the end.
    end: EndGuard,
}

/// Marks the client closed when it is dropped, also when the runtime drops the task.
struct EndGuard {
    shared: Arc<Shared>,
    reason: DisconnectReason,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.shared.end(self.reason.clone());
    }
}

impl Connection {
    /// Creates the task's state after an accepted handshake. Its first packet is the
    /// acknowledgement.
    pub(crate) fn new(
        transport: Transport,
        decoder: Decoder,
        early: Vec<Bytes>,
        shared: Arc<Shared>,
    ) -> Result<Self, PacketError> {
        let mut outgoing = BytesMut::new();
        packet::encode(Kind::Ack, &[], &mut outgoing)?;
        let heartbeat = shared
            .reply()
            .heartbeat
            .map(|interval| Heartbeat::new(interval, Instant::now()));
        let end = EndGuard {
            shared,
            reason: DisconnectReason::Broken("the runtime shut down".to_owned()),
        };
        Ok(Self {
            transport,
            decoder,
            early,
            outgoing,
            heartbeat,
            end,
        })
    }

    /// Runs until the connection ends.
    pub(crate) async fn run(mut self) {
        let mut reason = {
            let mut timer = pin!(sleep_until(self.deadline()));
            poll_fn(|cx| self.poll(cx, timer.as_mut())).await
        };
        if reason == DisconnectReason::Local {
            self.outgoing.unsplit(self.end.shared.take());
            // A timeout or an error here changes nothing: the socket is closed next.
            let _ = timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.poll_close(cx))).await;
        }
        if let DisconnectReason::Broken(_) = reason {
            // Received bytes can still be read, and a kick explains more than a broken pipe.
            if let Ok(kick @ DisconnectReason::Kicked(_)) =
                timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.poll_rest(cx))).await
            {
                reason = kick;
            }
        }
        debug!(%reason, "connection closed");
        self.end.reason = reason;
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<DisconnectReason> {
        loop {
            if let Err(reason) = self.transfer(cx) {
                return Poll::Ready(reason);
            }
            ready!(timer.as_mut().poll(cx));
            let tick = self
                .heartbeat
                .as_mut()
                .map_or(Tick::Nothing, |heartbeat| heartbeat.tick(Instant::now()));
            match tick {
                Tick::TimedOut => return Poll::Ready(DisconnectReason::HeartbeatTimeout),
                // Any packet serves as a heartbeat, so none is added to pending output.
                Tick::SendHeartbeat if self.outgoing.is_empty() && self.transport.is_flushed() => {
                    if let Err(error) = packet::encode(Kind::Heartbeat, &[], &mut self.outgoing) {
                        return Poll::Ready(DisconnectReason::Broken(error.to_string()));
                    }
                }
                Tick::SendHeartbeat | Tick::Nothing => {}
            }
            timer.as_mut().reset(self.deadline());
        }
    }

    /// Writes and reads as far as the socket allows, neither waiting for the other.
    fn transfer(&mut self, cx: &mut Context<'_>) -> Result<(), DisconnectReason> {
        self.end.shared.register(cx.waker())?;
        // First, because a server that floods would use up the task's cooperative budget.
        self.write(cx)?;
        self.read(cx)?;
        self.write(cx)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), DisconnectReason> {
        loop {
            // Take more only when all is written, so that waiting messages stay in the bounded
            // send queue.
            if self.outgoing.is_empty() && self.transport.is_flushed() {
                self.outgoing = self.end.shared.take();
                if self.outgoing.is_empty() {
                    return Ok(());
                }
            }
            match self.transport.poll_write(cx, &mut self.outgoing) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(DisconnectReason::of_io(&error)),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), DisconnectReason> {
        for message in mem::take(&mut self.early) {
            self.on_message(message)?;
        }
        loop {
            match self.decoder.decode() {
                Ok(Some(packet)) => self.on_packet(packet)?,
                Ok(None) => match self
                    .transport
                    .poll_read(cx, |bytes| self.decoder.feed(bytes))
                {
                    Poll::Ready(Ok(0)) if self.decoder.is_empty() => {
                        return Err(DisconnectReason::Server);
                    }
                    Poll::Ready(Ok(0)) => {
                        return Err(DisconnectReason::Broken(
                            "it ended inside a packet".to_owned(),
                        ));
                    }
                    Poll::Ready(Ok(_)) => {
                        if let Some(heartbeat) = &mut self.heartbeat {
                            heartbeat.touch(Instant::now());
                        }
                    }
                    Poll::Ready(Err(error)) => return Err(DisconnectReason::of_io(&error)),
                    Poll::Pending => return Ok(()),
                },
                Err(error) => return Err(DisconnectReason::Protocol(error.to_string())),
            }
        }
    }

    fn on_packet(&mut self, packet: Packet) -> Result<(), DisconnectReason> {
        match packet.kind {
            Kind::Data => self.on_message(packet.body),
            Kind::Kick => {
                let kick = Kick::decode(&packet.body);
                let reason = kick.reason.clone();
                self.end.shared.set_kick(kick);
                Err(DisconnectReason::Kicked(reason))
            }
            // Handshakes, acknowledgements and heartbeats carry nothing for an open connection.
            _ => Ok(()),
        }
    }

    fn on_message(&mut self, data: Bytes) -> Result<(), DisconnectReason> {
        let shared = &self.end.shared;
        match Message::decode(data, &shared.reply().dictionary) {
            Ok(Message {
                kind: message::Kind::Response,
                id,
                body,
                error,
                ..
            }) => {
                let response = if error {
                    Err(Error::from_body(&body))
                } else {
                    Ok(body)
                };
                shared.complete(id, response);
                Ok(())
            }
            Ok(Message {
                kind: message::Kind::Push,
                route,
                body,
                ..
            }) => {
                shared.listeners().deliver(route, body);
                Ok(())
            }
            Ok(_) => Err(DisconnectReason::Protocol(
                "the server sent a request".to_owned(),
            )),
            // No listener can have such a route, and the rest of the stream is intact.
            Err(MessageError::Route {
                kind: message::Kind::Push,
                fault: fault @ (RouteFault::UnknownCode(_) | RouteFault::NotUtf8),
                ..
            }) => {
                warn!(%fault, "push dropped, invalid route");
                Ok(())
            }
            Err(error) => Err(DisconnectReason::Protocol(error.to_string())),
        }
    }

    /// Reads what has arrived until the stream ends; ready with the reason.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<DisconnectReason> {
        match self.read(cx) {
            Ok(()) => Poll::Pending,
            Err(reason) => Poll::Ready(reason),
        }
    }

    /// Closes the sending side, then reads until the server closes its own: closing a socket with
    /// unread input resets it, and the reset can overtake the last packets.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = self.poll_shutdown(cx)?;
        while ready!(self.transport.poll_read(cx, |_| ()))? > 0 {}
        shutdown.map(Ok)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.transport.poll_write(cx, &mut self.outgoing))?;
        self.transport.poll_shutdown(cx)
    }

    /// When the heartbeat has to be looked at.
    fn deadline(&self) -> Instant {
        self.heartbeat
            .as_ref()
            .map_or_else(|| Instant::now() + NO_DEADLINE, Heartbeat::deadline)
    }
}
