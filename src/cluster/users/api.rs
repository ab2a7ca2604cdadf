//! Users as the application reaches them: by the handle of a node, and the login of a session.

use std::pin::Pin;

use crate::{
    error::{Error, Result, code},
    handle::{Handle, Login, User, Users},
    metrics::RefusedInput,
    serialize::Serializer,
    session::{Session, UserId},
};

impl Handle {
    /// The session with this id, if this node has it.
    pub fn session(&self, id: i64) -> Option<Session> {
        self.sessions().find(id)
    }

    /// The sessions of this node that are bound to this uid. Other nodes may have more.
    pub fn sessions_by_uid(&self, uid: i64) -> Vec<Session> {
        self.sessions().find_by_uid(uid)
    }

    /// The sessions of this node that are bound to this user. Other nodes may have more.
    pub fn sessions_by_user(&self, user: impl Into<UserId>) -> Vec<Session> {
        self.sessions().find_by_user(user)
    }

    /// The sessions of a user, at whatever gates of the cluster.
    ///
    /// ```
    /// use nano::{Handle, Result};
    ///
    /// async fn invite(node: &Handle, friend: i64) -> Result {
    ///     node.user(friend).push("onInvite", &7).await
    /// }
    /// ```
    pub fn user(&self, user: impl Into<UserId>) -> User {
        User::new(self.user_router(), user.into())
    }

    /// The sessions of many users, at whatever gates of the cluster.
    ///
    /// ```
    /// use nano::{Handle, Result, UserId};
    ///
    /// async fn tell_guild(node: &Handle, guild: &[i64]) -> Result<Vec<UserId>> {
    ///     node.users(guild.iter().copied()).push("onGuild", "the war is won").await
    /// }
    /// ```
    pub fn users(&self, users: impl IntoIterator<Item = impl Into<UserId>>) -> Users {
        let users = users.into_iter().map(Into::into).collect();
        Users::new(self.user_router(), users)
    }
}

impl<S: Serializer> Session<S> {
    /// Binds the session to a user, as the only one if the node has
    /// [unique users](crate::App::unique_users).
    ///
    /// With [`Unique::Replace`](crate::Unique::Replace), returns when the user's other sessions in the cluster were kicked
    /// with the code `LOGIN-REPLACED` and their close callbacks have run on all nodes that served
    /// them, so that what those callbacks have saved can be loaded; or after five seconds, which
    /// [`Login::late`] reports. Work that a callback spawns is not waited for. Without unique users
    /// this is [`bind`](Session::bind).
    ///
    /// Works on gates and on backends alike. The login goes on when the future is dropped.
    ///
    /// ```
    /// use nano::{Result, Session};
    /// use std::sync::Arc;
    ///
    /// # struct Account;
    /// # impl Account {
    /// async fn login(self: Arc<Self>, session: Session, token: String) -> Result<u32> {
    ///     let user = self.verify(&token).await?;
    ///     session.login(&user).await?;
    ///     // The session before has saved its game by now.
    ///     self.load(&user).await
    /// }
    /// # async fn verify(&self, token: &str) -> Result<String> { Ok(token.to_owned()) }
    /// # async fn load(&self, user: &str) -> Result<u32> { Ok(0) }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`code::CONFLICT`] with [`Unique::Reject`](crate::Unique::Reject) while the user has another session,
    /// and when the session was bound to another user, or logged in as one, meanwhile;
    /// [`code::BAD_REQUEST`] for an illegal id, [`code::CLOSED`] when the session has ended,
    /// [`code::TIMEOUT`] or [`code::UNAVAILABLE`] when nothing could be decided, and
    /// [`code::UNSUPPORTED`] for a session at the gate of a basic member; the refusal of
    /// [`App::on_bind`](crate::App::on_bind). The session keeps the user it had.
    pub fn login(
        &self,
        user: impl Into<UserId>,
    ) -> Pin<Box<dyn Future<Output = Result<Login>> + Send>> {
        let (session, user) = (self.typed(), user.into());
        Box::pin(async move {
            if session.closed().is_some() {
                session.input_refused(RefusedInput::Closed);
                return Err(Error::new(code::CLOSED, "the session is closed"));
            }
            session.check_bind(&user)?;
            // A session of no node, as in unit tests, has no others beside it.
            if session.inner().table().is_none() {
                session.bind_checked(user);
                return Ok(Login::default());
            }
            let users = session.node()?.user_router();
            users.login(session, user).await
        })
    }
}
