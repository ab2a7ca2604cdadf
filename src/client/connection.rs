//! One connection: a task that reads, writes and keeps time.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::{
    close::CloseReason,
    heartbeat::{Heartbeat, Tick},
    link::Link,
    transport::Transport,
};
use crate::{
    error::Error,
    handshake::decode_kick,
    message::{self, Message, MessageError, RouteFault},
    packet::{self, Decoder, Kind, Packet, PacketError},
};

/// How long the last packets may take after the client was closed, and the server to close its
/// side.
const LINGER: Duration = Duration::from_secs(1);
/// When to look again at a connection without heartbeats.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Connection {
    transport: Transport,
    decoder: Decoder,
    /// Whole packets, except for a first one that is partly written.
    outgoing: BytesMut,
    heartbeat: Option<Heartbeat>,
    end: End,
}

/// Ends the link whatever becomes of the task, also of one that its runtime drops. The last field,
/// so that the socket is closed before.
struct End {
    link: Arc<Link>,
    reason: CloseReason,
}

impl Drop for End {
    fn drop(&mut self) {
        self.link.end(self.reason.clone());
    }
}

impl Connection {
    /// A connection whose server has let this client in. The first packet acknowledges that.
    pub(super) fn new(
        transport: Transport,
        decoder: Decoder,
        link: Arc<Link>,
    ) -> Result<Self, PacketError> {
        let mut outgoing = BytesMut::new();
        packet::encode(Kind::Ack, &[], &mut outgoing)?;
        let heartbeat = link
            .reply()
            .heartbeat
            .map(|interval| Heartbeat::new(interval, Instant::now()));
        let end = End {
            link,
            reason: CloseReason::Broken("its task was dropped".to_owned()),
        };
        Ok(Self {
            transport,
            decoder,
            outgoing,
            heartbeat,
            end,
        })
    }

    /// Serves the client until the connection ends.
    pub(super) async fn run(mut self) {
        let mut reason = {
            let mut alarm = pin!(sleep_until(self.due()));
            poll_fn(|cx| self.poll(cx, alarm.as_mut())).await
        };
        if reason == CloseReason::Local {
            self.outgoing.unsplit(self.end.link.take());
            // Whether it is done in time or not, the socket is closed now.
            let _ = timeout(LINGER, poll_fn(|cx| self.poll_finish(cx))).await;
        }
        if let CloseReason::Broken(_) = reason {
            // What has arrived before can still be read, and a kick says more than a broken pipe.
            if let Ok(kick @ CloseReason::Kicked(_)) =
                timeout(LINGER, poll_fn(|cx| self.poll_last_words(cx))).await
            {
                reason = kick;
            }
        }
        debug!(%reason, "connection closed");
        self.end.reason = reason;
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>) -> Poll<CloseReason> {
        loop {
            if let Err(reason) = self.transfer(cx) {
                return Poll::Ready(reason);
            }
            ready!(alarm.as_mut().poll(cx));
            let tick = self
                .heartbeat
                .as_mut()
                .map_or(Tick::Nothing, |heartbeat| heartbeat.tick(Instant::now()));
            match tick {
                Tick::Gone => return Poll::Ready(CloseReason::HeartbeatTimeout),
                // What is about to be written is a sign of life too.
                Tick::Beat if self.outgoing.is_empty() && self.transport.is_flushed() => {
                    if let Err(error) = packet::encode(Kind::Heartbeat, &[], &mut self.outgoing) {
                        return Poll::Ready(CloseReason::Broken(error.to_string()));
                    }
                }
                Tick::Beat | Tick::Nothing => {}
            }
            alarm.as_mut().reset(self.due());
        }
    }

    /// Writes and reads whatever can be, without waiting for one before the other.
    fn transfer(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.end.link.watch(cx.waker())?;
        // Before reading, for a server that sends without end would use up this turn's share of
        // I/O.
        self.write(cx)?;
        self.read(cx)?;
        self.write(cx)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            // What is being written leaves whole before more is taken, so what waits stays in the
            // bounded queue.
            if self.outgoing.is_empty() && self.transport.is_flushed() {
                self.outgoing = self.end.link.take();
                if self.outgoing.is_empty() {
                    return Ok(());
                }
            }
            match self.transport.poll_write(cx, &mut self.outgoing) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            match self.decoder.decode() {
                Ok(Some(packet)) => self.packet(packet)?,
                Ok(None) => match self
                    .transport
                    .poll_read(cx, |bytes| self.decoder.feed(bytes))
                {
                    Poll::Ready(Ok(0)) if self.decoder.is_empty() => {
                        return Err(CloseReason::Server);
                    }
                    Poll::Ready(Ok(0)) => {
                        return Err(CloseReason::Broken(
                            "it ended inside of a packet".to_owned(),
                        ));
                    }
                    Poll::Ready(Ok(_)) => {
                        if let Some(heartbeat) = &mut self.heartbeat {
                            heartbeat.seen(Instant::now());
                        }
                    }
                    Poll::Ready(Err(error)) => return Err(broken(&error)),
                    Poll::Pending => return Ok(()),
                },
                Err(error) => return Err(CloseReason::Protocol(error.to_string())),
            }
        }
    }

    fn packet(&mut self, packet: Packet) -> Result<(), CloseReason> {
        match packet.kind {
            Kind::Data => self.message(packet.body),
            Kind::Kick => Err(CloseReason::Kicked(decode_kick(&packet.body))),
            Kind::Handshake | Kind::Ack | Kind::Heartbeat => Ok(()),
        }
    }

    fn message(&mut self, data: Bytes) -> Result<(), CloseReason> {
        let link = &self.end.link;
        match Message::decode(data, &link.reply().dictionary) {
            Ok(Message {
                kind: message::Kind::Response,
                id,
                body,
                error,
                ..
            }) => {
                link.answer(
                    id,
                    if error {
                        Err(Error::from_body(&body))
                    } else {
                        Ok(body)
                    },
                );
                Ok(())
            }
            Ok(Message {
                kind: message::Kind::Push,
                route,
                body,
                ..
            }) => {
                link.listeners().deliver(&route, &body);
                Ok(())
            }
            Ok(Message {
                kind: message::Kind::Request | message::Kind::Notify,
                ..
            }) => Err(CloseReason::Protocol(
                "the server sent a request".to_owned(),
            )),
            // Nobody can listen to such a route; the rest of the stream is sound.
            Err(MessageError::Route {
                kind: message::Kind::Push,
                fault: fault @ (RouteFault::UnknownCode(_) | RouteFault::NotUtf8),
                ..
            }) => {
                warn!(%fault, "push dropped");
                Ok(())
            }
            Err(error) => Err(CloseReason::Protocol(error.to_string())),
        }
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match self.read(cx) {
            Ok(()) => Poll::Pending,
            Err(reason) => Poll::Ready(reason),
        }
    }

    /// Says goodbye and reads until the server does the same: a socket closed with unread input is
    /// reset, and the reset can overtake the last packets.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goodbye = self.poll_goodbye(cx)?;
        while ready!(self.transport.poll_read(cx, |_| ()))? > 0 {}
        goodbye.map(Ok)
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.transport.poll_write(cx, &mut self.outgoing))?;
        self.transport.poll_shutdown(cx)
    }

    /// When something may be due.
    fn due(&self) -> Instant {
        self.heartbeat
            .as_ref()
            .map_or_else(|| Instant::now() + IDLE, Heartbeat::due)
    }
}

pub(super) fn broken(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::InvalidData => CloseReason::Protocol(error.to_string()),
        _ => CloseReason::Broken(error.to_string()),
    }
}
