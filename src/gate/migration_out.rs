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
//! [`Departure`] decides what follows from each step.

use std::{any::Any, collections::BTreeSet, future::poll_fn, mem, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::{
    client_state::ClientState,
    connection::Connection,
    departure::{Departure, Next, Outcome, REPEAT, Stay, Step, is_repeated, retry_pause, stays},
    handle::ConnectionHandle,
    migration_close::write_close,
    migration_message::{ADOPT, CLOSE, HOLD, Leaving, READY, RELEASE, write},
    moved_close::{Follow, MovedClose},
    obstacle::{Obstacle, Staying},
    shared::Shared,
};
use crate::{
    channel::Position,
    cluster::{NodeCaller, SessionAdopt, SessionHold, SessionRelease},
    error::{Error, Result, code},
    member::Member,
    net::transport::BoxTransport,
    panic::catch_panic,
    session::{CloseReason, Session, UserId},
};

/// How often sessions are looked for that can move, and gates that take them.
const INTERVAL: Duration = Duration::from_millis(200);

/// When it is reported which sessions stay, if the first round through them takes long.
const REPORT_BY: Duration = Duration::from_secs(5);

/// How long a member may take to say whether it takes sessions.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a message of a client may wait for room at a peer before the session stays.
const DEFERRED: Duration = Duration::from_secs(2);

/// How long a node that serves a session has to hold it.
const HOLD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the next gate has to answer before it is asked again.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves all sessions that can, for as long as it is polled.
pub(super) async fn migrate_all(gate: &Arc<Shared>) {
    match gate.tunnels {
        None => report(gate).await,
        Some(_) => {
            tokio::join!(move_all(gate), report(gate));
        }
    }
}

async fn move_all(gate: &Arc<Shared>) {
    loop {
        let ready = ready_gates(gate).await;
        gate.migrations.set_ready(ready);
        for id in gate.resumable.to_migrate(Instant::now()) {
            // The semaphore is never closed.
            let Ok(permit) = gate.migrations.leaving.clone().acquire_owned().await else {
                return;
            };
            let movable = check_movable(gate, id).and_then(|()| {
                let chosen = gate.migrations.choose(id);
                chosen.ok_or(Obstacle::Attempt(Step::Gates))
            });
            match movable {
                Ok(_) => gate.resumable.migrate(id, permit),
                Err(obstacle) => gate.resumable.note(id, obstacle),
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Says which sessions stay: in the metrics, and once in the log.
async fn report(gate: &Shared) {
    let by = Instant::now() + REPORT_BY;
    let (mut reported, mut obstacles) = (false, BTreeSet::new());
    loop {
        sleep(INTERVAL).await;
        let staying = staying(gate);
        obstacles.extend(staying.obstacles());
        for obstacle in &obstacles {
            gate.metrics.kept(obstacle, staying.kept_by(obstacle));
        }
        let is_known = staying.kept_by(Obstacle::Waiting.label()) == 0 || Instant::now() >= by;
        if is_known && !mem::replace(&mut reported, true) && staying.sessions() != 0 {
            info!(
                sessions = staying.sessions(),
                obstacles = staying.to_string(),
                "sessions do not move to another gate"
            );
        }
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

/// The sessions of this gate's clients, by what keeps them here.
pub(super) fn staying(gate: &Shared) -> Staying {
    let (mut staying, sessions) = (Staying::default(), gate.node.sessions().local_count());
    if gate.tunnels.is_none() {
        staying.add(Obstacle::NoCluster, sessions);
        return staying;
    }
    let resumable = gate.resumable.count_staying(&mut staying);
    staying.add(Obstacle::NotResumable, sessions.saturating_sub(resumable));
    staying
}

/// Checks that a session can move now: nothing of it is on this node alone.
///
/// # Errors
/// What keeps it here.
fn check_movable(gate: &Shared, id: i64) -> Result<(), Obstacle> {
    let sessions = gate.node.sessions();
    let session = sessions.find_local(id).ok_or(Obstacle::Closing)?;
    if let Some(kept) = session.inner().kept() {
        return Err(Obstacle::Kept(kept));
    }
    check_allowed(gate, &session)?;
    sessions.claim(&session).ok_or(Obstacle::Login)?;
    let served = served(gate, &session).ok_or(Obstacle::BasicMember)?;
    let sink: &dyn Any = &**session.sink();
    let handle = sink.downcast_ref::<ConnectionHandle>();
    let handle = handle.ok_or(Obstacle::Closing)?;
    handle.check_movable(&requests(&served))
}

/// Checks that no handler of this node has served the session, or that the application lets it go.
fn check_allowed(gate: &Shared, session: &Session) -> Result<(), Obstacle> {
    if session.inner().sequencer.is_unused() {
        return Ok(());
    }
    let hook = gate.config.on_migrate.as_ref().ok_or(Obstacle::Served)?;
    let asked = catch_panic(&gate.metrics.panics, "panicked", || Ok(hook(session)));
    match asked {
        Ok(true) => Ok(()),
        _ => Err(Obstacle::Refused),
    }
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

/// Moves a session whose client is away. Returns whether another gate has it now, or may have had it.
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
            moved.map(|outcome| (outcome, migration.to.address().to_owned()))
        }
        _ => {
            let error = Error::new(code::UNAVAILABLE, "no gate takes it");
            Err((Step::Gates, error))
        }
    };
    match moved {
        Ok((outcome, to)) => {
            gate.metrics.migrated(outcome.label());
            match outcome {
                Outcome::Moved => debug!(
                    session = id,
                    user = user.as_ref().map(UserId::logged),
                    gate = to,
                    "session moved"
                ),
                Outcome::Unanswered => {
                    let text = "session forgotten, the next gate has not answered";
                    warn!(
                        session = id,
                        user = user.as_ref().map(UserId::logged),
                        gate = to,
                        "{text}"
                    );
                }
            }
            true
        }
        Err((step, error)) => {
            gate.metrics.migrated(step.label());
            debug!(session = id, user = user.as_ref().map(UserId::logged), step = step.label(), %error, "session not moved");
            gate.resumable.note(id, Obstacle::Attempt(step));
            let now = Instant::now();
            let again = |failures| now + retry_pause(failures, rand::random());
            gate.resumable.stay(id, again);
            false
        }
    }
}

/// One session on its way.
struct Migration<'a> {
    gate: &'a Arc<Shared>,
    caller: &'a NodeCaller,
    session: &'a Session,
    to: Member,
}

/// What the steps of a migration have taken so far.
#[derive(Default)]
struct Taken<'a> {
    channels: Vec<(Arc<str>, Position)>,
    client: Option<(Leaving<'a>, ClientState)>,
}

impl<'a> Migration<'a> {
    /// # Errors
    /// Why the session stays.
    async fn run(
        &'a self,
        connection: &mut Connection<BoxTransport>,
    ) -> Result<Outcome, (Step, Error)> {
        let deferred = poll_fn(|cx| connection.poll_deferred(cx));
        let submitted = timeout(DEFERRED, deferred).await;
        submitted.map_err(|_| (Step::Deferred, stays("a message waits for room")))?;
        let (handle, login_by) = (connection.handle.clone(), connection.login_by);
        let window = self.gate.config.resume_window.unwrap_or_default();
        let (mut departure, mut taken) = (Departure::new(window), Taken::default());
        let mut next = Next::Hold;
        loop {
            next = match next {
                Next::Hold => departure.held(self.hold().await),
                Next::Leave => {
                    let left = self.leave().await;
                    departure.left(left.map(|channels| taken.channels = channels))
                }
                Next::Take => {
                    let client = self.take(&handle, login_by, mem::take(&mut taken.channels));
                    let client = client.map(|client| taken.client = Some(client));
                    departure.taken(client, self.is_available(), Instant::now())
                }
                Next::Adopt(pause) => {
                    sleep(pause).await;
                    let adopted = self.adopt(&taken).await;
                    if adopted.is_err() {
                        // Other sessions go elsewhere, until it says again that it takes some.
                        self.gate.migrations.refused(&self.to);
                    }
                    let stops = self.gate.node.is_shutting_down();
                    departure.adopted(adopted, (self.is_member(), stops), Instant::now())
                }
                Next::Forget(outcome) => {
                    self.forget();
                    self.follow(&handle).await;
                    return Ok(outcome);
                }
                Next::Stay(stay) => return Err(self.stay(stay, &handle, taken).await),
            };
        }
    }

    /// Lets what is for the session wait at all nodes that serve it.
    ///
    /// # Errors
    /// One of them cannot.
    async fn hold(&self) -> Result<Vec<(String, Result)>> {
        let calls = self.served()?.into_iter().map(|(node, _)| {
            let request = SessionHold {
                session: self.session.id(),
                to: self.to.address().to_owned(),
            };
            let call = self.call::<_, ()>(&node, HOLD, &request, HOLD_TIMEOUT);
            async move { (node, call.await) }
        });
        Ok(join_all(calls).await)
    }

    /// Leaves the session's channels. Returns up to where it has everything.
    async fn leave(&self) -> Result<Vec<(Arc<str>, Position)>> {
        let channels = self.gate.node.channel_network();
        let channels = channels.ok_or_else(|| stays("the node stops"))?;
        let to = self.to.address().to_owned();
        channels.leave_for(self.session.typed(), to).await
    }

    /// Takes the client's state.
    ///
    /// # Errors
    /// A part of the session is on this gate.
    fn take(
        &self,
        handle: &ConnectionHandle,
        login_by: Option<Instant>,
        channels: Vec<(Arc<str>, Position)>,
    ) -> Result<(Leaving<'a>, ClientState)> {
        let node = &self.gate.node;
        if self.session.inner().kept().is_some() {
            return Err(stays("this node has a part of it"));
        }
        let claim = node.sessions().claim(self.session);
        let secrets = self.gate.resumable.secrets(self.session.id());
        let leaving = Leaving {
            session: self.session,
            claim: claim.ok_or_else(|| stays("a login is under way"))?,
            served: self.served()?,
            channels,
            secrets: secrets.ok_or_else(|| stays("it has ended"))?,
            login_by,
            incarnation: self.to.incarnation(),
            repeat: self.gate.config.resume_window.unwrap_or_default() + 2 * ADOPT_TIMEOUT,
        };
        let taken = handle.take_moving(self.session, &requests(&leaving.served));
        let taken = taken.ok_or_else(|| stays("this node has to answer it"))?;
        Ok((leaving, taken))
    }

    /// # Errors
    /// The next gate does not take the session, or does not answer.
    async fn adopt(&self, taken: &Taken<'_>) -> Result {
        let (leaving, client) = taken.client.as_ref().ok_or_else(|| stays("not taken"))?;
        let message: SessionAdopt = write(leaving, client, Instant::now());
        let to = self.to.address();
        self.call::<_, ()>(to, ADOPT, &message, ADOPT_TIMEOUT).await
    }

    /// Whether the next gate is to be called: not one that is about to leave, or is gone and not evicted
    /// yet.
    fn is_available(&self) -> bool {
        self.is_member() && self.caller.takes_sessions(self.to.address())
    }

    /// Whether the next gate is a member still.
    fn is_member(&self) -> bool {
        let members = self.gate.node.members();
        let mut members = members.iter();
        members.any(|member| member.incarnation() == self.to.incarnation())
    }

    /// Takes everything back. Returns why the session stays.
    async fn stay(&self, stay: Stay, handle: &ConnectionHandle, taken: Taken<'_>) -> (Step, Error) {
        if let Some((_, client)) = taken.client {
            handle.put_back(client);
            if let Ok(served) = self.served() {
                handle.fail_unserved(&requests(&served));
            }
            self.gate.migrations.refused(&self.to);
        }
        if stay.left
            && let Some(channels) = self.gate.node.channel_network()
        {
            channels.stay(self.session);
        }
        join_all(stay.held.iter().map(|node| self.release(node))).await;
        (stay.step, stay.error)
    }

    /// Forgets the session: clients that return with its token learn where it is.
    fn forget(&self) {
        if let Some(cluster) = self.gate.dispatch.cluster() {
            cluster.moved(self.session);
        }
        let to = self.to.address().into();
        self.gate.resumable.moved(self.session.id(), to);
    }

    /// Closes the session where it is now, as often as it was closed here since it was taken.
    async fn follow(&self, handle: &ConnectionHandle) {
        let (mut closes, mut next) = (MovedClose::default(), Follow::Look);
        loop {
            next = match next {
                Follow::Look => closes.noted(handle.end_moved()),
                Follow::Next(reason) => {
                    let (session, gate) = (self.session.id(), self.to.address());
                    let closed = self
                        .repeat(gate, CLOSE, &write_close(session, &reason))
                        .await;
                    if let Err(error) = &closed {
                        debug!(session, gate, %error, "next gate does not close the session");
                    }
                    closes.answered(&closed)
                }
                Follow::Others(reason) => {
                    self.close_elsewhere(&reason).await;
                    Follow::Look
                }
                Follow::End => return,
            };
        }
    }

    /// Closes the session where the next gate may have moved it before it died.
    async fn close_elsewhere(&self, reason: &CloseReason) {
        let request = write_close(self.session.id(), reason);
        let members = self.gate.node.members().into_iter();
        let others = members.filter(|it| it.may_be_gate() && it.address() != self.to.address());
        let calls = others.map(|gate| {
            let request = &request;
            async move { self.repeat(gate.address(), CLOSE, request).await }
        });
        if join_all(calls).await.iter().all(Result::is_err) {
            debug!(session = request.session, "moved session not closed");
        }
    }

    /// Calls a node until it answers.
    async fn repeat(
        &self,
        to: &str,
        method: &'static str,
        request: &impl prost::Message,
    ) -> Result {
        let mut times = 0;
        loop {
            let result = self.call::<_, ()>(to, method, request, HOLD_TIMEOUT).await;
            times += 1;
            if !is_repeated(times, &result) {
                return result;
            }
            sleep(REPEAT).await;
        }
    }

    /// Ends the wait at a node.
    async fn release(&self, node: &str) {
        let request = SessionRelease {
            session: self.session.id(),
        };
        if self.repeat(node, RELEASE, &request).await.is_err()
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
