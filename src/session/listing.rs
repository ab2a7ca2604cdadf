//! Which sessions and users a node has.

#[cfg(feature = "admin")]
use super::user_id::UserId;
use super::{handle::Session, registry::Sessions};

impl Sessions {
    /// The users that come after `after`, the lowest `limit` of them, sorted, with the ids of their
    /// sessions; and the number of all users.
    #[cfg(feature = "admin")]
    pub(crate) fn users(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> (Vec<(UserId, Vec<i64>)>, usize) {
        let table = self.table.read();
        let all = table.by_user.iter();
        let mut users: Vec<_> = all.filter(|(user, _)| Some(*user) > after).collect();
        if users.len() > limit && limit > 0 {
            users.select_nth_unstable_by_key(limit - 1, |(user, _)| *user);
            users.truncate(limit);
        }
        users.sort_unstable_by_key(|(user, _)| *user);
        let with_ids = users.into_iter().map(|(user, sessions)| {
            let ids = sessions.iter().map(|session| session.id).collect();
            (user.clone(), ids)
        });
        (with_ids.collect(), table.by_user.len())
    }

    /// How many users have a session on this node.
    #[cfg(feature = "admin")]
    pub(crate) fn user_count(&self) -> usize {
        self.table.read().by_user.len()
    }

    /// The sessions of this node's own clients, in no order.
    pub(crate) fn list_local(&self) -> Vec<Session> {
        self.table
            .read()
            .local
            .values()
            .map(|inner| Session::of(inner.clone(), 0))
            .collect()
    }

    /// The ids of the sessions of this node's own clients: without a look at the sessions, which lie all over the
    /// memory.
    pub(crate) fn local_ids(&self) -> Vec<i64> {
        self.table.read().local.keys().copied().collect()
    }
}
