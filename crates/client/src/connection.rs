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
    handshake::Reply,
    kick::Kick,
    message::{self, Message, MessageError, RouteFault},
    packet::{self, Decoder, Kind, Packet, PacketError},
};

use crate::{
    disconnect::DisconnectReason,
    heartbeat::{Heartbeat, Tick},
    reconnect::{Opened, Resumption, Returned},
    shared::Shared,
    transport::Transport,
};

/// How long closing may take: sending the last packets, then waiting for the server's end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The timer of a connection without heartbeats: far enough to never matter.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

fn heartbeat(reply: &Reply) -> Option<Heartbeat> {
    let interval = reply.heartbeat?;
    Some(Heartbeat::new(interval, Instant::now()))
}

pub(crate) struct Connection {
    transport: Transport,
    decoder: Decoder,
    /// Messages that came in front of the handshake reply.
    early: Vec<Bytes>,
    /// Packets taken from the send queue; the first may be partly written.
    outgoing: BytesMut,
    heartbeat: Option<Heartbeat>,
    /// Set if the session outlives the connection. Boxed: rare.
    resumption: Option<Box<Resumption>>,
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
        opened: Opened,
        shared: Arc<Shared>,
        resumption: Option<Resumption>,
    ) -> Result<Self, PacketError> {
        let Opened {
            transport,
            decoder,
            early,
            reply,
        } = opened;
        let mut outgoing = BytesMut::new();
        packet::encode(Kind::Ack, &[], &mut outgoing)?;
        let heartbeat = heartbeat(&reply);
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
            resumption: resumption.map(Box::new),
            end,
        })
    }

    /// Runs until the connection ends, and on every connection on which the client returns to its
    /// session.
    pub(crate) async fn run(mut self) {
        loop {
            let reason = self.serve().await;
            if let Err(reason) = self.resume(reason).await {
                debug!(%reason, "connection closed");
                self.end.reason = reason;
                return;
            }
        }
    }

    /// Returns to the session after the connection has ended for this reason.
    ///
    /// # Errors
    /// The reason, or a later one: the client ends.
    async fn resume(&mut self, reason: DisconnectReason) -> Result<(), DisconnectReason> {
        let Some(resumption) = &mut self.resumption else {
            return Err(reason);
        };
        // The server learns of the loss now, not when the client is back.
        self.transport.abandon();
        let Returned {
            opened,
            replay,
            resumable,
        } = resumption.resume(reason, &self.end.shared).await?;
        self.resumption = self.resumption.take().filter(|_| resumable);
        self.heartbeat = heartbeat(&opened.reply);
        (self.transport, self.decoder) = (opened.transport, opened.decoder);
        self.early = opened.early;
        self.outgoing.clear();
        packet::encode(Kind::Ack, &[], &mut self.outgoing)
            .map_err(|error| DisconnectReason::Broken(error.to_string()))?;
        for chunk in replay {
            self.outgoing.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Serves one connection; returns why it ended.
    async fn serve(&mut self) -> DisconnectReason {
        let mut reason = {
            let mut timer = pin!(sleep_until(self.deadline()));
            poll_fn(|cx| self.poll(cx, timer.as_mut())).await
        };
        if reason == DisconnectReason::Local {
            self.outgoing.unsplit(self.end.shared.take());
            if self.resumption.is_some() {
                // A final close: the session ends at once. An empty body fits into a packet.
                let _ = packet::encode(Kind::Kick, &[], &mut self.outgoing);
            }
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
        reason
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
                    self.send_heartbeat();
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
        let due = |resumption: &Resumption| resumption.endpoint.heartbeat_due();
        while self.resumption.as_deref().is_some_and(due) {
            self.send_heartbeat();
        }
        self.write(cx)
    }

    /// Adds a heartbeat to what is written next. It acknowledges what has arrived, if the session
    /// can be resumed.
    fn send_heartbeat(&mut self) {
        let mut body = Vec::new();
        if let Some(resumption) = &mut self.resumption {
            resumption.endpoint.heartbeat(&mut body);
        }
        // A count fits into a packet.
        let _ = packet::encode(Kind::Heartbeat, &body, &mut self.outgoing);
    }

    /// Takes what is queued. What may have to be sent again is bounded: beyond that it stays in the
    /// queue.
    fn take(&mut self) -> BytesMut {
        let Some(resumption) = &mut self.resumption else {
            return self.end.shared.take();
        };
        if resumption.endpoint.is_full() {
            return BytesMut::new();
        }
        let packets = self.end.shared.take();
        if !packets.is_empty() {
            // All of it, although it may be more than fits: the session could not be resumed without.
            resumption.endpoint.keep(&Bytes::copy_from_slice(&packets));
        }
        packets
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), DisconnectReason> {
        loop {
            // Take more only when all is written, so that waiting messages stay in the bounded
            // send queue.
            if self.outgoing.is_empty() && self.transport.is_flushed() {
                self.outgoing = self.take();
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
            Kind::Data => {
                if let Some(resumption) = &mut self.resumption {
                    resumption.endpoint.receive(packet.body.len());
                }
                self.on_message(packet.body)
            }
            Kind::Heartbeat => match &mut self.resumption {
                Some(resumption) => resumption
                    .endpoint
                    .on_heartbeat(&packet.body)
                    .map_err(|error| DisconnectReason::Protocol(error.to_string())),
                None => Ok(()),
            },
            Kind::Kick => {
                let kick = Kick::decode(&packet.body);
                let reason = kick.reason.clone();
                self.end.shared.set_kick(kick);
                Err(DisconnectReason::Kicked(reason))
            }
            // Handshakes and acknowledgements carry nothing for an open connection.
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
