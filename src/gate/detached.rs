//! A session without a connection, until its client returns.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use metrics::Gauge;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    close_code::{self, Ending},
    config::OnResume,
    connection::Connection,
    linger::linger,
    liveness::Liveness,
    migration_out::migrate,
    opening::Opening,
    resume::{
        disconnected::Disconnected,
        registry::{Arrival, Next},
    },
    resume_handshake::Offer,
    session_guard::{SessionGuard, finish},
    shared::{Shared, Vacated},
};
use crate::{
    net::{deadline::DeadlineTimer, stream::Transport, transport::BoxTransport},
    packet::{Decoder, Kind},
    panic::catch_panic,
    resume::Lost,
    session::{CloseReason, Session, SessionSink},
};

/// The sessions without a user whose clients are away, of one address. A client that opens sessions
/// only to leave them must not fill the memory; players behind one address are seldom so many, and
/// those who have logged in are not counted.
const MAX_ANONYMOUS_AWAY: usize = 1024;

/// How a session ended that outlived a connection.
pub(super) struct End {
    pub(super) ending: Ending,
    /// Why its client cannot return, where that says more.
    pub(super) lost: Option<Lost>,
    /// Whether another gate has it now.
    pub(super) moved: bool,
    /// The last connection, if there is one.
    pub(super) connection: Connection<BoxTransport>,
}

impl End {
    /// Ends the session, unless another gate has it, and then its connection.
    pub(super) async fn finish(self, guard: SessionGuard) {
        match self.moved {
            true => guard.moved(),
            false => finish(self.connection, guard, self.ending, self.lost).await,
        }
    }
}

/// Keeps a session whose connection has ended, and serves its client on every connection on which it
/// returns.
pub(super) async fn keep<T: Transport>(
    connection: Connection<T>,
    ending: Ending,
    window: Duration,
) -> End {
    let gate = connection.gate.clone();
    let (connection, socket) = connection.without_transport();
    // The socket it was accepted with is closed. Later ones are counted by the tasks that accept
    // them.
    let _vacated = Vacated::new(gate.clone());
    let socket: BoxTransport = Box::new(socket);
    keep_away(connection, (ending, Some(socket)), &gate, window).await
}

/// [`keep`], for a session without a connection: why its last one has ended, and the socket of that,
/// until the application has learned of the loss.
pub(super) async fn keep_away(
    mut connection: Connection<BoxTransport>,
    (mut ending, socket): (Ending, Option<BoxTransport>),
    gate: &Arc<Shared>,
    window: Duration,
) -> End {
    let mut by = Instant::now() + window;
    let mut loss = Loss::new(socket);
    loop {
        let absence = match returned(&mut connection, gate, by, &mut loss).await {
            Ok(arrival) => match attach(&mut connection, gate, arrival) {
                // Held while the new socket is open.
                Ok(_open) => {
                    ending = connection.run().await;
                    if connection.detach(&ending.reason) {
                        let last;
                        (connection, last) = connection.without_transport();
                        loss = Loss::new(Some(Box::new(last)));
                        by = Instant::now() + window;
                        continue;
                    }
                    Absence::Closed(ending.clone())
                }
                Err(closed) => Absence::Closed(closed),
            },
            Err(absence) => absence,
        };
        let (ending, lost, moved) = match absence {
            Absence::Closed(closed) => (closed, None, false),
            Absence::Lost(lost) => (ending, Some(lost), false),
            Absence::Migrating => {
                let moved = migrate(&mut connection, gate).await;
                if let Some(socket) = loss.socket.take() {
                    tokio::spawn(linger(socket, Some(close_code::GOING_AWAY), "moved"));
                }
                if !moved {
                    // The client could not return meanwhile, and the application learns of a loss that
                    // the attempt was.
                    by = Instant::now() + window;
                    continue;
                }
                (ending, None, true)
            }
        };
        return End {
            ending,
            lost,
            moved,
            connection,
        };
    }
}

/// The end of the last connection of a session.
struct Loss {
    /// Open until the application has learned of the loss.
    socket: Option<BoxTransport>,
    is_known: bool,
}

impl Loss {
    /// Without a socket the loss was at another gate, where it is known.
    fn new(socket: Option<BoxTransport>) -> Self {
        let is_known = socket.is_none();
        Self { socket, is_known }
    }
}

/// How a session ends whose client is away.
enum Absence {
    /// It was closed.
    Closed(Ending),
    /// It is kept no longer.
    Lost(Lost),
    /// It is to move to another gate.
    Migrating,
}

/// Counts a session as detached until it is dropped.
struct DetachedGauge<'a>(&'a Gauge);

impl<'a> DetachedGauge<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for DetachedGauge<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Waits until `by` for the client's return.
///
/// # Errors
/// Why the session ends instead, or moves.
async fn returned(
    connection: &mut Connection<BoxTransport>,
    gate: &Shared,
    by: Instant,
    loss: &mut Loss,
) -> Result<Arrival, Absence> {
    let id = connection.session.id();
    // The client can be back before its loss was noticed. The application learns of no loss then.
    match gate.resumable.next(id) {
        Next::Returned(arrival) => {
            if let Some(socket) = loss.socket.take() {
                tokio::spawn(linger(socket, Some(close_code::NORMAL), "returned"));
            }
            return Ok(arrival);
        }
        Next::Migrates => return Err(Absence::Migrating),
        Next::Waits => {}
    }
    drop(loss.socket.take());
    let is_lost = !mem::replace(&mut loss.is_known, true);
    let remote = connection.session.remote_addr();
    // One that comes from another gate was there before.
    let is_new = is_lost && connection.session.user().is_none();
    let _kept = match remote.filter(|_| is_new) {
        Some(remote) => {
            let kept = gate.anonymous_away.acquire(remote.ip(), MAX_ANONYMOUS_AWAY);
            Some(kept.ok_or(Absence::Lost(Lost::Overflow))?)
        }
        None => None,
    };
    debug!(
        session = id,
        user = connection.session.logged_user(),
        "session detached"
    );
    let _detached = DetachedGauge::new(&gate.metrics.detached);
    if is_lost {
        call(gate.config.on_detached.as_ref(), &connection.session, gate);
    }
    let sleep = pin!(sleep_until(by));
    let mut timer = DeadlineTimer::new(sleep);
    poll_fn(|cx| {
        loop {
            let (closed, next) = connection.poll_away(cx);
            if let Some(ending) = closed {
                return Poll::Ready(Err(Absence::Closed(ending)));
            }
            match gate.resumable.next(id) {
                Next::Returned(arrival) => return Poll::Ready(Ok(arrival)),
                Next::Migrates => return Poll::Ready(Err(Absence::Migrating)),
                Next::Waits => {}
            }
            let now = Instant::now();
            if by <= now {
                return Poll::Ready(Err(Absence::Lost(Lost::Expired)));
            }
            let next = next.map_or(by, |next| next.min(by));
            ready!(timer.poll(cx, Some(next), now));
        }
    })
    .await
}

/// Goes on over the connection on which the client has returned. Returns what is held while its
/// socket is open.
///
/// # Errors
/// Why the session ends instead.
fn attach(
    connection: &mut Connection<BoxTransport>,
    gate: &Shared,
    arrival: Arrival,
) -> Result<oneshot::Sender<()>, Ending> {
    let remote = arrival.remote;
    // Between the check of the token and now, the session may have been closed, or the lost
    // connection sent more than is kept.
    let open = connection.resume(arrival).map_err(|_| {
        let closed = connection.handle.ending();
        closed.unwrap_or(CloseReason::SlowClient.into())
    })?;
    gate.metrics.resumed.increment(1);
    debug!(
        session = connection.session.id(),
        user = connection.session.logged_user(),
        ?remote,
        "session resumed"
    );
    call(gate.config.on_resumed.as_ref(), &connection.session, gate);
    Ok(open)
}

fn call(hook: Option<&OnResume>, session: &Session, gate: &Shared) {
    if let Some(hook) = hook {
        // A panic is counted and logged, and changes nothing.
        let _ = catch_panic(&gate.metrics.panics, "panicked", || {
            hook(session);
            Ok(())
        });
    }
}

impl<T: Transport> Connection<T> {
    /// Leaves the session without a connection; false if it ends with this one, for this reason.
    pub(super) fn detach(&self, reason: &CloseReason) -> bool {
        self.handle.is_away() || (self.survives(reason) && self.handle.detach())
    }

    /// Returns the earliest deadline of those that count without a connection too.
    pub(super) fn session_deadline(&self) -> Option<Instant> {
        self.requests_by.into_iter().chain(self.login_by).min()
    }

    /// Handles the deadlines that count without a connection too, if they have passed.
    pub(super) fn on_session_deadline(&mut self) {
        if self.requests_by.is_some_and(|by| by <= self.now) {
            self.requests_by = self.handle.expire(&self.session, self.now);
        }
        if self.login_by.take_if(|by| *by <= self.now).is_some() && self.session.user().is_none() {
            self.handle.close(CloseReason::LoginTimeout);
        }
    }

    /// Goes on without the socket, and returns it. What is on its way to the client is kept elsewhere,
    /// and what is not decoded yet is not counted, so that the client sends it again.
    fn without_transport(self) -> (Connection<BoxTransport>, T) {
        let detached = Connection {
            transport: Box::new(Disconnected) as BoxTransport,
            decoder: Decoder::new(self.gate.limits.max_packet()),
            outgoing: VecDeque::new(),
            throttled_until: None,
            check: None,
            request: None,
            reading: true,
            flush_by: None,
            listener: self.listener,
            opened: self.opened,
            gate: self.gate,
            handle: self.handle,
            session: self.session,
            liveness: self.liveness,
            bucket: self.bucket,
            deferred: self.deferred,
            login_by: self.login_by,
            requests_by: self.requests_by,
            resumption: self.resumption,
            traced_by: self.traced_by,
            gap: self.gap,
            now: self.now,
        };
        (detached, self.transport)
    }

    /// Keeps of the connection what goes to the session to which its client has returned, after so
    /// many data packets were received.
    pub(super) fn into_arrival(
        self,
        received: u64,
        remote: Option<SocketAddr>,
        begun: Instant,
        open: oneshot::Sender<()>,
    ) -> Arrival {
        Arrival {
            transport: Box::new(self.transport),
            opening: Opening {
                begun,
                decoder: self.decoder,
                read: self.handle.traffic.totals()[0],
                request: self.request,
            },
            remote,
            received,
            open,
        }
    }
}

impl Connection<BoxTransport> {
    /// Does what is due while the client is away. Returns why the session is closed, if it is, and
    /// when there is more to do.
    fn poll_away(&mut self, cx: &mut Context<'_>) -> (Option<Ending>, Option<Instant>) {
        self.now = Instant::now();
        let _ = self.poll_deferred(cx);
        self.on_session_deadline();
        (self.handle.poll_away(cx), self.session_deadline())
    }

    /// Goes on over the client's new connection. Returns what is held while its socket is open.
    ///
    /// # Errors
    /// The client needs what is no longer kept.
    fn resume(&mut self, arrival: Arrival) -> Result<oneshot::Sender<()>, Lost> {
        self.handle.attach(arrival.remote, arrival.received)?;
        let (gate, opening) = (&self.gate, arrival.opening);
        self.liveness = Liveness::new(
            gate.config.heartbeat,
            gate.limits.handshake_timeout(),
            (gate.begun, opening.begun),
        );
        self.liveness.receive(Kind::Handshake, opening.begun);
        self.transport = arrival.transport;
        self.decoder = opening.decoder;
        self.handle.traffic.received(opening.read);
        self.request = opening.request;
        self.reply(None, Offer::Grant(None));
        Ok(arrival.open)
    }
}
