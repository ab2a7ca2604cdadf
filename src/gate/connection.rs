//! The task of one connection: drives reads, writes and deadlines.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{
    client_state::{Blocked, Output},
    close_code::Ending,
    compressed_body,
    handle::ConnectionHandle,
    liveness::{Liveness, Step, Tick},
    opening::Opening,
    pending_check::Pending,
    rate_limit::Bucket,
    resume_handshake::Resumption,
    shared::Shared,
    upgrade_request::UpgradeRequest,
};
use crate::{
    dispatch,
    error::{Error, code},
    message::{self, Message, MessageError, RouteFault},
    metrics::Refusal,
    net::{deadline::DeadlineTimer, stream::Transport},
    packet::{Decoder, Kind, Packet, PacketError},
    session::{CloseReason, Session, SessionSink},
    trace::{Gap, OpenSpan, Source, TraceContext, within},
};

/// The most chunks for which a spare list is kept.
const MAX_SPARE: usize = 64;

thread_local! {
    /// An empty list for the packets of the connection that writes next. One for each took 5 % of the
    /// instructions of a broadcast when it was freed with the last packet, and would take 128 bytes of
    /// each idle connection if it were kept.
    static SPARE: Cell<VecDeque<Bytes>> = const { Cell::new(VecDeque::new()) };
}

/// One connection. Reading and writing go on side by side: a client that does not read is still
/// read from, and the other way round.
pub(super) struct Connection<T> {
    pub(super) gate: Arc<Shared>,
    pub(super) handle: Arc<ConnectionHandle>,
    pub(super) session: Session,
    pub(super) transport: T,
    pub(super) liveness: Liveness,
    pub(super) decoder: Decoder,
    pub(super) outgoing: VecDeque<Bytes>,
    pub(super) bucket: Option<Bucket>,
    /// A message whose scheduler or peer is full. Everything behind it waits.
    pub(super) deferred: Option<dispatch::Blocked>,
    /// No packet is decoded until then: the client exceeded its rate.
    pub(super) throttled_until: Option<Instant>,
    /// A check of the client that is under way. No packet is decoded meanwhile.
    pub(super) check: Option<Box<Pending>>,
    /// The name of the listener.
    pub(super) listener: Arc<str>,
    /// The request that opened the WebSocket, until a handshake is acknowledged.
    pub(super) request: Option<Arc<UpgradeRequest>>,
    /// Whether the application has let the session open.
    pub(super) opened: bool,
    /// When the session must be bound to a user.
    pub(super) login_by: Option<Instant>,
    /// Whether the task waits for the client, and not for room.
    pub(super) reading: bool,
    /// The earliest deadline of a request, or a time before that: an answer does not move it.
    pub(super) requests_by: Option<Instant>,
    /// Set once the connection flushes its last packets: when it closes at the latest.
    pub(super) flush_by: Option<Instant>,
    pub(super) resumption: Resumption,
    /// The client's own span, of which those of its messages are children.
    pub(super) traced_by: Option<Box<TraceContext>>,
    /// The messages that are not sampled.
    pub(super) gap: Gap,
    /// Read once per poll, and again after a wait.
    pub(super) now: Instant,
}

impl<T: Transport> Connection<T> {
    pub(super) fn new(
        gate: Arc<Shared>,
        handle: Arc<ConnectionHandle>,
        session: Session,
        transport: T,
        opening: Opening,
        listener: Arc<str>,
    ) -> Self {
        let (config, now) = (&gate.config, Instant::now());
        handle.traffic.received(opening.read);
        let begun = opening.begun;
        Self {
            liveness: Liveness::new(
                config.heartbeat,
                gate.limits.handshake_timeout(),
                (gate.begun, begun),
            ),
            decoder: opening.decoder,
            outgoing: VecDeque::new(),
            bucket: None,
            deferred: None,
            check: None,
            listener,
            request: opening.request,
            opened: false,
            login_by: None,
            throttled_until: None,
            reading: true,
            requests_by: None,
            flush_by: None,
            resumption: Resumption::None,
            traced_by: None,
            gap: Gap::default(),
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

    /// Whether an end for this reason is not one of the client's session.
    pub(super) fn survives(&self, reason: &CloseReason) -> bool {
        self.resumption.survives(reason) && !self.transport.is_final_close()
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
            let input = self.poll_input(cx);
            self.resumption.count(&self.handle);
            if let Poll::Ready(ending) = input {
                if self.survives(&ending.reason) {
                    return Poll::Ready(ending);
                }
                self.handle.end_with(ending);
            }
        } else if self.handle.is_away() {
            // The client has returned on another connection.
            return Poll::Ready(CloseReason::Client.into());
        } else {
            // A request that was read before the close is in flight: the drain waits for it.
            let _ = self.poll_deferred(cx);
        }
        self.poll_output(cx)
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.outgoing.is_empty() {
            self.outgoing = SPARE.take();
        }
        let end = self.poll_packets(cx);
        if self.outgoing.is_empty() {
            let spare = mem::take(&mut self.outgoing);
            if spare.capacity() <= MAX_SPARE {
                SPARE.set(spare);
            }
        }
        end
    }

    fn poll_packets(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
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
                Output::Away => break Poll::Ready(CloseReason::Client.into()),
                Output::Flush { ending, .. } if self.outgoing.is_empty() => {
                    break Poll::Ready(ending);
                }
                Output::Flush { by, .. } => self.flush_by = Some(by),
            }
        };
        if written > 0 {
            self.gate.metrics.bytes_sent.increment(written);
            self.handle.traffic.sent(written);
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
                            self.handle.received(count);
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

    /// Ready when no message waits for its scheduler or peer.
    pub(super) fn poll_deferred(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(deferred) = &mut self.deferred {
            ready!(deferred.ready.as_mut().poll(cx));
            self.now = Instant::now();
            if let Some(dispatch::Blocked { call, .. }) = self.deferred.take() {
                self.deferred = call.submit().err();
            }
        }
        Poll::Ready(())
    }

    fn packet(&mut self, packet: Packet) -> Result<(), Ending> {
        self.resumption.receive(&packet, &self.handle)?;
        match self.liveness.receive(packet.kind, self.now) {
            Step::Handshake => self.shake_hands(packet.body),
            Step::Acknowledged => self.acknowledged(),
            Step::Data => self.limit_rate().and_then(|()| self.data(packet.body)),
            Step::Nothing => Ok(()),
            Step::Close(reason) => Err(reason.into()),
        }
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
            self.gate.metrics.throttled.increment(1);
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
        let mut span = self.sample(&message);
        let trace = span.as_ref().map(|span| span.trace().clone());
        if message.kind == message::Kind::Request
            && !self.expect(message.id, &message.route, &mut span)
        {
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
        within(trace.as_ref(), || {
            let (dispatch, now) = (&self.gate.dispatch, self.now);
            if let Some(blocked) = dispatch.receive(&self.session, message, now) {
                self.deferred = Some(blocked);
            }
        });
        if let Some(span) = span {
            // No answer ends it.
            span.end(None);
        }
        Ok(())
    }

    /// Begins the span of a message, if it is sampled.
    fn sample(&mut self, message: &Message) -> Option<Box<OpenSpan>> {
        let sampling = self.gate.limits.sampling()?;
        let tracer = &self.gate.dispatch.reporter().tracer;
        let parent = self.traced_by.as_deref();
        tracer.sample(sampling, parent, &mut self.gap, || Source {
            session: self.session.id(),
            user: self.session.logged_user(),
            route: &message.route,
            request: message.id,
        })
    }

    /// Adds a request to those in flight, with its span; false if it was failed. Request 0 is a notify,
    /// as in Go nano.
    fn expect(&mut self, id: u64, route: &str, span: &mut Option<Box<OpenSpan>>) -> bool {
        if id == 0 {
            return true;
        }
        let timeout = self.gate.config.request_timeout;
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        self.requests_by = self.requests_by.or(deadline);
        self.handle
            .expect(id, deadline, route, span.take())
            .map_err(|error| {
                self.gate.metrics.refused.count(Refusal::InFlight);
                self.fail(message::Kind::Request, id, route, error);
            })
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
        if kind != message::Kind::Request || self.expect(id, "", &mut None) {
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
            self.session_deadline(),
            self.throttled_until,
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
        self.on_session_deadline();
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
            // A drain ends with the shutdown's kick, whatever the client does.
            Tick::Close(reason) if self.handle.is_open() && self.survives(&reason) => {
                return Some(reason.into());
            }
            Tick::Close(reason) => self.handle.close(reason),
            Tick::Nothing => {}
        }
        None
    }
}
