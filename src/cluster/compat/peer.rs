//! One node of Go nano: reached by one call at a time for each session, which is what keeps their
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
use tokio::{runtime, sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use super::{
    call_queue::{Blocked, CallQueue, OrphanedRequests, OutboundCall},
    served::ServedSession,
};
#[cfg(feature = "admin")]
use crate::cluster::transport::PeerReport;
use crate::{
    cluster::{
        grpc_channel::Authorized,
        link::{closed_sessions::ClosedSessions, context::LinkContext},
        peer_table::unsupported,
        proto::{SessionClosedRequest, member_client::MemberClient},
        transport::{OutboundNodeCall, PeerStatus, PeerTransport, Serves, Unreached},
    },
    dispatch::{ForwardError, Origin},
    error::{Error, Result, code},
    memory_budget::PeerCharge,
    message::Message,
    session::{Call, CloseReason, Push, Session, UserId},
};

/// Queues of one peer. Sessions that share one wait for each other's calls.
const QUEUES: usize = 256;

/// How long one call may take. A Go node whose scheduler is full lets its callers wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a node that did not answer is called again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The largest message that Go's gRPC accepts, less what surrounds the body.
const MAX_BODY: usize = 4 * 1024 * 1024 - 1024;

/// One node without links.
pub(in crate::cluster) struct CompatPeer {
    pub(super) address: Arc<str>,
    client: MemberClient<Authorized>,
    runtime: runtime::Handle,
    context: Arc<LinkContext>,
    queues: Vec<CallQueue>,
    /// The sessions of its clients that this node serves.
    served: Mutex<ServedTable>,
    member: AtomicBool,
    /// Whether its last call was not answered.
    suspect: AtomicBool,
    closed: CancellationToken,
}

#[derive(Default)]
struct ServedTable {
    sessions: HashMap<i64, ServedSession>,
    closed_sessions: ClosedSessions,
}

impl CompatPeer {
    /// # Errors
    /// [`code::BAD_REQUEST`] if it is not an address.
    pub(super) fn new(
        address: &str,
        context: Arc<LinkContext>,
        runtime: runtime::Handle,
    ) -> Result<Arc<Self>> {
        let channel = {
            // A channel can only be made on a runtime.
            let _runtime = runtime.enter();
            context.dialer.channel(address)?
        };
        Ok(Arc::new(Self {
            address: address.into(),
            client: context.dialer.member(channel),
            runtime,
            queues: (0..QUEUES)
                .map(|_| CallQueue::new(PeerCharge::new(context.node.memory())))
                .collect(),
            context,
            served: Mutex::default(),
            member: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            closed: CancellationToken::new(),
        }))
    }

    /// The master announced the peer.
    pub(super) fn join(&self) {
        self.member.store(true, Ordering::Release);
        self.suspect.store(false, Ordering::Release);
    }

    pub(super) fn is_member(&self) -> bool {
        self.member.load(Ordering::Acquire)
    }

    fn queue(&self, session: i64) -> &CallQueue {
        &self.queues[queue_index(session)]
    }

    /// Queues a call about a session, behind those before it.
    ///
    /// # Errors
    /// [`code::TOO_MANY`], or [`code::CLOSED`] when the node is gone.
    pub(super) fn enqueue(self: &Arc<Self>, session: i64, call: OutboundCall) -> Result {
        if self.closed.is_cancelled() {
            return Err(Error::new(code::CLOSED, "the other node is gone"));
        }
        let index = queue_index(session);
        let start = self.queues[index].push(session, call)?;
        self.start(index, start);
        Ok(())
    }

    /// A queue has a task only while it holds calls.
    fn start(self: &Arc<Self>, index: usize, start: bool) {
        if start {
            self.runtime.spawn(self.clone().send_queued(index));
        }
    }

    async fn send_queued(self: Arc<Self>, index: usize) {
        let mut client = self.client.clone();
        while let Some(item) = self.queues[index].next() {
            let result = tokio::select! {
                result = item.call.clone().send(&mut client, CALL_TIMEOUT) => result,
                () = self.closed.cancelled() => Err(Status::unavailable("the node has left")),
            };
            if let Err(status) = &result {
                debug!(peer = %self.address, session = item.session, code = %status.code(), error = status.message(), "call failed");
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
                    self.suspect();
                }
                if let Some(request) = item.call.request()
                    && let Some(session) = self.queues[index].answered(item.session, request)
                {
                    let reporter = &self.context.reporter;
                    reporter.fail_unhandled(&session, into_error(status));
                }
            }
            self.queues[index].sent(&item);
        }
    }

    /// The peer did not answer: it gets no new work until it does, and its requests are failed.
    fn suspect(self: &Arc<Self>) {
        if self.suspect.swap(true, Ordering::AcqRel) {
            return;
        }
        warn!(peer = %self.address, "peer suspected");
        self.fail(
            self.queues
                .iter()
                .flat_map(CallQueue::orphan_requests)
                .collect(),
        );
        let peer = self.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                () = peer.recovered() => {
                    info!(peer = %peer.address, "peer answers again");
                    peer.suspect.store(false, Ordering::Release);
                }
                () = peer.closed.cancelled() => {}
            }
        });
    }

    /// Ready when the peer answers a call that means nothing: the end of a session that never was.
    async fn recovered(&self) {
        loop {
            sleep(PROBE_INTERVAL).await;
            let mut request = tonic::Request::new(SessionClosedRequest { session_id: 0 });
            request.set_timeout(PROBE_INTERVAL);
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

    fn fail(&self, orphaned: OrphanedRequests) {
        for (session, requests) in orphaned {
            for request in requests {
                let error =
                    Error::new(code::UNAVAILABLE, "the member went away before it answered");
                let session = session.with_request(request);
                self.context.reporter.fail_unhandled(&session, error);
            }
        }
    }

    /// Takes a request that the peer answers. `None` if it is not in flight.
    pub(super) fn answered(&self, session: i64, request: u64) -> Option<Session> {
        self.queue(session).answered(session, request)
    }

    /// The peer is gone: its requests are failed. Returns its sessions, for the caller to end.
    pub(super) fn close(&self) -> Vec<ServedSession> {
        self.member.store(false, Ordering::Release);
        self.closed.cancel();
        self.fail(self.queues.iter().flat_map(CallQueue::close).collect());
        let served = std::mem::take(&mut self.served.lock().sessions);
        served.into_values().collect()
    }

    /// Whether no call waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.queues.iter().all(CallQueue::is_idle)
    }

    /// Requests of its clients that wait for an answer of this node.
    pub(super) fn unanswered(&self) -> usize {
        self.served
            .lock()
            .sessions
            .values()
            .map(|served| served.requests.count())
            .sum()
    }

    /// Returns a session of its client, made by `open` if it is new.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] if it has ended, or its gate is gone.
    pub(super) fn served(
        &self,
        id: i64,
        open: impl FnOnce() -> ServedSession,
    ) -> Result<ServedSession> {
        let mut table = self.served.lock();
        if table.closed_sessions.contains(id) || self.closed.is_cancelled() {
            return Err(Error::new(
                code::NOT_FOUND,
                format!("session not found: {id}"),
            ));
        }
        Ok(table.sessions.entry(id).or_insert_with(open).clone())
    }

    /// A session of its client has ended, known here or not.
    pub(super) fn end(&self, id: i64) -> Option<ServedSession> {
        let mut table = self.served.lock();
        table.closed_sessions.insert(id);
        table.sessions.remove(&id)
    }

    /// Takes all its sessions, for the caller to end.
    pub(super) fn end_all(&self) -> Vec<ServedSession> {
        std::mem::take(&mut self.served.lock().sessions)
            .into_values()
            .collect()
    }
}

/// Checks that a body fits into a call.
///
/// # Errors
/// [`code::TOO_LARGE`].
pub(super) fn check_size(body: usize) -> Result {
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

fn queue_index(session: i64) -> usize {
    (session.unsigned_abs() % QUEUES as u64) as usize
}

impl PeerTransport for CompatPeer {
    fn address(&self) -> &str {
        &self.address
    }

    fn status(&self) -> PeerStatus {
        let member = self.is_member();
        PeerStatus {
            bound: member,
            available: member && !self.suspect.load(Ordering::Acquire),
            suspect: false,
            draining: false,
        }
    }

    fn answers_calls(&self) -> bool {
        false
    }

    fn load(&self) -> usize {
        self.queues.iter().map(CallQueue::sessions).sum()
    }

    #[cfg(feature = "admin")]
    fn report(&self) -> PeerReport {
        PeerReport {
            address: self.address.to_string(),
            transport: "unary",
            state: match self.suspect.load(Ordering::Acquire) {
                true => "suspect",
                false => "good",
            },
            sessions: self.load(),
            queue_bytes: 0,
            streams_up: 0,
            round_trip_seconds: None,
        }
    }

    fn send(
        self: Arc<Self>,
        session: &Session,
        message: Message,
        _: Origin,
    ) -> Result<(), ForwardError> {
        if self.suspect.load(Ordering::Acquire) || self.closed.is_cancelled() {
            return Err(Error::new(code::UNAVAILABLE, "the member cannot be reached").into());
        }
        check_size(message.body.len())?;
        let id = session.id();
        let queued = self
            .queue(id)
            .message(session, message, &self.context.address);
        match queued {
            Ok(start) => {
                self.start(queue_index(id), start);
                Ok(())
            }
            Err(Blocked::Full(message)) => Err(ForwardError::Full(
                message,
                Box::pin(async move { self.queue(id).room(id).await }),
            )),
            Err(Blocked::Closed) => Err(Error::new(code::CLOSED, "the session is closed").into()),
        }
    }

    fn call(&self, call: Call) {
        let error = unsupported(&self.address);
        // A call is answered once, and this is its only receiver.
        let _ = call.caller.answer(Err(error));
    }

    fn node_call(&self, call: OutboundNodeCall) -> Result {
        let error = unsupported(&self.address);
        match call.caller {
            // Answered once, as above.
            Some(caller) => {
                let _ = caller.answer(Err(error));
                Ok(())
            }
            None => Err(error),
        }
    }

    fn push_to_users(
        &self,
        _: usize,
        _: &mut dyn Iterator<Item = &UserId>,
        _: &Push<'_>,
    ) -> Result<oneshot::Receiver<Unreached>> {
        Err(unsupported(&self.address))
    }

    fn session_bound(&self, _: &Session) {
        // Go nano does not send uids to other nodes.
    }

    fn session_shared(&self, _: &Session, _: &str) {
        // Nor does it know shared values.
    }

    fn serves(&self, session: i64) -> Serves {
        match self.queue(session).has_window(session) {
            true => Serves::Fixed,
            false => Serves::Nothing,
        }
    }

    fn session_moved(&self, _: i64) {
        // One that it serves does not move.
    }

    fn session_adopted(&self, _: &Session, _: Vec<u64>) -> Result<u64> {
        Err(unsupported(&self.address))
    }

    fn session_attached(&self, _: &Session, _: bool) {
        // Nor is one adopted.
    }

    fn session_closed(self: Arc<Self>, session: &Session, _: &CloseReason) -> bool {
        if !self.is_member() {
            return false;
        }
        self.queue(session.id()).close_window(session.id());
        // Also to one that does not serve it: others may have sent it messages of the session. One
        // that accepts nothing forgets the session with its gate.
        let _ = self.enqueue(session.id(), OutboundCall::SessionClosed(session.id()));
        // Go nano answers no questions about it.
        false
    }
}

impl fmt::Debug for CompatPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompatPeer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
