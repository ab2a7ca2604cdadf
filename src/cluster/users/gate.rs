//! What a node does for the users whose clients it has, as their gate.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::context::{UserContext, all};
use crate::{
    cluster::{
        directory::{driver::GateSessions, holdings::CALLBACK_TIMEOUT},
        players::{
            EndedReply, EndedRequest, FindReply, FindRequest, FoundSession, KickReply, KickRequest,
        },
        user_ids::user,
    },
    error::{Error, Result, code},
    kick::{Kick, Reconnect},
    session::{Session, UserId},
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

    pub(super) fn kick(&self, request: &KickRequest) -> Result<KickReply> {
        let kick = Kick::decode(&request.kick);
        let sessions = self.sessions_of(&user(request.user.as_ref())?);
        for session in &sessions {
            session.kick_with(kick.clone());
        }
        let found = !sessions.is_empty();
        Ok(KickReply { found })
    }

    /// Answers when the close callbacks of a session that this node served have run.
    pub(super) async fn ended(self, request: EndedRequest) -> Result<EndedReply> {
        self.0.sessions.ended(request.session).await;
        Ok(EndedReply {})
    }

    /// Waits until the close callbacks of a session of this gate have run, here and on all nodes that
    /// served it. `open` is `None` if it has ended. Returns whether some had not by the deadline.
    async fn ended_everywhere(self, id: i64, open: Option<Session>) -> bool {
        let deadline = Instant::now() + CALLBACK_TIMEOUT;
        let here = async {
            if let Some(session) = &open {
                session.close_signal().cancelled().await;
            }
            self.0.sessions.ended(id).await;
        };
        if timeout_at(deadline, here).await.is_err() {
            warn!(
                session = id,
                "replaced session or its close callbacks not done at the deadline"
            );
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let servers = self.0.sessions.last_servers.of(id, Instant::now());
        let others = servers.into_iter().map(|node| {
            let (gate, request) = (self.clone(), EndedRequest { session: id });
            async move { gate.ended_at(&node, &request, left).await }
        });
        let others = all(&self.0.runtime, others).await;
        let late = others
            .into_iter()
            .any(|ended| ended.is_none_or(|ended| !ended));
        if late {
            warn!(
                session = id,
                "close callbacks of a replaced session on other nodes not done at the deadline"
            );
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
            // One that has left has left with its sessions.
            Err(_) => !caller.is_member(node),
        }
    }
}

impl GateSessions for Gate {
    fn ended(&self, session: i64, kick: bool) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let open = self.0.sessions.find_local(session);
        if let Some(open) = open.as_ref().filter(|_| kick) {
            let kick = Kick::new(REPLACED, "logged in elsewhere");
            open.kick_with(kick.with_reconnect(Reconnect::Never));
        }
        Box::pin(self.clone().ended_everywhere(session, open))
    }
}

pub(super) fn closed() -> Error {
    Error::new(code::CLOSED, "the session is closed")
}
