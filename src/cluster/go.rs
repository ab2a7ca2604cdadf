//! A node of Go nano: reached by one call at a time for each session, which is what keeps their
//! order.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime, sync::watch, time::sleep};
use tonic::{Code, Status};
use tracing::{debug, warn};

use super::{
    channel::{Authorized, Dialer},
    ended::Ended,
    link::shard::Lost,
    proto::{SessionClosedRequest, member_client::MemberClient},
};
use crate::{
    dispatch::{Dispatch, ForwardError},
    error::{Error, Result, code},
    message::Message,
    session::{CloseReason, Session},
};

mod lane;
pub(super) mod plane;
pub(super) mod reannounce;
pub(super) mod remote;
mod table;

pub(super) use self::lane::Outgoing;
use self::{lane::Lane, remote::GoServed};

/// Sessions that share a lane wait for each other's calls.
const LANES: usize = 256;

/// How long one call may take. A node whose queue is full lets its callers wait.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often a node that did not answer is asked again.
const PROBE: Duration = Duration::from_secs(1);

/// The largest message that Go's gRPC takes, less what surrounds the body.
const MAX_BODY: usize = 4 * 1024 * 1024 - 1024;

/// One node of Go nano, or any other that is spoken to as if it were one.
pub(super) struct GoPeer {
    pub(super) address: String,
    client: MemberClient<Authorized>,
    runtime: runtime::Handle,
    dispatch: Arc<Dispatch>,
    lanes: Vec<Lane>,
    /// The sessions of its clients that this node serves.
    served: Mutex<ServedTable>,
    joined: AtomicBool,
    /// Whether its last call was not answered.
    suspect: AtomicBool,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct ServedTable {
    sessions: HashMap<i64, GoServed>,
    ended: Ended,
}

impl GoPeer {
    /// # Errors
    /// The address is none.
    pub(super) fn new(
        address: &str,
        dialer: &Dialer,
        dispatch: &Arc<Dispatch>,
        runtime: runtime::Handle,
    ) -> Result<Arc<Self>> {
        let channel = {
            // A lazy channel wants to be made on a runtime.
            let _runtime = runtime.enter();
            dialer.channel(address)?
        };
        Ok(Arc::new(Self {
            address: address.to_owned(),
            client: dialer.member(channel),
            runtime,
            dispatch: dispatch.clone(),
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            served: Mutex::default(),
            joined: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            closed: watch::Sender::new(false),
        }))
    }

    pub(super) fn join(&self) {
        self.joined.store(true, Ordering::Release);
        self.suspect.store(false, Ordering::Release);
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    pub(super) fn is_available(&self) -> bool {
        self.has_joined() && !self.suspect.load(Ordering::Acquire)
    }

    fn lane(&self, session: i64) -> &Lane {
        &self.lanes[(session.unsigned_abs() % LANES as u64) as usize]
    }

    /// How many sessions of this gate it serves.
    pub(super) fn sessions(&self) -> usize {
        self.lanes.iter().map(Lane::sessions).sum()
    }

    /// Sends a message of a session of this gate.
    ///
    /// # Errors
    /// Gives it back when too many wait. [`code::UNAVAILABLE`] while the node does not answer,
    /// [`code::TOO_LARGE`] for more than its gRPC takes.
    pub(super) fn message(
        self: &Arc<Self>,
        gate: &str,
        session: &Session,
        message: Message,
    ) -> Result<(), ForwardError> {
        if self.suspect.load(Ordering::Acquire) || *self.closed.borrow() {
            return Err(Error::new(code::UNAVAILABLE, "the member cannot be reached").into());
        }
        check_size(message.body.len())?;
        let index = session.id().unsigned_abs() % LANES as u64;
        let start = self
            .lane(session.id())
            .message(session, message, gate)
            .map_err(|refused| match refused {
                lane::Refusal::Full(message) => {
                    let (peer, id) = (self.clone(), session.id());
                    ForwardError::Full(
                        message,
                        Box::pin(async move { peer.lane(id).room(id).await }),
                    )
                }
                lane::Refusal::Closed => {
                    ForwardError::Error(Error::new(code::CLOSED, "the session is closed"))
                }
            })?;
        self.start(index as usize, start);
        Ok(())
    }

    /// Queues a call about a session, behind those before it.
    ///
    /// # Errors
    /// Too much waits, or the node is gone.
    pub(super) fn send(self: &Arc<Self>, session: i64, call: Outgoing) -> Result {
        if *self.closed.borrow() {
            return Err(Error::new(code::CLOSED, "the other node is gone"));
        }
        let index = (session.unsigned_abs() % LANES as u64) as usize;
        let start = self.lanes[index].push(session, call)?;
        self.start(index, start);
        Ok(())
    }

    /// A lane has a task only while something is in it.
    fn start(self: &Arc<Self>, lane: usize, start: bool) {
        if start {
            self.runtime.spawn(self.clone().drain(lane));
        }
    }

    async fn drain(self: Arc<Self>, lane: usize) {
        let mut client = self.client.clone();
        let mut closed = self.closed.subscribe();
        while let Some(item) = self.lanes[lane].next() {
            let result = tokio::select! {
                result = item.call.clone().send(&mut client, DEADLINE) => result,
                // The sender is part of this, so the wait cannot fail.
                _ = closed.wait_for(|closed| *closed) => Err(Status::unavailable("the node has left")),
            };
            if let Err(status) = &result {
                debug!(peer = self.address, session = item.session, code = %status.code(), error = status.message(), "call failed");
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
                    self.suspect();
                }
                if let Some(request) = item.call.request()
                    && let Some(session) = self.lanes[lane].answered(item.session, request)
                {
                    self.dispatch.fail(&session, into_error(status));
                }
            }
            self.lanes[lane].sent(&item);
        }
    }

    /// It did not answer: no new work goes there until it does, and what it owes is given up.
    fn suspect(self: &Arc<Self>) {
        if self.suspect.swap(true, Ordering::AcqRel) {
            return;
        }
        warn!(peer = self.address, "a node does not answer");
        self.fail(self.lanes.iter().flat_map(Lane::lose).collect());
        let (peer, mut closed) = (self.clone(), self.closed.subscribe());
        self.runtime.spawn(async move {
            tokio::select! {
                () = peer.recovered() => {
                    warn!(peer = peer.address, "a node answers again");
                    peer.suspect.store(false, Ordering::Release);
                }
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
    }

    /// Ready when it answers a call that means nothing: the end of a session that never was.
    async fn recovered(&self) {
        loop {
            sleep(PROBE).await;
            let mut request = tonic::Request::new(SessionClosedRequest { session_id: 0 });
            request.set_timeout(PROBE);
            match self.client.clone().session_closed(request).await {
                Err(status)
                    if matches!(
                        status.code(),
                        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
                    ) => {}
                _ => return,
            }
        }
    }

    fn fail(&self, lost: Lost) {
        for (session, requests) in lost {
            for request in requests {
                let error =
                    Error::new(code::UNAVAILABLE, "the member went away before it answered");
                self.dispatch.fail(&session.with_request(request), error);
            }
        }
    }

    /// The session that waits for this answer of the node.
    pub(super) fn answered(&self, session: i64, request: u64) -> Option<Session> {
        self.lane(session).answered(session, request)
    }

    /// A session of this gate has ended. Every node of Go nano is told, for others may have told it
    /// of the session.
    pub(super) fn closed(self: &Arc<Self>, session: &Session) {
        self.lane(session.id()).part(session.id());
        // One that takes nothing forgets the session with its gate.
        let _ = self.send(session.id(), Outgoing::SessionClosed(session.id()));
    }

    /// It has left: what it owes is given up. Its sessions, for the caller to end.
    pub(super) fn close(&self) -> Vec<GoServed> {
        self.joined.store(false, Ordering::Release);
        self.closed.send_replace(true);
        self.fail(self.lanes.iter().flat_map(Lane::close).collect());
        let served = std::mem::take(&mut self.served.lock().sessions);
        served.into_values().collect()
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    pub(super) fn unanswered(&self) -> usize {
        self.served
            .lock()
            .sessions
            .values()
            .map(|served| served.sink.unanswered())
            .sum()
    }

    /// A session of its client, which `open` makes if it is new.
    ///
    /// # Errors
    /// It has ended, or its gate is gone.
    fn served(&self, id: i64, open: impl FnOnce() -> GoServed) -> Result<GoServed> {
        let mut table = self.served.lock();
        if table.ended.contains(id) || *self.closed.borrow() {
            return Err(Error::new(
                code::NOT_FOUND,
                format!("session not found: {id}"),
            ));
        }
        Ok(table.sessions.entry(id).or_insert_with(open).clone())
    }

    /// Its client's session has ended, known here or not.
    pub(super) fn end(&self, id: i64) -> Option<GoServed> {
        let mut table = self.served.lock();
        table.ended.insert(id);
        table.sessions.remove(&id)
    }

    pub(super) fn end_all(&self) -> Vec<GoServed> {
        std::mem::take(&mut self.served.lock().sessions)
            .into_values()
            .collect()
    }
}

/// # Errors
/// [`code::TOO_LARGE`].
fn check_size(body: usize) -> Result {
    if body <= MAX_BODY {
        return Ok(());
    }
    Err(Error::new(
        code::TOO_LARGE,
        format!("a body of {body} bytes, which a node of Go nano does not take"),
    ))
}

fn into_error(status: &Status) -> Error {
    let code = match status.code() {
        Code::Unknown if status.message().starts_with("service not found") => code::NOT_FOUND,
        _ => code::UNAVAILABLE,
    };
    Error::new(code, format!("the member refused it: {}", status.message()))
}

/// Why a session that a node of Go nano closed is over: its protocol does not say.
pub(super) fn closed_by_gate() -> CloseReason {
    CloseReason::Client
}

impl fmt::Debug for GoPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoPeer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
