//! What all handles of one session share.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicI64, Ordering},
};

use super::{
    data::Data, entity::Entity, lane::Lane, lifetime::Lifetime, registry::Sessions, router::Router,
};

pub(crate) struct Core {
    pub(crate) id: i64,
    /// Whether the client is another gate's.
    pub(crate) remote: bool,
    uid: AtomicI64,
    /// Where pushes and responses go. Apart from the session, so that a session need not be its
    /// connection.
    pub(crate) entity: Arc<dyn Entity>,
    pub(crate) data: Data,
    pub(crate) router: Router,
    pub(crate) lifetime: Lifetime,
    pub(crate) lane: Lane,
    /// The table that finds it by uid; weak, because the table owns the session.
    sessions: Weak<Sessions>,
}

impl Core {
    pub(super) fn new(
        id: i64,
        remote: bool,
        entity: Arc<dyn Entity>,
        sessions: Weak<Sessions>,
    ) -> Self {
        Self {
            id,
            remote,
            uid: AtomicI64::new(0),
            entity,
            data: Data::default(),
            router: Router::default(),
            lifetime: Lifetime::default(),
            lane: Lane::default(),
            sessions,
        }
    }

    pub(super) fn detached(id: i64, entity: Arc<dyn Entity>) -> Self {
        Self::new(id, false, entity, Weak::new())
    }

    pub(crate) fn uid(&self) -> i64 {
        self.uid.load(Ordering::Acquire)
    }

    /// Changes the uid on this node alone; 0 is none.
    pub(crate) fn rebind(&self, uid: i64) {
        match self.sessions.upgrade() {
            Some(sessions) => sessions.rebind(self, uid),
            None => {
                self.swap_uid(uid);
            }
        }
    }

    pub(super) fn sessions(&self) -> Option<Arc<Sessions>> {
        self.sessions.upgrade()
    }

    /// Only the table calls this while the session is in one, so that its index and the uid change
    /// together.
    pub(super) fn swap_uid(&self, uid: i64) -> i64 {
        self.uid.swap(uid, Ordering::AcqRel)
    }
}
