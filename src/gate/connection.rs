//! The task of one connection: drives reads, writes and deadlines.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::{
    client_state::{Blocked, FLUSH_TIMEOUT, Liveness, Step, Tick},
    compressed_body,
    ending::Ending,
    handle::{ConnectionHandle, Output},
    handshake_check::{Accept, Handshake, PendingCheck},
    opening::Opening,
    rate_limit::Bucket,
    shared::Shared,
    upgrade_request::UpgradeRequest,
};
use crate::{
    dispatch::Dispatched,
    error::{Error, Result, code},
    handshake::Request,
    message::{self, Message, MessageError, RouteFault},
    net::{deadline::DeadlineTimer, stream::Transport},
    packet::{Decoder, Kind, Packet, PacketError},
    panic::catch_panic,
    session::{CloseReason, Session, SessionSink},
};

/// One connection. Reading and writing go on side by side: a client that does not read is still
/// read from, and the other way round.
pub(super) struct Connection<T> {
    gate: Arc<Shared>,
    handle: Arc<ConnectionHandle>,
    session: Session,
    transport: T,
    liveness: Liveness,
    decoder: Decoder,
    outgoing: VecDeque<Bytes>,
    bucket: Option<Bucket>,
    /// A message whose scheduler or peer is full. Everything behind it waits.
    deferred: Option<Deferred>,
    /// No packet is decoded until then: the client exceeded its rate.
    throttled_until: Option<Instant>,
    /// The check of a handshake that is under way. No packet is decoded meanwhile.
    check: Option<Box<PendingCheck>>,
    /// The request that opened the WebSocket, until a handshake is acknowledged.
    request: Option<Arc<UpgradeRequest>>,
    /// When the session must be bound to a user.
    login_by: Option<Instant>,
    /// Whether the task waits for the client, and not for room.
    reading: bool,
    /// The earliest deadline of a request, or a time before that: an answer does not move it.
    requests_by: Option<Instant>,
    /// Set once the connection flushes its last packets: when it closes at the latest.
    flush_by: Option<Instant>,
    /// Read once per poll, and again after a wait.
    now: Instant,
}

struct Deferred {
    ready: Pin<Box<dyn Future<Output = ()> + Send>>,
    call: Dispatched,
}

impl<T: Transport> Connection<T> {
    pub(super) fn new(
        gate: Arc<Shared>,
        handle: Arc<ConnectionHandle>,
        session: Session,
        transport: T,
        opening: Opening,
    ) -> Self {
        let (config, now) = (&gate.config, Instant::now());
        let begun = opening.begun;
        Self {
            liveness: Liveness::new(config.heartbeat, config.handshake_timeout, begun),
            decoder: opening.decoder,
            outgoing: VecDeque::new(),
            bucket: None,
            deferred: None,
            check: None,
            request: opening.request,
            login_by: None,
            throttled_until: None,
            reading: true,
            requests_by: None,
            flush_by: None,
            now,
            gate,
            handle,
            session,
            transport,
        }
    }

    /// Serves the client until the connection ends, and returns why.
    pub(super) async fn run(&mut self) -> Ending {
        let sleep = pin!(sleep_until(self.now));
        let mut timer = DeadlineTimer::new(sleep);
        let ending = poll_fn(|cx| self.poll(cx, &mut timer)).await;
        self.check = None;
        ending
    }

    /// Ends a WebSocket with a close frame, shuts the outgoing direction down, and discards input
    /// until the client closes its side, for at most [`FLUSH_TIMEOUT`]. A socket that is closed with
    /// unread input is reset, and the reset can overtake the last packets.
    pub(super) async fn linger(&mut self, close_code: Option<u16>, reason: &str) {
        let end = async {
            self.transport.close(close_code, reason)?;
            let mut none = VecDeque::new();
            poll_fn(|cx| self.transport.poll_write(cx, &mut none, &mut 0)).await?;
            poll_fn(|cx| self.transport.poll_shutdown(cx)).await?;
            while poll_fn(|cx| self.transport.poll_discard(cx)).await? > 0 {}
            io::Result::Ok(())
        };
        // In time or not, the socket is closed now.
        let _ = timeout(FLUSH_TIMEOUT, end).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, timer: &mut DeadlineTimer<'_>) -> Poll<Ending> {
        self.now = Instant::now();
        loop {
            if let Poll::Ready(ending) = self.poll_once(cx) {
                return Poll::Ready(ending);
            }
            ready!(timer.poll(cx, self.next_deadline(), self.now));
            self.now = Instant::now();
            if let Some(ending) = self.on_deadline() {
                return Poll::Ready(ending);
            }
        }
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.handle.is_open() {
            self.reading = false;
            if let Poll::Ready(ending) = self.poll_input(cx) {
                self.handle.end_with(ending);
            }
        } else {
            // A request that was read before the close is in flight: the drain waits for it.
            let _ = self.poll_deferred(cx);
        }
        self.poll_output(cx)
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut written = 0;
        let end = loop {
            // Everything that was taken is written before more is taken, so that what waits stays in
            // the bounded queue.
            match self
                .transport
                .poll_write(cx, &mut self.outgoing, &mut written)
            {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Ending::of_io(&error)),
                Poll::Pending => match self.handle.poll_blocked(cx, self.now) {
                    Blocked::Wait => break Poll::Pending,
                    Blocked::FlushBy(by) => {
                        self.flush_by = Some(by);
                        break Poll::Pending;
                    }
                    Blocked::Abort(ending) => break Poll::Ready(ending),
                },
            }
            match self
                .handle
                .poll_output(&self.session, &mut self.outgoing, cx, self.now)
            {
                Output::Packets => {}
                Output::Nothing => break Poll::Pending,
                Output::Flush { ending, .. } if self.outgoing.is_empty() => {
                    break Poll::Ready(ending);
                }
                Output::Flush { by, .. } => self.flush_by = Some(by),
            }
        };
        if written > 0 {
            self.gate.metrics.bytes_sent.increment(written);
        }
        end
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            if let Err(ending) = ready!(self.poll_check(cx)) {
                return Poll::Ready(ending);
            }
            ready!(self.poll_deferred(cx));
            if self.throttled_until.is_some_and(|until| self.now < until) {
                return Poll::Pending;
            }
            // Asked only with input at hand: the sequencer is in memory that schedulers write to.
            if !self.decoder.is_empty() {
                ready!(
                    self.session
                        .inner()
                        .sequencer
                        .poll_ready(self.gate.limits.max_in_flight(), cx)
                );
            }
            match self.decoder.decode() {
                Ok(Some(packet)) => {
                    if let Err(ending) = self.packet(packet) {
                        return Poll::Ready(ending);
                    }
                }
                Ok(None) => {
                    self.reading = true;
                    match ready!(self.transport.poll_read(cx, &mut self.decoder)) {
                        Ok(0) => return Poll::Ready(CloseReason::Client.into()),
                        Ok(count) => {
                            self.gate.metrics.bytes_received.increment(count as u64);
                            for _ in 0..self.transport.take_overhead() {
                                if let Err(ending) = self.limit_rate() {
                                    return Poll::Ready(ending);
                                }
                            }
                        }
                        Err(error) => return Poll::Ready(Ending::of_io(&error)),
                    }
                    self.reading = false;
                }
                Err(error @ PacketError::TooLarge { .. }) => {
                    return Poll::Ready(Ending::too_large(error.to_string()));
                }
                Err(error) => return Poll::Ready(Ending::protocol(&error)),
            }
        }
    }

    /// Ready when no check of a handshake is under way. Meanwhile input is read, as much as one
    /// packet may have, to notice a client that goes.
    fn poll_check(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let Some(check) = &mut self.check else {
            return Poll::Ready(Ok(()));
        };
        if let Poll::Ready(result) = check.poll(cx, &self.gate.metrics.panics) {
            self.now = Instant::now();
            self.liveness.extend(check.elapsed(self.now), self.now);
            self.check = None;
            return Poll::Ready(self.accept(result));
        }
        while check.reads_ahead(self.gate.limits.max_packet()) {
            match ready!(self.transport.poll_read(cx, &mut self.decoder)) {
                Ok(0) => return Poll::Ready(Err(CloseReason::Client.into())),
                Ok(count) => {
                    self.gate.metrics.bytes_received.increment(count as u64);
                    check.add_input(count);
                }
                Err(error) => return Poll::Ready(Err(Ending::of_io(&error))),
            }
        }
        Poll::Pending
    }

    /// Ready when no message waits for its scheduler or peer.
    fn poll_deferred(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(deferred) = &mut self.deferred {
            ready!(deferred.ready.as_mut().poll(cx));
            self.now = Instant::now();
            if let Some(Deferred { call, .. }) = self.deferred.take() {
                self.submit(call);
            }
        }
        Poll::Ready(())
    }

    fn packet(&mut self, packet: Packet) -> Result<(), Ending> {
        match self.liveness.receive(packet.kind, self.now) {
            Step::Handshake => self.shake_hands(packet.body),
            Step::Acknowledged => {
                self.handle.acknowledge();
                self.request = None;
                let login = self.gate.config.login_timeout;
                self.login_by = login.map(|timeout| self.now + timeout);
                Ok(())
            }
            Step::Data => self.limit_rate().and_then(|()| self.data(packet.body)),
            Step::Nothing => Ok(()),
            Step::Close(reason) => Err(reason.into()),
        }
    }

    fn shake_hands(&mut self, body: Bytes) -> Result<(), Ending> {
        let request = Request::decode(&body);
        self.handle.set_error_flag(request.sys.knows_error_flag());
        if let Some(fault) = &request.unread {
            debug!(
                session = self.session.id(),
                fault, "handshake partly unread"
            );
        }
        let user = match &self.gate.config.on_handshake {
            Some(hook) => catch_panic(&self.gate.metrics.panics, "panicked", || {
                hook(&self.session, &request, &body)
            }),
            None => Ok(None),
        };
        let user = user.map_err(|error| self.handle.refuse_handshake(error))?;
        let Some(check) = &self.gate.config.check_handshake else {
            self.reply(user);
            return Ok(());
        };
        let handshake = Handshake {
            session: self.session.clone(),
            request,
            body,
            upgrade: self.request.clone(),
        };
        let (check, within) = (check.clone(), self.gate.config.check_timeout);
        let runtime = self.gate.node.pool().runtime();
        let check = PendingCheck::start(runtime, check, handshake, user, within, self.now);
        self.check = Some(Box::new(check));
        Ok(())
    }

    /// Answers a handshake that was checked.
    fn accept(&mut self, result: Result<Accept>) -> Result<(), Ending> {
        let bound = result.and_then(|accept| {
            if let Some(user) = accept.bound {
                self.session.bind(user)?;
            }
            Ok(accept.user)
        });
        let user = bound.map_err(|error| self.handle.refuse_handshake(error))?;
        self.reply(user);
        Ok(())
    }

    fn reply(&self, user: Option<Value>) {
        let reply = self.gate.handshake_reply(user.as_ref());
        self.handle.send_control(Kind::Handshake, &reply);
    }

    fn limit_rate(&mut self) -> Result<(), Ending> {
        let Some(limit) = self.gate.limits.rate_limit() else {
            return Ok(());
        };
        let now = self.now;
        let bucket = self.bucket.get_or_insert_with(|| Bucket::new(&limit, now));
        if let Err(wait) = bucket.take(&limit, now) {
            if limit.disconnect {
                return Err(CloseReason::RateLimit.into());
            }
            // This message is taken on credit; the next one waits until the token is paid back.
            self.throttled_until = Some(self.now + wait);
        }
        Ok(())
    }

    fn data(&mut self, body: Bytes) -> Result<(), Ending> {
        self.gate.metrics.received.increment(1);
        let compressed = body
            .first()
            .is_some_and(|flag| flag & compressed_body::FLAG != 0);
        let mut message = match Message::decode(body, &self.gate.dictionary) {
            Ok(message) => message,
            Err(error) => return self.undecodable(&error),
        };
        if message.kind == message::Kind::Request && !self.expect(message.id, &message.route) {
            return Ok(());
        }
        if compressed {
            match compressed_body::inflate(message.body, self.gate.limits.max_packet()) {
                Ok(body) => message.body = body,
                Err(error) => {
                    self.fail(message.kind, message.id, &message.route, error);
                    return Ok(());
                }
            }
        }
        if let Some(job) = self.gate.dispatch.receive(&self.session, message) {
            self.submit(job);
        }
        Ok(())
    }

    fn submit(&mut self, job: Dispatched) {
        if let Err(blocked) = job.submit() {
            self.deferred = Some(Deferred {
                ready: blocked.ready,
                call: blocked.call,
            });
        }
    }

    /// Adds a request to those in flight; false if it was failed. Request 0 is a notify, as in Go
    /// nano.
    fn expect(&mut self, id: u64, route: &str) -> bool {
        if id == 0 {
            return true;
        }
        let timeout = self.gate.config.request_timeout;
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        self.requests_by = self.requests_by.or(deadline);
        self.handle
            .expect(id, deadline)
            .map_err(|error| self.fail(message::Kind::Request, id, route, error))
            .is_ok()
    }

    /// Closes the connection for a malformed message, as Go nano does. A message whose only fault is
    /// a route that is not UTF-8 fails as one with an unknown route.
    fn undecodable(&mut self, error: &MessageError) -> Result<(), Ending> {
        let &MessageError::Route {
            kind,
            id,
            fault: RouteFault::NotUtf8,
        } = error
        else {
            return Err(Ending::protocol(error));
        };
        if kind != message::Kind::Request || self.expect(id, "") {
            let error = Error::new(code::NOT_FOUND, "route not found: it is not UTF-8");
            self.fail(kind, id, "", error);
        }
        Ok(())
    }

    /// Answers a request that no handler has seen with an error, and reports that of a notify.
    fn fail(&self, kind: message::Kind, id: u64, route: &str, error: Error) {
        let id = if kind == message::Kind::Request {
            id
        } else {
            0
        };
        let reporter = self.gate.dispatch.reporter();
        reporter.fail(&self.session.with_request(id), route, error, None);
    }

    /// Returns the earliest deadline.
    fn next_deadline(&self) -> Option<Instant> {
        // A connection that flushes its last packets sends no heartbeats.
        let liveness = if self.flush_by.is_none() && self.check.is_none() {
            self.liveness.next_deadline()
        } else {
            None
        };
        [
            self.flush_by,
            self.requests_by,
            self.throttled_until,
            self.login_by,
            liveness,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Handles every deadline that has passed; returns the reason if the connection ends now.
    fn on_deadline(&mut self) -> Option<Ending> {
        if self.flush_by.is_some_and(|by| by <= self.now) {
            let ending = self.handle.ending();
            return Some(ending.unwrap_or(CloseReason::SlowClient.into()));
        }
        if self.throttled_until.is_some_and(|until| until <= self.now) {
            self.throttled_until = None;
        }
        if self.requests_by.is_some_and(|by| by <= self.now) {
            self.requests_by = self.handle.expire(self.now);
        }
        if self.login_by.take_if(|by| *by <= self.now).is_some() && self.session.user().is_none() {
            self.handle.close(CloseReason::LoginTimeout);
        }
        if self.check.is_some() {
            // No deadline of the client counts, and heartbeats wait, until it is answered.
            return None;
        }
        if !self.reading {
            // The client's packets may wait in the socket: the silence is the node's.
            self.liveness.touch(self.now);
        }
        match self.liveness.on_deadline(self.now) {
            Tick::Heartbeat => self.handle.send_control(Kind::Heartbeat, &[]),
            Tick::Close(reason) => self.handle.close(reason),
            Tick::Nothing => {}
        }
        None
    }
}
