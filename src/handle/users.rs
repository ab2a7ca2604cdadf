//! Users of the whole cluster, by their ids.

use std::{fmt, pin::Pin, slice, sync::Arc};

use bytes::Bytes;

use crate::{
    error::{Error, Result, code},
    kick::Kick,
    serialize::{Encode, Json},
    session::{Push, Session, UserId},
};

type Reply<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The users that a push did not reach, and why some of them may be online all the same.
pub(crate) type Missed = (Vec<UserId>, Option<Error>);

/// What a login does while the user has another session:
/// [`App::unique_users`](crate::App::unique_users).
///
/// ```
/// use nano::{App, Unique};
///
/// let app = App::new().unique_users(Unique::Reject);
/// # let _ = app;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unique {
    /// The new session replaces the others. They are kicked with the code `LOGIN-REPLACED`, and the
    /// login waits until their close callbacks have run on all nodes that served them.
    Replace,
    /// The login fails with [`code::CONFLICT`].
    Reject,
}

/// What a [`login`](Session::login) found.
///
/// ```
/// use nano::{Result, Session};
///
/// async fn log_in(session: &Session, uid: i64) -> Result {
///     if session.login(uid).await?.replaced {
///         println!("player {uid} has changed the device");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// Whether other sessions of the user were ended for this login.
    pub replaced: bool,
    /// Whether close callbacks of those had not finished by the deadline of five seconds, or could
    /// not be waited for because their node was out of reach.
    pub late: bool,
}

/// Where a session of a user is.
///
/// ```
/// use nano::{Handle, Result};
///
/// async fn gates_of(node: &Handle, uid: i64) -> Result<Vec<String>> {
///     let locations = node.user(uid).locate().await?;
///     Ok(locations.into_iter().map(|location| location.gate).collect())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The address of the session's gate; for a standalone node that of its first listener.
    pub gate: String,
    /// The session's id.
    pub session: i64,
}

/// What a node does for users of the whole cluster.
pub(crate) trait UserRouter: Send + Sync {
    fn locate(&self, user: UserId) -> Reply<Result<Vec<Location>>>;

    fn push<'a>(
        &'a self,
        users: &'a [UserId],
        push: Push<'a>,
    ) -> Pin<Box<dyn Future<Output = Missed> + Send + 'a>>;

    /// Returns whether there was a session.
    fn kick(&self, user: UserId, kick: Kick) -> Reply<Result<bool>>;

    /// Counts an id that no user can have.
    fn input_refused(&self);

    /// Claims a user for a session, and binds it.
    fn login(&self, session: Session, user: UserId) -> Reply<Result<Login>>;
}

/// The node's [`UserRouter`], if it has started.
#[derive(Clone)]
pub(crate) struct Running(pub(super) Option<Arc<dyn UserRouter>>);

impl Running {
    /// # Errors
    /// [`code::UNAVAILABLE`].
    fn get(&self) -> Result<&Arc<dyn UserRouter>> {
        let stopped = || Error::new(code::UNAVAILABLE, "the node is not running");
        self.0.as_ref().ok_or_else(stopped)
    }

    /// Checks the id of a user.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`].
    fn check(&self, user: &UserId) -> Result {
        let refused = |_: &Error| self.0.iter().for_each(|router| router.input_refused());
        user.check().inspect_err(refused)
    }

    pub(crate) fn login(&self, session: Session, user: UserId) -> Reply<Result<Login>> {
        match self.get() {
            Ok(router) => router.login(session, user),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

/// A user of the cluster: [`Handle::user`](crate::Handle::user).
///
/// Sessions are found at all gates of this crate. Those at gates of Go nano are found on the nodes
/// that serve them, and nowhere else: such gates know no users.
///
/// ```
/// use nano::{Handle, Result};
///
/// async fn gift(node: &Handle, uid: i64) -> Result {
///     node.user(uid).push("onGift", &"a sword").await
/// }
/// ```
#[derive(Clone)]
pub struct User {
    router: Running,
    user: UserId,
}

impl User {
    pub(crate) fn new(router: Running, user: UserId) -> Self {
        Self { router, user }
    }

    /// The user's id.
    pub fn id(&self) -> &UserId {
        &self.user
    }

    /// Where the user's sessions are; none when the user is not online.
    ///
    /// Asks the user's owner, or all gates if it does not answer. A user may have moved when this
    /// returns. One that was bound a moment ago, without a login, may not be found yet.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for an illegal id, or why a node could not be asked when no other has
    /// the user: [`code::UNAVAILABLE`] or [`code::TIMEOUT`].
    pub async fn locate(&self) -> Result<Vec<Location>> {
        self.router.check(&self.user)?;
        self.router.get()?.locate(self.user.clone()).await
    }

    /// Pushes a message in JSON to all sessions of the user.
    ///
    /// Asks the user's owner where they are, unless the user has been found with one session, by a login
    /// under [unique users](crate::App::unique_users): its gate is remembered.
    ///
    /// Returns when the gates have queued it: it may still be lost with a connection. Pushes of one
    /// node to one session arrive in the order sent, those by its handle included, when each waits
    /// for the one before.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] when the user is not online, or why a node could not be asked when no
    /// other has the user; [`code::BAD_REQUEST`] for an illegal id, [`code::TOO_LARGE`], and the
    /// format's error for a message it cannot write.
    pub async fn push<M: ?Sized>(&self, route: &str, message: &M) -> Result
    where
        Json: Encode<M>,
    {
        let body = Json::encode(message)?;
        self.push_raw(route, body).await
    }

    /// Pushes an encoded message: [`push`](User::push).
    ///
    /// # Errors
    /// As [`push`](User::push).
    pub async fn push_raw(&self, route: &str, body: impl Into<Bytes>) -> Result {
        let users = slice::from_ref(&self.user);
        let (missed, error) = send(&self.router, users, route, body.into()).await?;
        if missed.is_empty() {
            return Ok(());
        }
        let offline = || Error::new(code::NOT_FOUND, format!("not online: {}", self.user));
        Err(error.unwrap_or_else(offline))
    }

    /// Sends what is queued and a kick to all sessions of the user, then closes their connections.
    /// Returns whether there was one. Close callbacks have not run yet when this returns.
    ///
    /// # Errors
    /// As [`locate`](User::locate).
    pub async fn kick(&self, reason: impl Into<String>) -> Result<bool> {
        self.kick_with(Kick::new("", reason)).await
    }

    /// [`kick`](User::kick) with a code, and with advice whether and where to connect again.
    ///
    /// # Errors
    /// As [`locate`](User::locate).
    pub async fn kick_with(&self, kick: Kick) -> Result<bool> {
        self.router.check(&self.user)?;
        self.router.get()?.kick(self.user.clone(), kick).await
    }
}

/// Users of the cluster: [`Handle::users`](crate::Handle::users).
///
/// ```
/// use nano::{Handle, Result};
///
/// async fn invite(node: &Handle, friends: Vec<i64>) -> Result {
///     let missed = node.users(friends).push("onInvite", &"a match").await?;
///     println!("{} friends are away", missed.len());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Users {
    router: Running,
    users: Vec<UserId>,
}

impl Users {
    pub(crate) fn new(router: Running, users: Vec<UserId>) -> Self {
        Self { router, users }
    }

    /// Pushes a message in JSON to all sessions of all users, and returns the users that were not
    /// reached, each once.
    ///
    /// That is one frame for each stream of each gate, with the body once. Users whose gates are not
    /// [remembered](User::push) are looked up first, all at once.
    ///
    /// # Errors
    /// [`code::BAD_REQUEST`] for an illegal id, [`code::TOO_LARGE`], and the format's error for a
    /// message it cannot write. Nothing is sent then.
    pub async fn push<M: ?Sized>(&self, route: &str, message: &M) -> Result<Vec<UserId>>
    where
        Json: Encode<M>,
    {
        self.push_raw(route, Json::encode(message)?).await
    }

    /// Pushes an encoded message: [`push`](Users::push).
    ///
    /// # Errors
    /// As [`push`](Users::push).
    pub async fn push_raw(&self, route: &str, body: impl Into<Bytes>) -> Result<Vec<UserId>> {
        let (missed, _) = send(&self.router, &self.users, route, body.into()).await?;
        Ok(missed)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.user).finish()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Users").field(&self.users).finish()
    }
}

async fn send(router: &Running, users: &[UserId], route: &str, body: Bytes) -> Result<Missed> {
    users.iter().try_for_each(|user| router.check(user))?;
    let push = Push::new(route, body);
    push.check()?;
    Ok(router.get()?.push(users, push).await)
}
