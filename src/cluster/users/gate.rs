//! What a node does for the users whose clients it has, as their gate.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::context::{CALLBACK_TIMEOUT, UserContext, all};
use super::user_ids::user;
use crate::{
    cluster::{
        link::config::stream_index,
        players::{
            EndedReply, EndedRequest, FindReply, FindRequest, FoundSession, GrantReply,
            GrantRequest, KickReply, KickRequest, PushReply, PushRequest, StepDownReply,
            StepDownRequest,
        },
    },
    error::{Error, Result, code},
    kick::{Kick, Reconnect},
    session::{Push, Session, UserId},
};

/// The code of the kick of a session whose user has logged in elsewhere.
const REPLACED: &str = "LOGIN-REPLACED";

/// The sessions of this gate, by user.
#[derive(Clone)]
pub(super) struct Gate(pub(super) Arc<UserContext>);

impl Gate {
    fn sessions_of(&self, user: &UserId) -> Vec<Session> {
        let mut sessions = self.0.sessions.find_by_user(user);
        sessions.retain(|session| !session.is_remote());
        sessions
    }

    pub(super) fn find(&self, request: &FindRequest) -> Result<FindReply> {
        let mut sessions = Vec::new();
        for (at, asked) in (0..).zip(&request.users) {
            let found = self.sessions_of(&user(Some(asked))?);
            sessions.extend(found.iter().map(|session| FoundSession {
                user: at,
                session: session.id(),
            }));
        }
        Ok(FindReply { sessions })
    }

    pub(super) fn push(&self, request: &PushRequest) -> Result<PushReply> {
        let push = Push::new(&request.route, request.body.clone());
        let mut missed = Vec::new();
        for (at, asked) in (0..).zip(&request.users) {
            let mut sessions = self.sessions_of(&user(Some(asked))?);
            sessions.retain(|session| stream_index(session.id()) == request.stream as usize);
            let sent = sessions.iter().map(|session| session.sink().push(&push));
            let (sent, failed): (Vec<_>, Vec<_>) = sent.partition(Result::is_ok);
            for error in failed.into_iter().filter_map(Result::err) {
                debug!(user = ?user(Some(asked)), route = push.route(), %error, "push to a user failed");
            }
            if sent.is_empty() {
                missed.push(at);
            }
        }
        Ok(PushReply { missed })
    }

    pub(super) fn kick(&self, request: &KickRequest) -> Result<KickReply> {
        let kick = Kick::decode(&request.kick);
        let sessions = self.sessions_of(&user(request.user.as_ref())?);
        for session in &sessions {
            session.kick_with(kick.clone());
        }
        let found = !sessions.is_empty();
        Ok(KickReply { found })
    }

    /// Binds a session of this gate to the user that it claimed. The node that claims has asked the
    /// hook of binds.
    ///
    /// # Errors
    /// [`code::CLOSED`].
    pub(super) fn grant(&self, request: &GrantRequest) -> Result<GrantReply> {
        let user = user(request.user.as_ref())?;
        let session = self.0.sessions.find_local(request.session);
        let session = session.ok_or_else(closed)?;
        session.bind_checked(user);
        Ok(GrantReply {})
    }

    /// Answers when the close callbacks of a session that this node served have run.
    pub(super) async fn ended(self, request: EndedRequest) -> Result<EndedReply> {
        self.0.sessions.ended(request.session).await;
        Ok(EndedReply {})
    }

    /// Ends the sessions of a user but one, and waits for their close callbacks on all nodes.
    pub(super) async fn step_down(self, request: StepDownRequest) -> Result<StepDownReply> {
        let mut sessions = self.sessions_of(&user(request.user.as_ref())?);
        sessions.retain(|session| session.id() != request.except);
        if request.ask || sessions.is_empty() {
            let found = !sessions.is_empty();
            return Ok(StepDownReply { found, late: false });
        }
        let kick = Kick::new(REPLACED, "logged in elsewhere").with_reconnect(Reconnect::Never);
        let ends = sessions.into_iter().map(|session| {
            session.kick_with(kick.clone());
            self.clone().end(session)
        });
        let ends = all(&self.0.runtime, ends).await;
        Ok(StepDownReply {
            found: true,
            late: ends.into_iter().any(|late| late.unwrap_or(true)),
        })
    }

    /// Waits until the close callbacks of a session of this gate have run, here and on all nodes that
    /// served it. Returns whether some had not by the deadline.
    async fn end(self, session: Session) -> bool {
        let deadline = Instant::now() + CALLBACK_TIMEOUT;
        let id = session.id();
        let signal = session.close_signal();
        let here = async {
            signal.cancelled().await;
            self.0.sessions.ended(id).await;
        };
        if timeout_at(deadline, here).await.is_err() {
            warn!(session = id, user = ?session.user(), "replaced session or its close callbacks not done at the deadline");
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let others = self.0.other_nodes().into_iter().map(|node| {
            let (gate, request) = (self.clone(), EndedRequest { session: id });
            async move { gate.ended_at(&node, &request, left).await }
        });
        let others = all(&self.0.runtime, others).await;
        let late = others
            .into_iter()
            .any(|ended| ended.is_none_or(|ended| !ended));
        if late {
            warn!(session = id, user = ?session.user(), "close callbacks of a replaced session on other nodes not done at the deadline");
        }
        late
    }

    /// Waits until the close callbacks have run on another node. Returns whether they have.
    async fn ended_at(&self, node: &str, request: &EndedRequest, within: Duration) -> bool {
        let key = request.session.unsigned_abs();
        let caller = &self.0.caller;
        let ended = caller.call::<_, EndedReply>(node, key, "Users.Ended", request, within);
        match ended.await {
            Ok(EndedReply {}) => true,
            // It has left, with its sessions.
            Err(error) => error.code() == code::NOT_FOUND,
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(code::CLOSED, "the session is closed")
}
