//! Sessions that leave a gate which drains.
//!
//! ```text
//! detach the client
//! Served.Hold to all nodes that serve the session, again until their number stays the same:
//!     nothing of it is under way in either direction then
//! leave its channels: the next gate is entered there before
//! take the client's state, Gate.Adopt to the next gate:
//!     it attaches the session at the nodes that serve it
//! forget the session; its client returns to the next gate, or is sent there by way of another one
//! ```
//!
//! A step that fails is taken back, unless the next gate may have the session: then that counts, so
//! that no session is at two gates.

use std::{any::Any, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::{
    client_state::ClientState,
    close_code::Ending,
    connection::Connection,
    handle::ConnectionHandle,
    migration_message::{ADOPT, CLOSE, HOLD, Leaving, READY, RELEASE, write},
    shared::Shared,
};
use crate::{
    channel::Position,
    cluster::{NodeCaller, SessionAdopt, SessionClose, SessionHold, SessionRelease},
    error::{Error, Result, code},
    kick::Kick,
    member::Member,
    net::transport::BoxTransport,
    panic::catch_panic,
    session::{CloseReason, Session},
};

/// How often sessions are looked for that can move, and gates that take them.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a member may take to say whether it takes sessions.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a session could not move.
const RETRY: Duration = Duration::from_secs(2);

/// How long a message of a client may wait for room at a peer before the session stays.
const DEFERRED: Duration = Duration::from_secs(2);

/// How long a node that serves a session has to hold it.
const HOLD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the next gate has to answer before it is asked again.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before a call is repeated that was not answered.
const REPEAT: Duration = Duration::from_millis(100);

/// How often the nodes that serve a session are asked to hold it, at most.
const ROUNDS: usize = 8;

/// How often a node is asked to release a session.
const RELEASES: usize = 20;

/// Moves all sessions that can, for as long as it is polled.
pub(super) async fn migrate_all(gate: &Arc<Shared>) {
    if gate.tunnels.is_none() {
        return std::future::pending().await;
    }
    loop {
        let ready = ready_gates(gate).await;
        gate.migrations.set_ready(ready);
        for id in gate.resumable.to_migrate(Instant::now()) {
            // The semaphore is never closed.
            let Ok(permit) = gate.migrations.leaving.clone().acquire_owned().await else {
                return;
            };
            if is_movable(gate, id) && gate.migrations.choose(id).is_some() {
                gate.resumable.migrate(id, permit);
            }
        }
        sleep(INTERVAL).await;
    }
}

/// The members that take sessions.
async fn ready_gates(gate: &Shared) -> Vec<Member> {
    let linked = gate.node.members().into_iter();
    let asked = linked.filter(|member| member.info().link).map(|member| {
        let tunnels = gate.tunnels.as_ref();
        let ready = tunnels.map(|tunnels| {
            let caller = &tunnels.caller;
            caller.call::<_, ()>(member.address(), 0, READY, &(), READY_TIMEOUT)
        });
        async move { ready?.await.ok().map(|()| member) }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether a session can move now: nothing of it is on this node alone.
fn is_movable(gate: &Shared, id: i64) -> bool {
    let Some(session) = gate.node.sessions().find_local(id) else {
        return false;
    };
    let sink: &dyn Any = &**session.sink();
    let handle = sink.downcast_ref::<ConnectionHandle>();
    let requests = served(gate, &session).map(|served| requests(&served));
    session.inner().is_bare()
        && may_move(gate, &session)
        && gate.node.sessions().claim(&session).is_some()
        && handle
            .zip(requests)
            .is_some_and(|(it, elsewhere)| it.is_movable(&elsewhere))
}

/// Whether no handler of this node has served the session, or the application lets it go.
fn may_move(gate: &Shared, session: &Session) -> bool {
    if session.inner().sequencer.is_unused() {
        return true;
    }
    let Some(hook) = &gate.config.on_migrate else {
        return false;
    };
    let asked = catch_panic(&gate.metrics.panics, "panicked", || Ok(hook(session)));
    asked.unwrap_or(false)
}

/// The nodes that serve a session, and its requests in flight there; `None` if one of them is a
/// basic member.
fn served(gate: &Shared, session: &Session) -> Option<Vec<(String, Vec<u64>)>> {
    gate.dispatch.cluster()?.served(session)
}

fn requests(served: &[(String, Vec<u64>)]) -> Vec<u64> {
    let requests = served.iter().flat_map(|(_, requests)| requests);
    requests.copied().collect()
}

/// Moves a session whose client is away. Returns whether another gate has it now.
pub(super) async fn migrate(connection: &mut Connection<BoxTransport>, gate: &Arc<Shared>) -> bool {
    let session = connection.session.clone();
    let (id, user) = (session.id(), session.user());
    let moved = match (gate.migrations.choose(id), &gate.tunnels) {
        (Some(to), Some(tunnels)) => {
            let migration = Migration {
                gate,
                caller: &tunnels.caller,
                session: &session,
                to,
            };
            let moved = migration.run(connection).await;
            moved.map(|()| migration.to.address().to_owned())
        }
        _ => {
            let error = Error::new(code::UNAVAILABLE, "no gate takes it");
            Err(Stay::at(Step::Gates)(error))
        }
    };
    match moved {
        Ok(to) => {
            gate.metrics.migrated("moved");
            info!(session = id, ?user, gate = to, "session moved");
            true
        }
        Err(Stay { step, error }) => {
            gate.metrics.migrated(step.label());
            debug!(session = id, ?user, step = step.label(), %error, "session not moved");
            gate.resumable.stay(id, Instant::now() + RETRY);
            false
        }
    }
}

/// Where a session's way to another gate has ended.
#[derive(Clone, Copy)]
enum Step {
    /// No gate takes it.
    Gates,
    /// A message of its client waits for room.
    Deferred,
    /// A node that serves it does not hold it.
    Hold,
    /// The next gate cannot enter its channels, or they change.
    Channels,
    /// A part of it is on this gate.
    Kept,
    /// The next gate does not take it.
    Refused,
}

impl Step {
    fn label(self) -> &'static str {
        match self {
            Self::Gates => "gates",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Channels => "channels",
            Self::Kept => "kept",
            Self::Refused => "refused",
        }
    }
}

/// Why a session stays.
struct Stay {
    step: Step,
    error: Error,
}

impl Stay {
    fn at(step: Step) -> impl FnOnce(Error) -> Self {
        move |error| Self { step, error }
    }
}

/// One session on its way.
struct Migration<'a> {
    gate: &'a Arc<Shared>,
    caller: &'a NodeCaller,
    session: &'a Session,
    to: Member,
}

impl Migration<'_> {
    /// # Errors
    /// Why the session stays.
    async fn run(&self, connection: &mut Connection<BoxTransport>) -> Result<(), Stay> {
        let deferred = poll_fn(|cx| connection.poll_deferred(cx));
        let submitted = timeout(DEFERRED, deferred).await;
        submitted.map_err(|_| Stay::at(Step::Deferred)(stays("a message waits for room")))?;
        let (handle, login_by) = (connection.handle.clone(), connection.login_by);
        let mut held = Vec::new();
        let result = match self.hold(&mut held).await {
            Ok(()) => self.adopt(&handle, login_by).await,
            Err(error) => Err(Stay::at(Step::Hold)(error)),
        };
        match result {
            Ok(closed) => {
                self.forget();
                if let Some(closed) = closed {
                    self.close(closed).await;
                }
                Ok(())
            }
            Err(error) => {
                for node in held {
                    self.release(&node).await;
                }
                Err(error)
            }
        }
    }

    /// Lets what is for the session wait at all nodes that serve it. Adds those to `held`.
    async fn hold(&self, held: &mut Vec<String>) -> Result {
        for _ in 0..ROUNDS {
            let served = self.served()?;
            let known = held.len();
            let calls = served.into_iter().map(|(node, _)| {
                let request = SessionHold {
                    session: self.session.id(),
                    to: self.to.address().to_owned(),
                };
                let call = self.call::<_, ()>(&node, HOLD, &request, HOLD_TIMEOUT);
                async move { (node, call.await) }
            });
            let mut failed = None;
            for (node, result) in join_all(calls).await {
                // Also one that has not answered may hold it.
                if !held.contains(&node) {
                    held.push(node);
                }
                failed = failed.or(result.err());
            }
            if let Some(error) = failed {
                return Err(error);
            }
            // Of the round before, everything has been handled: nothing is under way any more.
            if known == held.len() {
                return Ok(());
            }
        }
        Err(stays("more and more nodes serve it"))
    }

    /// Gives the session to the next gate. Returns why it was closed meanwhile, if it was.
    async fn adopt(
        &self,
        handle: &ConnectionHandle,
        login_by: Option<Instant>,
    ) -> Result<Option<Ending>, Stay> {
        let channels = self.gate.node.channel_network();
        let channels = channels.ok_or_else(|| stays("the node stops"));
        let channels = channels.map_err(Stay::at(Step::Channels))?;
        let left = channels.leave_for(self.session.typed(), self.to.address().to_owned());
        let left = left.await.map_err(Stay::at(Step::Channels))?;
        let result = self.hand_over(handle, login_by, left).await;
        if result.is_err() {
            channels.stay(self.session);
        }
        result
    }

    /// [`adopt`](Self::adopt), of a session that has left these channels.
    async fn hand_over(
        &self,
        handle: &ConnectionHandle,
        login_by: Option<Instant>,
        channels: Vec<(Arc<str>, Position)>,
    ) -> Result<Option<Ending>, Stay> {
        let leaving = self.leaving(login_by, channels);
        let leaving = leaving.map_err(Stay::at(Step::Kept))?;
        let elsewhere = requests(&leaving.served);
        let taken = handle.take_moving(self.session, &elsewhere);
        let taken = taken.ok_or_else(|| stays("this node has to answer it"));
        let taken = taken.map_err(Stay::at(Step::Kept))?;
        match self.send(&leaving, &taken).await {
            Ok(()) => Ok(handle.closed_moving()),
            Err(error) => {
                handle.put_back(taken);
                self.gate.migrations.refused(&self.to);
                Err(Stay::at(Step::Refused)(error))
            }
        }
    }

    /// What the next gate has to know beside the client.
    ///
    /// # Errors
    /// A part of the session is on this gate.
    fn leaving(
        &self,
        login_by: Option<Instant>,
        channels: Vec<(Arc<str>, Position)>,
    ) -> Result<Leaving<'_>> {
        let node = &self.gate.node;
        if !self.session.inner().is_bare() {
            return Err(stays("this node has a part of it"));
        }
        let claim = node.sessions().claim(self.session);
        let secrets = self.gate.resumable.secrets(self.session.id());
        Ok(Leaving {
            session: self.session,
            claim: claim.ok_or_else(|| stays("a login is under way"))?,
            served: self.served()?,
            channels,
            secrets: secrets.ok_or_else(|| stays("it has ended"))?,
            login_by,
        })
    }

    /// # Errors
    /// The next gate does not have the session.
    async fn send(&self, leaving: &Leaving<'_>, taken: &ClientState) -> Result {
        let begun = Instant::now();
        let window = self.gate.config.resume_window.unwrap_or_default();
        loop {
            let message: SessionAdopt = write(leaving, taken, Instant::now());
            let to = self.to.address();
            let adopted = self.call::<_, ()>(to, ADOPT, &message, ADOPT_TIMEOUT);
            let Err(error) = adopted.await else {
                return Ok(());
            };
            let is_known = !matches!(error.code(), code::UNAVAILABLE | code::TIMEOUT);
            if is_known || !self.is_member() {
                return Err(error);
            }
            if begun.elapsed() >= window || self.gate.node.is_shutting_down() {
                // It may have the session. Here the session is lost, there or nowhere it goes on.
                return Ok(());
            }
            sleep(REPEAT).await;
        }
    }

    /// Whether the next gate is a member still.
    fn is_member(&self) -> bool {
        let members = self.gate.node.members();
        let mut members = members.iter();
        members.any(|member| member.incarnation() == self.to.incarnation())
    }

    /// Forgets the session: clients that return with its token learn where it is.
    fn forget(&self) {
        if let Some(cluster) = self.gate.dispatch.cluster() {
            cluster.moved(self.session);
        }
        let to = self.to.address().into();
        self.gate.resumable.moved(self.session.id(), to);
    }

    /// Closes the session at the next gate.
    async fn close(&self, closed: Ending) {
        let (kick, reason) = match closed.reason {
            // The node stops; the session does not.
            CloseReason::Shutdown => return,
            CloseReason::Kicked(reason) => (Kick::because(&reason).encode(), String::new()),
            CloseReason::KickedWith(kick) => (kick.encode(), String::new()),
            other => (Vec::new(), other.to_string()),
        };
        let request = SessionClose {
            session: self.session.id(),
            kick: Bytes::from(kick),
            reason,
        };
        let to = self.to.address();
        let closed = self.call::<_, ()>(to, CLOSE, &request, ADOPT_TIMEOUT);
        if let Err(error) = closed.await {
            debug!(session = request.session, gate = to, %error, "moved session not closed");
        }
    }

    /// Ends the wait at a node.
    async fn release(&self, node: &str) {
        let request = SessionRelease {
            session: self.session.id(),
        };
        let mut released = Err(stays("not asked"));
        for _ in 0..RELEASES {
            released = self
                .call::<_, ()>(node, RELEASE, &request, HOLD_TIMEOUT)
                .await;
            match &released {
                Err(error) if matches!(error.code(), code::UNAVAILABLE | code::TIMEOUT) => {
                    sleep(REPEAT).await;
                }
                _ => break,
            }
        }
        if released.is_err()
            && let Some(cluster) = self.gate.dispatch.cluster()
        {
            cluster.attached(self.session, node, false);
        }
    }

    fn served(&self) -> Result<Vec<(String, Vec<u64>)>> {
        served(self.gate, self.session).ok_or_else(|| stays("a basic member serves it"))
    }

    fn call<Request: prost::Message, Reply: prost::Message + Default>(
        &self,
        to: &str,
        method: &'static str,
        request: &Request,
        within: Duration,
    ) -> impl Future<Output = Result<Reply>> + Send + use<Request, Reply> {
        let key = self.session.id().unsigned_abs();
        self.caller.call(to, key, method, request, within)
    }
}

fn stays(why: &str) -> Error {
    Error::new(code::CONFLICT, why.to_owned())
}
