//! What all handles of one session share.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicI64, Ordering},
};

use super::{data::Data, entity::Entity, lane::Lane, lifetime::Lifetime, registry::Sessions, router::Router};

pub(crate) struct Core {
    pub(crate) id: i64,
    uid: AtomicI64,
    /// Where pushes and responses go. Apart from the session, so that a session need not be its connection.
    pub(crate) entity: Arc<dyn Entity>,
    pub(crate) data: Data,
    pub(crate) router: Router,
    pub(crate) lifetime: Lifetime,
    pub(crate) lane: Lane,
    /// The table that finds it by uid; weak, because the table owns the session.
    sessions: Weak<Sessions>,
}

impl Core {
    pub(super) fn new(id: i64, entity: Arc<dyn Entity>, sessions: Weak<Sessions>) -> Self {
        Self {
            id,
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
        Self::new(id, entity, Weak::new())
    }

    pub(crate) fn uid(&self) -> i64 {
        self.uid.load(Ordering::Acquire)
    }

    pub(super) fn bind(&self, uid: i64) {
        self.move_to(uid);
    }

    pub(super) fn unbind(&self) {
        self.move_to(0);
    }

    fn move_to(&self, uid: i64) {
        match self.sessions.upgrade() {
            Some(sessions) => sessions.rebind(self, uid),
            None => {
                self.swap_uid(uid);
            }
        }
    }

    /// Only the table calls this while the session is in one, so that its index and the uid change together.
    pub(super) fn swap_uid(&self, uid: i64) -> i64 {
        self.uid.swap(uid, Ordering::AcqRel)
    }
}
