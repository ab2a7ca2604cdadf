//! One client: a task that reads, writes and keeps time.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Gate,
    agent::{Agent, Output},
    alarm::Alarm,
    protocol::{Protocol, Step, Tick},
    rate::Bucket,
    stream::Transport,
};
use crate::{
    dispatch::Dispatched,
    error::{Error, Result, code},
    handshake::{self, Request},
    message::{self, Message, MessageError, RouteFault},
    packet::{Decoder, Kind, Packet},
    session::{CloseReason, Session, SessionSink},
};

/// How long the last packets of a closing connection may take, and how long a client may take to
/// close its side.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Nothing here is waited for in sequence: a client that does not read is still read from, and the
/// other way round.
pub(super) struct Connection<T> {
    gate: Arc<Gate>,
    agent: Arc<Agent>,
    session: Session,
    transport: T,
    protocol: Protocol,
    decoder: Decoder,
    outgoing: VecDeque<Bytes>,
    bucket: Option<Bucket>,
    /// A message whose scheduler or way is full, and everything behind it, waits until this is
    /// over.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    held: Option<Dispatched>,
    /// Whether it waits for the client, and not for room.
    reading: bool,
    /// When the oldest unanswered request runs out, or a time before that.
    requests_by: Option<Instant>,
    /// Set when the connection ends: until then its last packets may be written.
    closing_by: Option<Instant>,
    now: Instant,
}

impl<T: Transport> Connection<T> {
    pub(super) fn new(gate: Arc<Gate>, agent: Arc<Agent>, session: Session, transport: T) -> Self {
        let (settings, now) = (&gate.settings, Instant::now());
        Self {
            protocol: Protocol::new(settings.heartbeat, settings.handshake_timeout, now),
            decoder: Decoder::new(settings.max_packet),
            outgoing: VecDeque::new(),
            bucket: settings
                .rate_limit
                .as_ref()
                .map(|limit| Bucket::new(limit, now)),
            pause: None,
            held: None,
            reading: true,
            requests_by: None,
            closing_by: None,
            now,
            gate,
            agent,
            session,
            transport,
        }
    }

    /// Serves the client until the connection ends: why.
    pub(super) async fn run(&mut self) -> CloseReason {
        let sleep = pin!(sleep_until(self.now));
        let mut alarm = Alarm::new(sleep);
        poll_fn(|cx| self.poll(cx, &mut alarm)).await
    }

    /// Ends the stream of an orderly end, and waits a little for the client to do the same: a
    /// socket closed with unread input is reset, and the reset can overtake the last packets.
    pub(super) async fn linger(&mut self) {
        // Fed a bad header first, it discards whatever follows.
        self.decoder = Decoder::new(0);
        self.decoder.feed(&[0; 4]);
        let _ = self.decoder.decode();
        let end = async {
            poll_fn(|cx| self.transport.poll_shutdown(cx)).await?;
            while poll_fn(|cx| self.transport.poll_read(cx, &mut self.decoder)).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether it ends in time or not, the socket is closed now.
        let _ = timeout(LINGER, end).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm<'_>) -> Poll<CloseReason> {
        self.now = Instant::now();
        loop {
            if let Poll::Ready(reason) = self.poll_once(cx) {
                return Poll::Ready(reason);
            }
            ready!(alarm.poll(cx, self.due(), self.now));
            self.now = Instant::now();
            if let Some(reason) = self.ring() {
                return Poll::Ready(reason);
            }
        }
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if self.agent.is_open() {
            self.reading = false;
            if let Poll::Ready(reason) = self.poll_input(cx) {
                self.agent.close(reason);
            }
        } else if self.held.is_some() {
            // It was read before the end began, so what drains waits for it.
            let _ = self.poll_held(cx);
        }
        self.poll_output(cx)
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut written = 0;
        let end = loop {
            // What is being written goes out whole before more is taken, so what waits stays in the
            // bounded queue.
            match self
                .transport
                .poll_write(cx, &mut self.outgoing, &mut written)
            {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(broken(&error)),
                Poll::Pending => match self.agent.poll_close(cx) {
                    Some(CloseReason::SlowClient) => break Poll::Ready(CloseReason::SlowClient),
                    Some(_) => {
                        self.closing_by.get_or_insert(self.now + LINGER);
                        break Poll::Pending;
                    }
                    None => break Poll::Pending,
                },
            }
            match self
                .agent
                .poll_output(&self.session, &mut self.outgoing, cx)
            {
                Output::Packets => {}
                Output::Nothing => break Poll::Pending,
                Output::Close(reason) if self.outgoing.is_empty() => break Poll::Ready(reason),
                Output::Close(_) => {
                    self.closing_by.get_or_insert(self.now + LINGER);
                }
            }
        };
        if written > 0 {
            self.gate.metrics.bytes_sent.increment(written);
        }
        end
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            ready!(self.poll_held(cx));
            // Asked for when there is something to take: it is in memory that schedulers write to.
            if !self.decoder.is_empty() {
                ready!(
                    self.session
                        .core()
                        .sequencer
                        .poll_ready(self.gate.settings.max_in_flight, cx)
                );
            }
            match self.decoder.decode() {
                Ok(Some(packet)) => {
                    if let Err(reason) = self.packet(packet) {
                        return Poll::Ready(reason);
                    }
                }
                Ok(None) => {
                    self.reading = true;
                    match ready!(self.transport.poll_read(cx, &mut self.decoder)) {
                        Ok(0) => return Poll::Ready(CloseReason::Client),
                        Ok(count) => self.gate.metrics.bytes_received.increment(count as u64),
                        Err(error) => return Poll::Ready(broken(&error)),
                    }
                    self.reading = false;
                }
                Err(error) => return Poll::Ready(CloseReason::Protocol(error.to_string())),
            }
        }
    }

    /// Ready when there is no pause, and no message that waits for its scheduler.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
                self.now = Instant::now();
            }
            match self.held.take() {
                Some(job) => self.submit(job),
                None => return Poll::Ready(()),
            }
        }
    }

    fn packet(&mut self, packet: Packet) -> Result<(), CloseReason> {
        match self.protocol.receive(packet.kind, self.now) {
            Step::Handshake => self.shake_hands(&packet.body),
            Step::Data => self.limit_rate().and_then(|()| self.data(packet.body)),
            Step::Nothing => Ok(()),
            Step::Close(reason) => Err(reason),
        }
    }

    fn shake_hands(&mut self, body: &[u8]) -> Result<(), CloseReason> {
        let user = match &self.gate.settings.on_handshake {
            Some(hook) => self
                .gate
                .guard(|| hook(&self.session, &Request::decode(body), body)),
            None => Ok(None),
        };
        let user = user.map_err(|error| self.refuse(&error))?;
        let reply = self.gate.handshake.encode(
            unix_seconds(),
            user.as_ref().filter(|user| **user != Value::Null),
        );
        self.agent.send_control(Kind::Handshake, &reply);
        Ok(())
    }

    /// Nano closes without a word. An error whose code is a number is sent first, as pomelo does,
    /// for example 501 for a client that is too old.
    fn refuse(&self, error: &Error) -> CloseReason {
        if let Ok(code) = error.code().parse() {
            self.agent.send_control(
                Kind::Handshake,
                &handshake::Reply::refusal(code, error.message()).encode(),
            );
        }
        CloseReason::HandshakeRefused(error.message().to_owned())
    }

    fn limit_rate(&mut self) -> Result<(), CloseReason> {
        if let (Some(bucket), Some(limit)) = (&mut self.bucket, &self.gate.settings.rate_limit)
            && let Err(wait) = bucket.take(limit, self.now)
        {
            if limit.disconnect {
                return Err(CloseReason::RateLimit);
            }
            // This message is taken on credit; the next one waits until it is paid for.
            self.pause = Some(Box::pin(sleep(wait)));
        }
        Ok(())
    }

    fn data(&mut self, body: Bytes) -> Result<(), CloseReason> {
        self.gate.metrics.received.increment(1);
        let message = match Message::decode(body, &self.gate.dictionary) {
            Ok(message) => message,
            Err(error) => return self.undecodable(&error),
        };
        if message.kind == message::Kind::Request && !self.expect(message.id, &message.route) {
            return Ok(());
        }
        if let Some(job) = self.gate.dispatch.receive(&self.session, message) {
            self.submit(job);
        }
        Ok(())
    }

    fn submit(&mut self, job: Dispatched) {
        if let Err(held) = job.submit() {
            self.pause = Some(held.ready);
            self.held = Some(held.call);
        }
    }

    /// Remembers a request until it is answered. Request 0 is a notify, as in nano.
    fn expect(&mut self, id: u64, route: &str) -> bool {
        if id == 0 {
            return true;
        }
        let timeout = self.gate.settings.request_timeout;
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        self.requests_by = self.requests_by.or(deadline);
        self.agent
            .expect(id, deadline)
            .map_err(|error| {
                self.gate
                    .dispatch
                    .reporter()
                    .fail(&self.session.with_request(id), route, error)
            })
            .is_ok()
    }

    /// A message that is none ends the connection, as in nano; but one whose only fault is a route
    /// in a foreign encoding is a route that does not exist.
    fn undecodable(&mut self, error: &MessageError) -> Result<(), CloseReason> {
        let &MessageError::Route {
            kind,
            id,
            fault: RouteFault::NotUtf8,
        } = error
        else {
            return Err(CloseReason::Protocol(error.to_string()));
        };
        let id = if kind == message::Kind::Request {
            id
        } else {
            0
        };
        if self.expect(id, "") {
            let error = Error::new(code::NOT_FOUND, "route not found: it is not UTF-8");
            self.gate
                .dispatch
                .reporter()
                .fail(&self.session.with_request(id), "", error);
        }
        Ok(())
    }

    /// The earliest point in time at which something is due.
    fn due(&self) -> Option<Instant> {
        // A connection that ends keeps no heartbeats.
        let protocol = if self.closing_by.is_none() {
            self.protocol.deadline()
        } else {
            None
        };
        [self.closing_by, self.requests_by, protocol]
            .into_iter()
            .flatten()
            .min()
    }

    /// Something may be due.
    fn ring(&mut self) -> Option<CloseReason> {
        if self.closing_by.is_some_and(|by| by <= self.now) {
            return Some(self.agent.closing().unwrap_or(CloseReason::SlowClient));
        }
        if self.requests_by.is_some_and(|by| by <= self.now) {
            self.requests_by = self.agent.expire(self.now);
        }
        if !self.reading {
            // What it sent lies in its socket: that is the node's silence, not the client's.
            self.protocol.excuse(self.now);
        }
        match self.protocol.tick(self.now) {
            Tick::Heartbeat => self.agent.send_control(Kind::Heartbeat, &[]),
            Tick::Close(reason) => self.agent.close(reason),
            Tick::Nothing => {}
        }
        None
    }
}

fn broken(error: &io::Error) -> CloseReason {
    match error.kind() {
        // A client that went away without a word did just that.
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CloseReason::Client,
        io::ErrorKind::InvalidData => CloseReason::Protocol(error.to_string()),
        _ => CloseReason::Broken(error.to_string()),
    }
}

fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed())
}
