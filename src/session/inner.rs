//! The part all handles of one session share.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicI64, Ordering},
};

use super::{
    bindings::Router, close_state::CloseState, data::Data, extensions::Extensions, pins::Pins,
    registry::Sessions, sequencer::Sequencer, sink::SessionSink,
};

pub(crate) struct SessionInner {
    pub(crate) id: i64,
    /// Whether the client is connected to another node.
    pub(crate) remote: bool,
    uid: AtomicI64,
    /// Takes pushes and responses: a connection of this node, or the link to its gate.
    pub(crate) sink: Arc<dyn SessionSink>,
    pub(crate) data: Data,
    pub(crate) extensions: Extensions,
    pub(crate) pins: Pins,
    pub(crate) router: Router,
    pub(crate) close_state: CloseState,
    pub(crate) sequencer: Sequencer,
    /// The node's table. Weak, because the table owns the session.
    sessions: Weak<Sessions>,
}

impl SessionInner {
    pub(super) fn new(
        id: i64,
        remote: bool,
        sink: Arc<dyn SessionSink>,
        sessions: Weak<Sessions>,
    ) -> Self {
        Self {
            id,
            remote,
            uid: AtomicI64::new(0),
            sink,
            data: Data::default(),
            extensions: Extensions::default(),
            pins: Pins::default(),
            router: Router::default(),
            close_state: CloseState::default(),
            sequencer: Sequencer::default(),
            sessions,
        }
    }

    pub(super) fn detached(id: i64, sink: Arc<dyn SessionSink>) -> Self {
        Self::new(id, false, sink, Weak::new())
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

    pub(crate) fn sessions(&self) -> Option<Arc<Sessions>> {
        self.sessions.upgrade()
    }

    /// For the table, which changes its index with the uid, and for sessions in no table.
    pub(super) fn swap_uid(&self, uid: i64) -> i64 {
        self.uid.swap(uid, Ordering::AcqRel)
    }
}
