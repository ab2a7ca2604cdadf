//! The sessions of a user, for pushes: nothing is allocated for a user with one session.

use tracing::debug;

use super::{
    handle::{Session, SessionInner},
    push::Push,
    registry::Sessions,
    user_id::UserId,
};

impl Sessions {
    /// The sessions that are bound to a user, of those that are `chosen`, which is called under the
    /// table's lock.
    pub(crate) fn of_user<Chosen: Fn(&SessionInner) -> bool>(
        &self,
        user: &UserId,
        chosen: Chosen,
    ) -> impl Iterator<Item = Session> + use<Chosen> {
        let (first, others) = {
            let table = self.table.read();
            let bound = table.by_user.get(user).into_iter().flatten();
            let mut bound = bound.filter(|inner| chosen(inner)).cloned();
            (bound.next(), bound.collect::<Vec<_>>())
        };
        let sessions = first.into_iter().chain(others);
        sessions.map(|inner| Session::of(inner, 0))
    }

    /// Pushes to the sessions of this node's own clients that are bound to a user and whose ids are
    /// `chosen`. Returns whether one has taken it.
    pub(crate) fn push_to_user(
        &self,
        user: &UserId,
        chosen: impl Fn(i64) -> bool,
        push: &Push<'_>,
    ) -> bool {
        let mut reached = false;
        for session in self.of_user(user, |inner| !inner.remote && chosen(inner.id)) {
            match session.sink().push(push) {
                Ok(()) => reached = true,
                Err(error) => {
                    debug!(user = user.logged(), route = push.route(), %error, "push to a user failed");
                }
            }
        }
        reached
    }
}
