//! Sessions that move between gates.

use std::{collections::hash_map::Entry, sync::Arc};

use super::{
    handle::{Session, SessionInner, SessionSink},
    registry::Sessions,
    user_id::UserId,
};

impl Sessions {
    /// Opens the session of a client that comes from another gate, with the id it has there; `None`
    /// if there is one with this id.
    pub(crate) fn adopt(self: &Arc<Self>, id: i64, sink: Arc<dyn SessionSink>) -> Option<Session> {
        let table = Arc::<Self>::downgrade(self);
        let inner = Arc::new(SessionInner::new(id, false, sink, Some(table)));
        match self.table.write().local.entry(id) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(inner.clone()),
        };
        Some(Session::of(inner, 0))
    }

    /// Binds a session that comes from another gate, with its claim on the user.
    pub(crate) fn bind_adopted(&self, session: &Session, user: UserId, claim: u64) {
        if let Some(observer) = self.observer(session.inner()) {
            observer.on_adopted(session.id(), user.clone(), claim);
        }
        session.inner().rebind(Some(user));
    }

    /// The number of the session's claim on its user, 0 for none; `None` while it is not decided.
    pub(crate) fn claim(&self, session: &Session) -> Option<u64> {
        match self.observer(session.inner()) {
            Some(observer) => observer.claim(session.id()),
            None => Some(0),
        }
    }

    /// Ends a session that another gate has now: it leaves the table, and no callback runs.
    pub(crate) fn moved(&self, session: &Session) {
        self.discard(session);
        if let Some(observer) = self.observer(session.inner()) {
            observer.on_moved(session.id());
        }
    }
}
