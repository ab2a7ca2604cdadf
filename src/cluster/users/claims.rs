//! The owner of a user decides which session may have it. Every user has one owner among the nodes
//! of this crate, by rendezvous hashing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::context::{CALL_TIMEOUT, CALLBACK_TIMEOUT, LOGIN_TIMEOUT, UserContext, all};
use super::user_ids::user;
use crate::{
    cluster::{
        players::{
            ClaimRequest, GrantReply, GrantRequest, LoginReply, LoginRequest, StepDownReply,
            StepDownRequest,
        },
        routing::balance,
    },
    error::{Error, Result, code},
    handle::Unique,
    session::UserId,
};

/// How long a gate has to end sessions and wait for their callbacks, with the way there and back.
const STEP_DOWN_TIMEOUT: Duration = CALLBACK_TIMEOUT.saturating_add(Duration::from_secs(1));

/// The pause before a claim is made again, because its owner could not be asked.
const RETRY: Duration = Duration::from_millis(50);

/// Logins: as the gate of a session, and as the owner of a user.
#[derive(Clone)]
pub(super) struct Claims {
    context: Arc<UserContext>,
    /// One lock for each user that is being decided on. The outer lock is a leaf.
    deciding: Arc<Mutex<HashMap<UserId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Claims {
    pub(super) fn new(context: Arc<UserContext>) -> Self {
        Self {
            context,
            deciding: Arc::default(),
        }
    }

    /// Claims a user for a session of this gate.
    pub(super) async fn login(self, request: LoginRequest) -> Result<LoginReply> {
        let user = user(request.user.as_ref())?;
        let Some(unique) = self.context.unique else {
            return Err(Error::new(
                code::UNSUPPORTED,
                "the gate of the session has no unique users",
            ));
        };
        let claim = ClaimRequest {
            user: request.user,
            session: request.session,
            reject: unique == Unique::Reject,
        };
        let (deadline, key) = (Instant::now() + LOGIN_TIMEOUT, balance::user_key(&user));
        loop {
            let (owner, caller) = (self.owner(&user), &self.context.caller);
            let left = deadline.saturating_duration_since(Instant::now());
            let login = caller.call(&owner, key, "Users.Claim", &claim, left).await;
            match login {
                // The owner is gone, and this node may not know it yet.
                Err(error) if may_pass(&error) && RETRY < left => sleep(RETRY).await,
                login => return login,
            }
        }
    }

    /// Decides a claim of the gate at `gate`.
    pub(super) async fn claim(self, gate: Arc<str>, request: ClaimRequest) -> Result<LoginReply> {
        let user = user(request.user.as_ref())?;
        let lock = self
            .deciding
            .lock()
            .entry(user.clone())
            .or_default()
            .clone();
        let decided = async {
            let _alone = lock.lock().await;
            self.decide(&gate, &request).await
        };
        let decided = timeout(LOGIN_TIMEOUT, decided).await;
        drop(lock);
        let mut deciding = self.deciding.lock();
        if deciding
            .get(&user)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            deciding.remove(&user);
        }
        drop(deciding);
        decided.unwrap_or_else(|_| {
            Err(Error::new(
                code::TIMEOUT,
                "the login was not decided in time",
            ))
        })
    }

    async fn decide(&self, gate: &str, claim: &ClaimRequest) -> Result<LoginReply> {
        let step_down = StepDownRequest {
            user: claim.user.clone(),
            except: claim.session,
            ask: claim.reject,
        };
        let caller = &self.context.caller;
        let nodes = self.context.nodes();
        let calls = nodes.iter().map(|node| {
            caller.call::<_, StepDownReply>(
                node,
                0,
                "Users.StepDown",
                &step_down,
                STEP_DOWN_TIMEOUT,
            )
        });
        let mut login = LoginReply::default();
        for reply in all(&self.context.runtime, calls).await {
            match reply {
                Some(Ok(reply)) => {
                    login.replaced |= reply.found;
                    login.late |= reply.late;
                }
                // It has left meanwhile, or is of a version without users.
                Some(Err(error)) if matches!(error.code(), code::NOT_FOUND | code::UNSUPPORTED) => {
                }
                // No login waits for a gate that cannot be asked for longer than this.
                _ => login.late = true,
            }
        }
        if claim.reject && login.replaced {
            return Err(Error::new(code::CONFLICT, "the user has another session"));
        }
        let grant = GrantRequest {
            user: claim.user.clone(),
            session: claim.session,
        };
        // Bound before the next claim of the user is decided on.
        let key = claim.session.unsigned_abs();
        let granted = caller.call::<_, GrantReply>(gate, key, "Users.Grant", &grant, CALL_TIMEOUT);
        granted.await?;
        Ok(login)
    }

    fn owner(&self, user: &UserId) -> Arc<str> {
        let key = balance::user_key(user);
        let mut nodes = self.context.nodes();
        nodes.sort_unstable();
        nodes
            .into_iter()
            .max_by_key(|node| balance::rendezvous_score(key, node))
            .unwrap_or_else(|| self.context.own())
    }
}

/// Whether a claim that failed may be granted by the user's next owner.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.code(),
        code::UNAVAILABLE | code::NOT_FOUND | code::TOO_MANY
    )
}
